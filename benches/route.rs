//! Measures the parsing of the request line, which runs for every request.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::Method;
use registry::Route;

const HEX: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
const UPLOAD: &str = "8c2b4a51-0f3d-4f6e-9f0a-4f2c6a1f9a77";

/// Requests of container engines: pulls, pushes, and requests that are forwarded unchanged.
fn requests() -> Vec<(Method, String)> {
    vec![
        (Method::GET, "/v2/".into()),
        (Method::GET, "/v2/auth".into()),
        (Method::HEAD, "/v2/openshift/release/manifests/4.20".into()),
        (Method::GET, format!("/v2/openshift/release/manifests/sha256:{HEX}")),
        (Method::GET, format!("/v2/openshift/release/blobs/sha256:{HEX}")),
        (Method::GET, format!("/v2/busybox/blobs/sha256:{HEX}")),
        (Method::GET, format!("/v2/a/very/deep/repository/of_some/team.name/blobs/sha256:{HEX}")),
        (Method::HEAD, format!("/v2/org/app/blobs/sha256:{HEX}")),
        (Method::POST, "/v2/org/app/blobs/uploads/".into()),
        (Method::PATCH, format!("/v2/org/app/blobs/uploads/{UPLOAD}")),
        (Method::PUT, format!("/v2/org/app/blobs/uploads/{UPLOAD}")),
        (Method::PUT, "/v2/org/app/manifests/v1".into()),
        (Method::GET, "/v2/org/app/tags/list".into()),
        (Method::GET, format!("/v2/org/app/referrers/sha256:{HEX}")),
        (Method::GET, "/api/v1/repository/org/app".into()),
        (Method::GET, format!("/v2/org/app/blobs/sha512:{HEX}{HEX}")),
    ]
}

fn route(criterion: &mut Criterion) {
    let requests = requests();
    let mut group = criterion.benchmark_group("route");
    group.throughput(Throughput::Elements(requests.len() as u64));
    group.bench_function("mixed requests", |bencher| {
        bencher.iter(|| {
            for (method, path) in &requests {
                black_box(Route::parse(black_box(method), black_box(path)));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, route);
criterion_main!(benches);

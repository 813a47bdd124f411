//! Measures the signature (Version 4) of one GET, which every request to an S3 store needs.

mod bucket;

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use backends::Digest;
use backends::s3::Signer;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use reqwest::{Method, Request};

const URL: &str = "https://s3.eu-central-1.amazonaws.com/quay/datastorage/registry/sha256/2c/\
    2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

fn get(range: Option<&'static str>) -> Request {
    let mut request = Request::new(Method::GET, URL.parse().expect("a URL"));
    if let Some(range) = range {
        request.headers_mut().insert(http::header::RANGE, http::HeaderValue::from_static(range));
    }
    request
}

fn signing(criterion: &mut Criterion) {
    let signer = Signer::new(&bucket::config());
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let mut group = criterion.benchmark_group("signing");
    for (name, range) in [("GET", None), ("GET of a range", Some("bytes=1048576-"))] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || get(range),
                |mut request| {
                    signer.sign(&mut request, black_box(Digest::EMPTY), now).expect("signs");
                    request
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, signing);
criterion_main!(benches);

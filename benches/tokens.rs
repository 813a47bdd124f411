//! Measures the verification of a token: with its signature, and from memory. Each read of a blob does one of them.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use harness::quay::{Options, Quay};
use registry::bearer::{Form, KeyedHash, Rules, TokenVerifier};
use serde_json::json;

fn tokens(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let quay = Quay::start(Vec::new(), Options::default()).expect("a registry");
    let rules = || Rules {
        form: Form::Quay,
        issuer: "quay".into(),
        audience: quay.hostname().to_owned(),
        life_max: Duration::from_secs(3660),
    };
    let verifier = || {
        let verifier = TokenVerifier::new(rules(), KeyedHash::new().expect("random bytes"));
        verifier.take(quay.key_set().as_bytes(), tokio::time::Instant::now()).expect("a key set");
        verifier
    };
    let token = quay.token("admin", "admin/one", &["pull"], json!({})).expect("a token");
    let may_pull = |verifier: &TokenVerifier| {
        verifier.verified(black_box(&token)).is_ok_and(|verified| verified.grants().may_pull("admin/one"))
    };
    let mut group = criterion.benchmark_group("tokens");
    let warm = verifier();
    assert!(may_pull(&warm));
    group.bench_function("from memory", |bencher| bencher.iter(|| may_pull(&warm)));
    group.bench_function("with the signature", |bencher| {
        bencher.iter_batched(verifier, |cold| may_pull(&cold), criterion::BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, tokens);
criterion_main!(benches);

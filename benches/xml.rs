//! Measures XML of S3: pages of listings, errors, and the list of parts that completes an upload.

mod bucket;

use std::fmt::Write as _;
use std::hint::black_box;

use backends::Digest;
use backends::s3::bench;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// S3's maximum number of names per page.
const PAGE: usize = 1000;

/// S3's maximum number of parts.
const PARTS: usize = 10_000;

/// RadosGW's answer for a missing key.
const ERROR: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>NoSuchKey</Code>\
    <Message></Message><BucketName>quay</BucketName>\
    <RequestId>tx000003d616661958c8096-006b06694d-100a-default</RequestId>\
    <HostId>100a-default-default</HostId></Error>";

/// The answer of a load balancer in front of a store.
const NO_XML: &[u8] = b"<html><body><h1>503 Service Unavailable</h1>\n\
    No server is available to handle this request.\n</body></html>\n";

/// A full page of blobs with all the details that Amazon returns, and a token for the next page.
fn page() -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>quay</Name>\
         <Prefix>datastorage/registry/sha256/</Prefix><NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYL\
         </NextContinuationToken><KeyCount>1000</KeyCount><MaxKeys>1000</MaxKeys>\
         <IsTruncated>true</IsTruncated>",
    );
    for index in 0..PAGE {
        let hex = Digest::of(&index.to_be_bytes()).hex();
        write!(
            text,
            "<Contents><Key>datastorage/registry/sha256/{}/{hex}</Key>\
             <LastModified>2026-10-12T17:50:30.000Z</LastModified>\
             <ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><Size>{}</Size>\
             <StorageClass>STANDARD</StorageClass></Contents>",
            &hex[..2],
            index * 4321,
        )
        .expect("into memory");
    }
    text.push_str("</ListBucketResult>");
    text
}

fn xml(criterion: &mut Criterion) {
    let (config, page) = (bucket::config(), page());
    assert_eq!(bench::page(&config, page.as_bytes()).expect("a page").len(), PAGE);
    assert_eq!(bench::failure(ERROR).as_deref(), Some("NoSuchKey"));
    assert_eq!(bench::failure(NO_XML), None);
    let etags: Vec<String> = (0..PARTS).map(|part| format!("\"{part:032x}\"")).collect();

    let mut group = criterion.benchmark_group("xml");
    group.bench_function("an error", |bencher| bencher.iter(|| bench::failure(black_box(ERROR))));
    group.bench_function("no XML", |bencher| bencher.iter(|| bench::failure(black_box(NO_XML))));
    group.throughput(Throughput::Elements(PAGE as u64));
    group.bench_function("a page of 1000 names", |bencher| {
        bencher.iter(|| bench::page(&config, black_box(page.as_bytes())).expect("a page"));
    });
    group.throughput(Throughput::Elements(PARTS as u64));
    group.bench_function("a list of 10000 parts", |bencher| {
        bencher.iter(|| bench::completion(black_box(&etags)));
    });
    group.finish();
}

criterion_group!(benches, xml);
criterion_main!(benches);

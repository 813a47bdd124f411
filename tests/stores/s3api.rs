//! Swift's own S3 interface. It is the strictest server: it checks the region and every digest.

use real_servers::{PATIENT, Swift, SwiftOptions};

use crate::checks::is_denied;
use crate::transfers::survives;
use crate::{build, s3};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3api() {
    let options = SwiftOptions { region: "eu-central-9", ..SwiftOptions::default() };
    let mut server = Swift::with_own_users("container", options).await.expect("Swift starts");
    let bucket = server.bucket("conformance").await.expect("a bucket");
    s3::conforms(&bucket).await.expect("conforms");
    s3::denies_wrong_keys(&bucket).await.expect("wrong keys are denied");
    let missing = build(s3::with(&bucket, "bucket_name", "missing"), PATIENT).expect("builds");
    is_denied("no bucket", &*missing).await.expect("a missing bucket is an error");
    s3::agrees_with_boto(&bucket).await.expect("agrees with boto3");
    survives(&s3::entry(&bucket), &mut server.process).await.expect("survives");
}

//! SeaweedFS.

use real_servers::{PATIENT, SeaweedFs};

use crate::checks::reads_are_denied;
use crate::transfers::survives;
use crate::{build, s3};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seaweedfs() {
    let mut server = SeaweedFs::start("conformance").await.expect("SeaweedFS starts");
    let bucket = server.bucket.clone();
    s3::conforms(&bucket).await.expect("conforms");
    s3::denies_wrong_keys(&bucket).await.expect("wrong keys are denied");
    // A put would create the bucket in SeaweedFS.
    let missing = build(s3::with(&bucket, "bucket_name", "missing"), PATIENT).expect("builds");
    reads_are_denied("no bucket", &*missing).await.expect("a missing bucket is an error");
    s3::agrees_with_boto(&bucket).await.expect("agrees with boto3");
    survives(&s3::entry(&bucket), &mut server.process).await.expect("survives");
}

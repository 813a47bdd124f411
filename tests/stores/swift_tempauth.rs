//! OpenStack Swift with its own users and protocol v1.

use real_servers::{Swift, SwiftOptions};

use crate::swift;
use crate::transfers::survives;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swift_tempauth() {
    let mut server =
        Swift::with_own_users("conformance", SwiftOptions::default()).await.expect("Swift starts");
    let container = server.container.clone();
    swift::conforms(&container).await.expect("conforms");
    let store = swift::in_segments(&container).expect("builds");
    swift::writes_as_quay(&container, &store, swift::SEGMENT).await.expect("writes as Quay");
    swift::denies_unknown_users(&container).await.expect("the unknown are denied");
    swift::agrees_with_swiftclient(&container).await.expect("agrees with python-swiftclient");
    swift::reads_with_temporary_urls(&container).await.expect("gives by temporary URLs");
    survives(&swift::entry(&container), &mut server.process).await.expect("survives");
}

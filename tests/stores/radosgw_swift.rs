//! Ceph's RADOS gateway with its Swift interface (protocol v1).

use real_servers::RadosGw;

use crate::swift;
use crate::transfers::survives;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn radosgw_swift() {
    let mut server = RadosGw::start("other").await.expect("RadosGW starts");
    let container = server.container("conformance").await.expect("a container");
    swift::conforms(&container).await.expect("conforms");
    let store = swift::in_segments(&container).expect("builds");
    swift::writes_as_quay(&container, &store, swift::SEGMENT).await.expect("writes as Quay");
    swift::denies_unknown_users(&container).await.expect("the unknown are denied");
    swift::agrees_with_swiftclient(&container).await.expect("agrees with python-swiftclient");
    swift::reads_with_temporary_urls(&container).await.expect("gives by temporary URLs");
    survives(&swift::entry(&container), &mut server.process).await.expect("survives");
}

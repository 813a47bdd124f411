//! The metadata services of clouds, which give credentials to everybody who asks from the same machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Their host names.
const NAMES: [&str; 7] = [
    "instance-data",
    "instance-data.ec2.internal",
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "metadata.packet.net",
    "metadata.tencentyun.com",
];

/// IPv4 addresses that are not link-local: Alibaba's, Oracle's and Azure's.
const V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];

/// IPv6 addresses: Amazon's for instances and for containers, Google's and Oracle's.
const V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];

/// Whether a host name, in lower case and without a final dot, is that of a metadata service.
#[must_use]
pub fn is_metadata_name(host: &str) -> bool {
    NAMES.contains(&host)
}

/// Whether an address is link-local, or that of a metadata service.
#[must_use]
pub fn is_metadata_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || V4.contains(&address),
        IpAddr::V6(address) => address.is_unicast_link_local() || V6.contains(&address),
    }
}

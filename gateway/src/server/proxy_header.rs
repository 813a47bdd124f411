//! The header with which a proxy names its client: the PROXY protocol, version 2
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::net::{IpAddr, SocketAddr};

use ppp::v2::{Addresses, Command, Header, ParseError};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The fixed part of a header, in bytes.
const FIXED: usize = 16;

/// The most bytes of a whole header. Addresses take at most 216 bytes. Some proxies add more fields, such as the
/// identifier of a cloud's endpoint or a client's certificate.
const HEADER_MAX: usize = 4096;

/// Why a connection of a proxy is closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoHeader {
    #[error("it sent no PROXY protocol header of version 2: {0}")]
    Malformed(#[from] ParseError),
    #[error("its PROXY protocol header has {0} bytes, the most are {HEADER_MAX}")]
    TooLong(usize),
    #[error("its PROXY protocol header names no client that uses TCP over IP")]
    NoAddress,
    #[error("its PROXY protocol header did not arrive in time")]
    Late,
    #[error("too many connections wait for their PROXY protocol header, and this one waited longest")]
    TooMany,
    #[error(transparent)]
    Broken(#[from] std::io::Error),
}

/// Reads the header, and no byte that follows it. Returns the client, or `None` if the proxy speaks for itself, for
/// example to check whether the gateway is alive.
///
/// # Errors
/// The header is not valid or too long, or the connection ended. The caller limits the time.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, NoHeader> {
    let mut header = vec![0; FIXED];
    stream.read_exact(&mut header).await?;
    let rest = match Header::try_from(&*header) {
        Ok(_) => 0,
        Err(ParseError::Partial(_, rest)) => rest,
        Err(error) => return Err(error.into()),
    };
    if FIXED + rest > HEADER_MAX {
        return Err(NoHeader::TooLong(FIXED + rest));
    }
    header.resize(FIXED + rest, 0);
    stream.read_exact(&mut header[FIXED..]).await?;
    let header = Header::try_from(&*header)?;
    match (header.command, header.addresses) {
        // A proxy whose client does not use TCP sends no address. The proxy's own is used then.
        (Command::Local, _) | (Command::Proxy, Addresses::Unspecified) => Ok(None),
        (Command::Proxy, Addresses::IPv4(tcp)) => Ok(Some((tcp.source_address, tcp.source_port).into())),
        (Command::Proxy, Addresses::IPv6(tcp)) => {
            // The address may be an IPv4 one.
            let address = IpAddr::V6(tcp.source_address).to_canonical();
            Ok(Some((address, tcp.source_port).into()))
        }
        (Command::Proxy, Addresses::Unix(_)) => Err(NoHeader::NoAddress),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [SIGNATURE, &[0x20 | command, family], &length, rest].concat()
    }

    /// Reads the header from these bytes. Also returns the bytes that are left.
    fn read_all(mut bytes: &[u8]) -> (Result<Option<SocketAddr>, NoHeader>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let read = runtime.block_on(read(&mut bytes));
        (read, bytes.len())
    }

    #[test]
    fn other_families() {
        for (command, family, bytes) in [(0, 0x11, 12), (0, 0, 0), (1, 0, 0), (1, 0, 7)] {
            let read = read_all(&header(command, family, &vec![1; bytes]));
            assert!(matches!(read, (Ok(None), 0)), "{read:?}");
        }
        let unix = read_all(&header(1, 0x31, &[b'a'; 216]));
        assert!(matches!(unix, (Err(NoHeader::NoAddress), 0)), "{unix:?}");
    }

    #[test]
    fn a_mapped_address_is_an_ipv4_address() {
        let mapped = Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets();
        let addresses = [&mapped[..], &[0; 16], &[0, 80, 1, 187]].concat();
        let read = read_all(&header(1, 0x21, &addresses)).0.expect("a header");
        assert_eq!(read, Some("192.0.2.7:80".parse().expect("an address")));
    }

    #[test]
    fn what_is_no_header() {
        for bytes in [&b""[..], SIGNATURE, b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n", &[0x16; 600]] {
            assert!(read_all(bytes).0.is_err(), "{bytes:?}");
        }
        let short = read_all(&header(1, 0x11, &[1; 11]));
        assert!(
            matches!(short.0, Err(NoHeader::Malformed(ParseError::InvalidAddresses(11, 12)))),
            "{short:?}"
        );
        let long = read_all(&header(1, 0x11, &vec![1; HEADER_MAX - FIXED + 1]));
        assert!(matches!(long.0, Err(NoHeader::TooLong(4097))), "{long:?}");
    }

    proptest! {
        #[test]
        fn the_client_is_read_and_no_byte_beyond(
            v4: [u8; 4], v6: [u8; 16], port: u16, fields in prop::collection::vec(any::<u8>(), 0..2000), rest in 0..50_usize,
        ) {
            let ports = [port.to_be_bytes(), [1, 187]].concat();
            let tcp4 = [&v4[..], &[10, 0, 0, 1], &ports, &fields].concat();
            let tcp6 = [&v6[..], &[0; 16], &ports, &fields].concat();
            let expected = [IpAddr::from(v4), IpAddr::from(v6).to_canonical()].map(|ip| SocketAddr::from((ip, port)));
            for ((family, addresses), client) in [(0x11, tcp4), (0x21, tcp6)].into_iter().zip(expected) {
                let bytes = [header(1, family, &addresses), vec![7; rest]].concat();
                let (read, left) = read_all(&bytes);
                prop_assert_eq!((read.expect("a header"), left), (Some(client), rest));
            }
        }

        #[test]
        fn never_panics(start in 0..SIGNATURE.len() + 1, bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read_all(&[&SIGNATURE[..start], &bytes].concat());
        }
    }
}

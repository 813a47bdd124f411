//! An HTTP proxy (`CONNECT`) that leads everything to one address.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// The most bytes of the head of a request.
const HEAD_MAX: usize = 8 << 10;

/// The running proxy. Dropping it stops it.
pub(crate) struct ConnectProxy {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl ConnectProxy {
    pub(crate) async fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // An error means that one side has left.
                tokio::spawn(async move { tunnel(stream, to).await.ok() });
            }
        });
        Ok(Self { address, _task: AbortOnDropHandle::new(task) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn tunnel(mut client: TcpStream, to: SocketAddr) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        anyhow::ensure!(head.len() < HEAD_MAX, "the head is too long");
        head.push(client.read_u8().await?);
    }
    anyhow::ensure!(head.starts_with(b"CONNECT "), "no CONNECT");
    let mut server = TcpStream::connect(to).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

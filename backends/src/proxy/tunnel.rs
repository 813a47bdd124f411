//! A connection through a proxy, by the method `CONNECT` (RFC 9110, section 9.3.6).

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::{Proxy, ProxyFault};
use crate::dial::shun;
use crate::user_agent::user_agent;

/// The most bytes of the proxy's answer to `CONNECT`. hyper takes no less.
const ANSWER_MAX: usize = 8192;

/// A connection in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Opens a tunnel to a host and port through `proxy`, over the connection `tcp` to the proxy. `tls` is for the
/// connection to the proxy itself, if the proxy speaks TLS. The caller must set a timeout.
///
/// # Errors
/// A [`ProxyFault`], or the error of the connection to the proxy.
pub async fn tunnel(
    tcp: TcpStream,
    proxy: &Proxy,
    (host, port): (&str, u16),
    tls: &Arc<rustls::ClientConfig>,
) -> io::Result<Box<dyn Duplex>> {
    let peer = tcp.peer_addr();
    let opened = if proxy.is_tls() {
        let name = ServerName::try_from(proxy.host().to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut tls = (**tls).clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        match TlsConnector::from(Arc::new(tls)).connect(name, tcp).await {
            Ok(stream) => connect(stream, proxy, host, port).await,
            Err(error) => {
                if let Ok(peer) = peer {
                    // Another address of the same name may work.
                    shun(proxy.host(), proxy.port(), peer.ip());
                }
                let why = format!("{}: {error}", ProxyFault::Unreachable(proxy.to_string()));
                return Err(io::Error::new(error.kind(), why));
            }
        }
    } else {
        connect(tcp, proxy, host, port).await
    };
    opened.map_err(|error| match error {
        Refused::Fault(fault) => io::Error::other(fault),
        Refused::Broken(error) => {
            io::Error::other(format!("{}: {error}", ProxyFault::Behind(proxy.to_string())))
        }
    })
}

enum Refused {
    Fault(ProxyFault),
    Broken(hyper::Error),
}

async fn connect(
    stream: impl Duplex + 'static,
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> Result<Box<dyn Duplex>, Refused> {
    let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let no_tunnel = |status: Option<StatusCode>| {
        let (proxy, host) = (proxy.to_string(), target.clone());
        Refused::Fault(ProxyFault::NoTunnel { proxy, host, status: status.map(|status| status.as_u16()) })
    };
    let mut request = Request::builder().method(Method::CONNECT).uri(&*target).header(HOST, &*target);
    request = request.header(USER_AGENT, user_agent());
    if let Some(value) = proxy.authorization() {
        request = request.header(PROXY_AUTHORIZATION, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| no_tunnel(None))?;
    let mut client = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) =
        client.max_buf_size(ANSWER_MAX).handshake(TokioIo::new(stream)).await.map_err(Refused::Broken)?;
    // hyper hands the connection over with the tunnel. Whatever else happens, the connection ends here.
    let _driver = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
    let answer = sender.send_request(request).await.map_err(Refused::Broken)?;
    match answer.status() {
        status if status.is_success() => {
            let upgraded = hyper::upgrade::on(answer).await.map_err(Refused::Broken)?;
            Ok(Box::new(TokioIo::new(upgraded)))
        }
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            Err(Refused::Fault(ProxyFault::Credentials(proxy.to_string())))
        }
        status => Err(no_tunnel(Some(status))),
    }
}

impl Debug for dyn Duplex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Duplex")
    }
}

//! Selects a host of a database and its address, and connects to it.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, Socket};

use super::database::PORT;

/// How long to wait for the result which hosts can be reached.
const REACH_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects to the first host that accepts the connection, as libpq does. Unlike libpq, hosts that can be reached
/// are tried first, and of several addresses the one that answers first is used, so that a host or an address
/// that does not answer does not use up the time.
pub(super) async fn connect<T>(
    config: &Config,
    tls: &T,
) -> Result<(Client, Connection<Socket, T::Stream>), Error>
where
    T: MakeTlsConnect<Socket> + Clone,
{
    // If addresses are configured, they are used as they are.
    if !config.get_hostaddrs().is_empty() {
        return config.connect(tls.clone()).await;
    }
    let hosts = config.get_hosts();
    let reached = hosts.iter().enumerate().map(|(at, host)| reach(host, port(config, at), hosts.len() > 1));
    let found = join_all(reached).await;
    let mut order: Vec<usize> = (0..hosts.len()).collect();
    order.sort_by_key(|at| found[*at].is_none());
    let mut last = None;
    for at in order {
        let only = with_host(config, &hosts[at], port(config, at), found[at].flatten());
        match only.connect(tls.clone()).await {
            Ok(connected) => return Ok(connected),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error),
        // Without a host, this returns the error that says so.
        None => config.connect(tls.clone()).await,
    }
}

/// The address of a host that answers first; `None` if none answers, `Some(None)` for a Unix socket. With `others`,
/// the host must accept a connection even if it has only one address.
async fn reach(host: &Host, port: u16, others: bool) -> Option<Option<IpAddr>> {
    let Host::Tcp(name) = host else { return Some(None) };
    let found = async {
        match others {
            true => backends::dial(name, port).await?.peer_addr().map(|address| address.ip()),
            false => backends::reachable(name, port).await,
        }
    };
    timeout(REACH_TIMEOUT, found).await.ok()?.ok().map(Some)
}

fn port(config: &Config, at: usize) -> u16 {
    match config.get_ports() {
        [] => PORT,
        [one] => *one,
        several => several.get(at).copied().unwrap_or(PORT),
    }
}

/// The same configuration with only this host.
fn with_host(config: &Config, host: &Host, port: u16, address: Option<IpAddr>) -> Config {
    let mut only = Config::new();
    match host {
        Host::Tcp(name) => only.host(name),
        Host::Unix(folder) => only.host_path(folder),
    };
    if let Some(address) = address {
        only.hostaddr(address);
    }
    if let Some(user) = config.get_user() {
        only.user(user);
    }
    if let Some(password) = config.get_password() {
        only.password(password);
    }
    if let Some(name) = config.get_dbname() {
        only.dbname(name);
    }
    if let Some(options) = config.get_options() {
        only.options(options);
    }
    if let Some(name) = config.get_application_name() {
        only.application_name(name);
    }
    if let Some(bound) = config.get_connect_timeout() {
        only.connect_timeout(*bound);
    }
    if let Some(bound) = config.get_tcp_user_timeout() {
        only.tcp_user_timeout(*bound);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        only.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        only.keepalives_retries(retries);
    }
    only.port(port)
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding());
    only
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_keeps_all_other_settings() {
        let given = "postgres://u:p%40@a:1,b:2,%2Frun:3/d?application_name=x&options=-cx%3Dy&connect_timeout=3\
                     &tcp_user_timeout=7&keepalives_idle=9&keepalives_interval=5&keepalives_retries=2\
                     &target_session_attrs=read-write&channel_binding=require&sslmode=require";
        let config: Config = given.parse().expect("a URL");
        for (at, host) in config.get_hosts().iter().enumerate() {
            let address = matches!(host, Host::Tcp(_)).then(|| IpAddr::from([192, 0, 2, 1]));
            let only = with_host(&config, host, port(&config, at), address);
            // All settings but the hosts.
            let shown = |config: &Config| {
                let text = format!("{config:?}");
                let (front, rest) = text.split_once(", host: ").expect("hosts");
                (front.to_owned(), rest.split_once(", connect_timeout: ").expect("the rest").1.to_owned())
            };
            assert_eq!(shown(&only), shown(&config));
            assert_eq!((only.get_hosts(), only.get_ports()), (&[host.clone()][..], &[at as u16 + 1][..]));
            assert_eq!(only.get_password(), Some(&b"p@"[..]));
        }
    }
}

use aws_credentials::Http as _;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{Timeouts, Transport};

fn proxy(url: &str) -> Proxy {
    Proxy::parse(&Secret::new(url)).expect(url)
}

fn rules(no_proxy: &[&str]) -> ProxyRules {
    let proxy = Some(Arc::new(proxy("http://proxy.example.com:3128")));
    ProxyRules { http: proxy.clone(), https: proxy, no_proxy: NoProxy::parse(no_proxy).expect("entries") }
}

/// Whether the gateway connects by itself.
fn is_direct(no_proxy: &[&str], url: &str) -> bool {
    rules(no_proxy).of(&url.parse().expect(url)).is_none()
}

/// The cases of Go's `httpproxy` tests, and those of curl where both agree.
#[test]
fn no_proxy_names_what_it_names_in_go() {
    for (entry, url, direct) in [
        ("example.com", "https://example.com/", true),
        ("example.com", "https://store.example.com/", true),
        ("EXAMPLE.com", "https://Store.Example.COM./", true),
        ("example.com", "https://notexample.com/", false),
        ("example.com", "https://example.com.evil.net/", false),
        (".example.com", "https://store.example.com/", true),
        (".example.com", "https://example.com/", false),
        ("*.example.com", "https://a.b.example.com/", true),
        ("*.example.com", "https://example.com/", false),
        ("example.com:443", "https://example.com/", true),
        ("example.com:443", "http://example.com/", false),
        ("example.com:9000", "http://a.example.com:9000/", true),
        ("192.0.2.7", "http://192.0.2.7:9000/", true),
        ("192.0.2.7:9000", "http://192.0.2.7:9000/", true),
        ("192.0.2.7:9000", "http://192.0.2.7/", false),
        ("192.0.2.0/24", "https://192.0.2.200/", true),
        ("192.0.2.9/24", "https://192.0.2.200/", true),
        ("192.0.2.0/24", "https://192.0.3.1/", false),
        ("192.0.2.0/24", "https://store.example.com/", false),
        ("2001:db8::/32", "https://[2001:db8::7]/", true),
        ("2001:db8::7", "https://[2001:db8::7]:9000/", true),
        ("[2001:db8::7]:9000", "https://[2001:db8::7]:9000/", true),
        ("[2001:db8::7]:9000", "https://[2001:db8::7]/", false),
        ("192.0.2.7", "https://[::ffff:192.0.2.7]/", true),
        ("bücher.example", "https://xn--bcher-kva.example/", true),
        ("*", "https://example.com/", true),
        ("*", "https://192.0.2.7/", true),
    ] {
        assert_eq!(is_direct(&[entry], url), direct, "{entry} {url}");
        assert_eq!(is_direct(&["elsewhere.test", entry], url), direct, "{entry} {url}");
    }
}

#[test]
fn what_is_near_never_goes_through_a_proxy() {
    for url in [
        "http://localhost:8080/",
        "http://LOCALHOST./",
        "http://db.localhost/",
        "https://127.0.0.1/",
        "https://127.9.9.9/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/",
        "http://169.254.170.2/",
        "http://[fd00:ec2::254]/",
        "http://168.63.129.16/",
        "http://metadata.google.internal/",
        "http://[fe80::1]/",
    ] {
        assert!(is_direct(&[], url), "{url}");
    }
    for url in
        ["https://store.example.com/", "http://192.0.2.7/", "http://10.0.0.1/", "http://localhost.corp/"]
    {
        assert!(!is_direct(&[], url), "{url}");
    }
    assert!(ProxyRules::default().of(&"https://a.test/".parse().expect("a URL")).is_none());
}

#[test]
fn entries_that_name_no_host_are_refused() {
    for entry in [
        "",
        "https://example.com",
        "example.com/path",
        "a.*.example.com",
        "*example.com",
        "a:b",
        "a:70000",
        "10.0.0.0/99",
    ] {
        assert!(NoProxy::parse([entry]).is_err(), "{entry}");
    }
    let lenient = NoProxy::from_variable(" example.com , ,*.svc,10.0.0.0/99,192.0.2.0/24,::1:2");
    assert_eq!(lenient.to_string(), "example.com, .svc, 192.0.2.0/24, ::1:2");
    let many = vec!["a.test"; 1025];
    assert_eq!(NoProxy::parse(many), Err(NoProxyError::TooMany));
    // It may be a secret that was written in the wrong place.
    assert!(
        NoProxy::parse(["a.test", "hunter2/x"])
            .expect_err("refused")
            .to_string()
            .starts_with("entry 2 is not")
    );
}

proptest! {
    /// What is shown says the same as what was read.
    #[test]
    fn the_text_of_the_entries_can_be_read_again(
        name in "[a-z]{1,8}(\\.[a-z]{1,8}){0,2}",
        dot in proptest::bool::ANY,
        port in proptest::option::of(1u16..),
    ) {
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        let entry = format!("{}{name}{port}", if dot { "." } else { "" });
        let parsed = NoProxy::parse([&entry]).expect("valid");
        prop_assert_eq!(parsed.to_string(), entry);
    }
}

#[test]
fn credentials_are_never_printed() {
    let from_url = proxy("http://user:hunter%402@proxy.example.com:3128");
    assert_eq!(from_url.authorization().expect("there"), "Basic dXNlcjpodW50ZXJAMg==");
    let from_file = proxy("http://proxy.example.com:3128")
        .with_credentials(&Secret::new("user:hunter@2"))
        .expect("valid");
    assert_eq!(from_file.authorization(), from_url.authorization());
    assert_eq!(from_file.full_url().as_str(), "http://user:hunter%402@proxy.example.com:3128/");
    for shown in [from_url.to_string(), format!("{from_url:?} {from_file:?}"), from_url.url().to_string()] {
        assert!(shown.contains("proxy.example.com:3128") && !shown.contains("hunter"), "{shown}");
        assert!(!shown.contains("user"), "{shown}");
    }
    for wrong in [
        "",
        "hunter2",
        "hunter2:3128",
        "socks5://hunter2@h",
        "http://",
        "http://h/hunter2",
        "http://h?hunter2",
        "http://a b",
    ] {
        let error = Proxy::parse(&Secret::new(wrong)).expect_err(wrong).to_string();
        assert!(!error.contains("hunter"), "{error}");
    }
    assert!(proxy("http://h").with_credentials(&Secret::new("hunter2")).is_err());
    assert_eq!((proxy("https://h").port(), proxy("http://[::1]:3128").host()), (443, "::1"));
}

/// A proxy that gives this answer to `CONNECT`. Returns what it was asked.
async fn answers(answer: &'static str) -> (Proxy, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let proxy = proxy(&format!("http://user:hunter2@{address}"));
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut read).await.expect("reads"), 0);
        }
        stream.write_all(answer.as_bytes()).await.expect("writes");
        if answer.contains("200") {
            let mut byte = [0];
            stream.read_exact(&mut byte).await.expect("a byte through the tunnel");
            stream.write_all(&byte).await.expect("writes");
        }
        String::from_utf8(read).expect("text")
    });
    (proxy, asked)
}

fn tls() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let roots = rustls::RootCertStore::empty();
    Arc::new(tls.expect("versions").with_root_certificates(roots).with_no_client_auth())
}

#[tokio::test]
async fn a_tunnel_passes_bytes_and_the_login() {
    let (proxy, asked) = answers("HTTP/1.1 200 Connection established\r\n\r\n").await;
    let tcp = TcpStream::connect((proxy.host(), proxy.port())).await.expect("connects");
    let mut opened = tunnel(tcp, &proxy, ("2001:db8::7", 443), &tls()).await.expect("a tunnel");
    opened.write_all(b"x").await.expect("writes");
    let mut byte = [0];
    opened.read_exact(&mut byte).await.expect("reads");
    assert_eq!(&byte, b"x");
    let asked = asked.await.expect("asked").to_lowercase();
    assert!(asked.starts_with("connect [2001:db8::7]:443 http/1.1\r\n"), "{asked}");
    assert!(
        asked.contains("host: [2001:db8::7]:443\r\n") && asked.contains("proxy-authorization: basic "),
        "{asked}"
    );
}

#[tokio::test]
async fn a_refusal_names_the_proxy_and_what_to_do() {
    for (answer, expected) in [
        (
            "HTTP/1.1 407 Login\r\ncontent-length: 0\r\n\r\n",
            "refuses the gateway's credentials (407): correct `proxy.",
        ),
        (
            "HTTP/1.1 403 No\r\ncontent-length: 9\r\n\r\n",
            "opens no connection to quay.test:443 (it answers 403): allow",
        ),
        ("HTTP/1.1 503 Dead\r\n\r\n", "quay.test:443 (it answers 503)"),
        ("SSH-2.0-hunter2\r\n", "through the proxy http://"),
    ] {
        let (proxy, asked) = answers(answer).await;
        let tcp = TcpStream::connect((proxy.host(), proxy.port())).await.expect("connects");
        let refused = tunnel(tcp, &proxy, ("quay.test", 443), &tls()).await.expect_err(answer).to_string();
        assert!(refused.contains(expected) && refused.contains(&proxy.to_string()), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
        asked.await.expect("asked");
    }
}

/// A client of a store says of each failure whether it is the proxy's. The texts come from reqwest, so this fails if a new
/// version of it says them in other words.
#[tokio::test]
async fn a_store_behind_a_proxy_that_fails_is_not_blamed() {
    let asked = async |proxy: Proxy, url: &str| {
        let proxy = Some(Arc::new(proxy));
        let proxies =
            Arc::new(ProxyRules { http: proxy.clone(), https: proxy, no_proxy: NoProxy::default() });
        let transport = Transport { proxies, ..Transport::new(tls(), Timeouts::default()) };
        let request = reqwest::Request::new(http::Method::GET, url.parse().expect("a URL"));
        let client = transport.client().expect("a client");
        client.send("get", request, transport.timeouts.first_byte).await.expect_err(url).to_string()
    };
    for (answer, url, expected) in [
        ("HTTP/1.1 407 Login\r\n\r\n", "https://store.test/", "refuses the gateway's credentials (407)"),
        ("HTTP/1.1 403 No\r\n\r\n", "https://store.test/", "opens no connection to store.test: allow"),
        ("HTTP/1.1 407 Login\r\n\r\n", "http://store.test/", "refuses the gateway's credentials (407)"),
        (
            "HTTP/1.1 502 Bad\r\nProxy-Status: p; error=dns_error\r\n\r\n",
            "http://store.test/",
            "opens no connection to store.test (it answers 502)",
        ),
    ] {
        let (proxy, _at_proxy) = answers(answer).await;
        let error = asked(proxy, url).await;
        assert!(error.starts_with("get: the proxy http://127.0.0.1:"), "{error}");
        assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
    }
    let port =
        TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port();
    for url in ["https://store.test/", "http://store.test/"] {
        let gone = proxy(&format!("http://127.0.0.1:{port}"));
        let error = asked(gone, url).await;
        assert!(
            error.starts_with(&format!("get: the proxy http://127.0.0.1:{port} cannot be reached")),
            "{error}"
        );
    }
}

/// A metadata service may be configured at any address. A proxy would give the credentials of its own machine.
#[tokio::test]
async fn a_service_of_this_machine_is_never_asked_through_a_proxy() {
    let (proxy, at_proxy) = answers("HTTP/1.1 407 Login\r\n\r\n").await;
    let proxies = Arc::new(ProxyRules { http: Some(Arc::new(proxy)), ..ProxyRules::default() });
    let transport = Transport { proxies, ..Transport::new(tls(), Timeouts::default()) };
    let client = transport.credentials_client().expect("a client");
    let request = || {
        // An address that rules would send through the proxy, and where nothing listens.
        let url = "http://0.0.0.0:1/latest/api/token".parse().expect("a URL");
        reqwest::Request::new(http::Method::GET, url)
    };
    let bound = transport.timeouts.first_byte;
    let near = client.send_near("ask the instance", request(), bound).await.expect_err("nothing listens");
    assert!(!near.to_string().contains("the proxy") && !at_proxy.is_finished(), "{near}");
    let any = client.send("assume the role", request(), bound).await.expect_err("refused");
    assert!(any.to_string().contains("the proxy"), "{any}");
}

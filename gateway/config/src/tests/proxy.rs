//! `proxy`: off unless configured, from keys or from the environment.

use super::*;

fn with(proxy: &str) -> String {
    format!("{GATEWAY}proxy: {proxy}\n")
}

/// The proxy for a URL.
fn through(settings: &Settings, url: &str) -> Option<String> {
    settings.proxies.of(&url.parse().expect("a URL")).map(ToString::to_string)
}

const ENVIRONMENT: [(&str, &str); 5] = [
    ("HTTP_PROXY", "plain.example.com:3128"),
    ("https_proxy", "http://user:hunter2@secure.example.com:3129"),
    ("HTTPS_PROXY", ""),
    ("NO_PROXY", ".svc, 10.0.0.0/8,example.com"),
    ("no_proxy", "*"),
];

#[test]
fn the_environment_counts_only_if_the_file_says_so() {
    assert!(loaded(GATEWAY, &ENVIRONMENT).proxies.is_empty());
    assert!(loaded(&with("{from_environment: false}"), &ENVIRONMENT).proxies.is_empty());
    let settings = loaded(&with("{from_environment: true}"), &ENVIRONMENT);
    assert_eq!(through(&settings, "http://a.test/").as_deref(), Some("http://plain.example.com:3128"));
    assert_eq!(through(&settings, "https://a.test/").as_deref(), Some("http://secure.example.com:3129"));
    for direct in
        ["https://quay.quay.svc/", "https://10.1.2.3/", "https://s3.example.com/", "http://127.0.0.1/"]
    {
        assert_eq!(through(&settings, direct), None, "{direct}");
    }
    let printed = crate::Summary::of(&settings).to_string();
    for line in [
        "proxy for http          http://plain.example.com:3128",
        "proxy for https         http://secure.example.com:3129, with credentials",
        "no proxy for            .svc, 10.0.0.0/8, example.com",
    ] {
        assert!(printed.contains(line) && !printed.contains("hunter2"), "{line} in {printed}");
    }
    let variable = [("QUAY_GATEWAY__PROXY__FROM_ENVIRONMENT", "true"), ENVIRONMENT[0]];
    assert!(through(&loaded(GATEWAY, &variable), "http://a.test/").is_some());
    let nothing = loaded(&with("{from_environment: true}"), &[]);
    assert!(nothing.proxies.is_empty());
    assert!(nothing.warnings.iter().any(|warning| warning.contains("neither HTTPS_PROXY nor HTTP_PROXY")));
}

#[test]
fn one_proxy_for_both_schemes_with_credentials_of_a_file() {
    let gateway =
        with("{url: 'https://proxy.example.com', credentials_file: login, no_proxy: ['*.corp:9000']}");
    let folder = Folder::new(&gateway, QUAY);
    fs::write(folder.0.path().join("login"), "user:hunter2\n").expect("writes");
    let settings = folder.load(&[]).expect("loads");
    for url in ["http://a.corp/", "https://a.corp/", "https://corp:9000/"] {
        assert_eq!(through(&settings, url).as_deref(), Some("https://proxy.example.com"), "{url}");
    }
    assert_eq!(through(&settings, "https://a.corp:9000/"), None);
    assert!(!format!("{settings:?}{}", crate::Summary::of(&settings)).contains("hunter2"));
    fs::write(folder.0.path().join("login"), "hunter2\n").expect("writes");
    let refused = folder.load(&[]).expect_err("no colon").to_string();
    assert!(refused.contains("must contain `user:password`") && !refused.contains("hunter2"), "{refused}");
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_fix() {
    for (proxy, why) in [
        (
            "{url: 'proxy.example.com:3128'}",
            "gateway.yaml:2: proxy.url: its scheme is neither http nor https",
        ),
        ("{url: 'socks5://user:hunter2@h:1080'}", "SOCKS is not supported"),
        ("{url: 'http://h:3128/path'}", "it has a path or a query"),
        ("{no_proxy: [a.test]}", "proxy.url is missing: set it to the proxy"),
        ("{credentials_file: login}", "proxy.url is missing"),
        (
            "{url: 'http://h', no_proxy: [a.test, 'https://b.test']}",
            "proxy.no_proxy: entry 2 is not a host name",
        ),
        ("{url: 'http://u:hunter2@h', credentials_file: login}", "remove one of them"),
        ("{url: 'http://h', from_environment: true}", "takes all from HTTP_PROXY, HTTPS_PROXY and NO_PROXY"),
        ("{user: x}", "unknown field"),
    ] {
        let refused = refused(&with(proxy));
        assert!(refused.contains(why) && !refused.contains("hunter2"), "{proxy}: {refused}");
    }
    let socks = [("HTTPS_PROXY", "socks5://u:hunter2@h")];
    let refused = refused_with(&with("{from_environment: true}"), QUAY, &socks);
    assert!(refused.contains("HTTPS_PROXY: its scheme") && !refused.contains("hunter2"), "{refused}");
}

//! The access log and the export of spans.

use super::*;
use crate::{AccessLogFormat, AccessLogSettings, AccessLogTarget};

#[test]
fn an_access_log_of_its_own() {
    assert_eq!(loaded(GATEWAY, &[]).access_log, None);
    let log = |given: &str| loaded(&format!("{GATEWAY}access_log: {given}\n"), &[]).access_log;
    let stdout = |format| Some(AccessLogSettings { format, to: AccessLogTarget::Stdout });
    assert_eq!(log("{}"), None);
    assert_eq!(log("{to: stdout}"), stdout(AccessLogFormat::Json));
    assert_eq!(log("{format: combined}"), stdout(AccessLogFormat::Combined));
    let to = AccessLogTarget::File("/var/log/access.log".into());
    let file = AccessLogSettings { format: AccessLogFormat::Json, to };
    assert_eq!(log("{format: json, to: /var/log/access.log}"), Some(file));
    let relative = log("{to: access.log}").map(|log| log.to);
    assert!(
        matches!(&relative, Some(AccessLogTarget::File(path)) if path.is_absolute() && path.ends_with("access.log")),
        "{relative:?}"
    );
    let variable = loaded(GATEWAY, &[("QUAY_GATEWAY__ACCESS_LOG__FORMAT", "combined")]);
    assert_eq!(variable.access_log, stdout(AccessLogFormat::Combined));
    let wrong = refused(&format!("{GATEWAY}access_log: {{format: common}}\n"));
    assert!(wrong.contains("gateway.yaml:2:") && wrong.contains("combined"), "{wrong}");
}

#[test]
fn a_collector_of_traces() {
    let given = |otlp: &str| format!("{GATEWAY}tracing: {{otlp: {otlp}}}\n");
    assert!(loaded(GATEWAY, &[]).otlp.is_none());
    let otlp = loaded(&given("{endpoint: 'http://otel:4318'}"), &[]).otlp.expect("it is set");
    assert_eq!((otlp.endpoint.as_str(), otlp.sample), ("http://otel:4318/v1/traces", 1.0));
    let otlp =
        loaded(&given("{endpoint: 'https://otel/otlp/x', sample: 0.25}"), &[]).otlp.expect("it is set");
    assert_eq!((otlp.endpoint.as_str(), otlp.sample), ("https://otel/otlp/x", 0.25));
    for (otlp, why) in [
        ("{sample: 0.5}", "tracing.otlp.endpoint is missing"),
        ("{endpoint: 'otel:4318'}", "must be http(s)://host[:port][/path]"),
        ("{endpoint: 'http://u:hunter2@otel'}", "tracing.otlp.headers_file"),
        ("{endpoint: 'http://otel/?token=hunter2'}", "no query"),
        ("{endpoint: 'http://otel', sample: 1.5}", "tracing.otlp.sample: must be from 0 to 1"),
        ("{endpoint: 'http://otel', sample: .nan}", "tracing.otlp.sample: must be from 0 to 1"),
        ("{endpoint: 'http://otel', headers_file: hunter2}", "tracing.otlp.headers_file"),
    ] {
        let refusal = refused(&given(otlp));
        assert!(refusal.starts_with("gateway.yaml:2: ") && refusal.contains(why), "{refusal}");
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
}

#[test]
fn headers_for_the_collector() {
    let gateway = format!("{GATEWAY}tracing: {{otlp: {{endpoint: 'http://otel', headers_file: headers}}}}\n");
    let folder = Folder::new(&gateway, QUAY);
    let load = |text: &str| {
        fs::write(folder.0.path().join("headers"), text).expect("writes");
        folder.load(&[])
    };
    let settings = load("# of the tenant\nAuthorization: Bearer a:b\n\nX-Scope-OrgID:7\n").expect("is read");
    let headers = settings.otlp.expect("it is set").headers;
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
    assert_eq!(headers, [("Authorization", "Bearer a:b"), ("X-Scope-OrgID", "7")]);
    for wrong in ["a: b\nhunter2", "hunter2 x: y", &"a: b\n".repeat(17)] {
        let refusal = load(wrong).expect_err("is refused").to_string();
        assert!(refusal.contains("tracing.otlp.headers_file") && !refusal.contains("hunter2"), "{refusal}");
    }
}

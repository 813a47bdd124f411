//! Statuses, headers and bodies of answers that the document cannot prove.

use anyhow::Result;
use http::StatusCode;
use reqwest::{Method, Response};
use serde_json::Value;

use crate::fixture::{AdminApi, json_of};

async fn problem(answer: Response) -> Result<(StatusCode, Value)> {
    let status = answer.status();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem = json_of(answer).await?;
    assert_eq!(problem["status"], status.as_u16());
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
    Ok((status, problem))
}

#[tokio::test]
async fn errors_are_problems() -> Result<()> {
    let api = AdminApi::start().await?;
    let path = "/api/v1/queue/park";
    let large = format!("{{\"reason\": \"{}\"}}", "x".repeat(300 * 1024));
    let json = ("content-type", "application/json");
    for (request, status, code, retry) in [
        (api.command(path).header(json.0, json.1).body("[]"), 400, "malformed", false),
        (api.command(path).header(json.0, json.1).body(large), 413, "too_large", false),
        (api.command(path).header(json.0, "text/plain").body("{}"), 415, "unsupported_media_type", false),
        (api.command("/api/v1/zones/zone-x/drain"), 404, "unknown_zone", false),
        (api.command("/api/v1/nothing"), 404, "unknown_path", false),
        (api.command("/api/v1/zones"), 405, "method_not_allowed", false),
        (api.command("/api/v1/queue/sweep"), 409, "no_sweep", false),
        (api.command(path).bearer_auth("wrong"), 401, "wrong_token", false),
        (api.request(Method::POST, path), 403, "no_command_header", false),
        (
            api.request(Method::GET, "/api/v1/zones").header("host", "evil.example.com"),
            403,
            "unknown_host",
            false,
        ),
        (api.request(Method::GET, "/api/v1/queue/jobs?limit=0"), 400, "malformed", false),
        (api.request(Method::GET, "/api/v1/queue/jobs/sha256:1"), 400, "malformed", false),
        (api.request(Method::GET, "/healthz/x"), 404, "unknown_path", false),
    ] {
        let (found, problem) = problem(request.send().await?).await?;
        assert_eq!(
            (found.as_u16(), &problem["code"], &problem["retry"]),
            (status, &code.into(), &retry.into())
        );
    }
    let full = api.command("/api/v1/queue/add").header(json.0, json.1);
    let digest = backends::Digest::of(b"x");
    let full =
        full.body(format!(r#"{{"backlog": 0, "jobs": [{{"digest": "{digest}", "zone": "zone-b"}}]}}"#));
    let (status, problem) = problem(full.send().await?).await?;
    assert_eq!((status, &problem["retry"]), (StatusCode::TOO_MANY_REQUESTS, &true.into()));
    Ok(())
}

#[tokio::test]
async fn refusals_say_what_is_right() -> Result<()> {
    let api = AdminApi::start().await?;
    for (path, allow) in [
        ("/api/v1/zones", "GET, HEAD"),
        ("/api/v1/queue/sweep", "GET, HEAD, POST"),
        ("/api/v1/zones/zone-a/drain", "POST"),
        ("/healthz", "GET, HEAD"),
    ] {
        let answer = api.request(Method::PUT, path).send().await?;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(answer.headers()["allow"], allow, "{path}");
    }
    let answer = api.request(Method::POST, "/api/v1/zones/zone-a/drain").header("quay-gateway-command", "1");
    let answer = answer.send().await?;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    Ok(())
}

/// Programs of the time before `/api/v1` go on.
#[tokio::test]
async fn paths_without_the_prefix_are_the_same_routes() -> Result<()> {
    let api = AdminApi::start().await?;
    for path in ["/zones", "/status", "/queue", "/queue/jobs", "/queue/sweep", "/openapi.json"] {
        let (old, new) = (api.json(path).await?, api.json(&format!("/api/v1{path}")).await?);
        let keys = |value: &Value| value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>());
        assert_eq!(keys(&old), keys(&new), "{path}");
    }
    // curl sends no media type with an empty body.
    let drained = api.command("/zones/zone-a/drain").send().await?;
    assert_eq!(drained.status(), StatusCode::OK);
    assert_eq!(json_of(drained).await?, serde_json::json!({"zone": "zone-a", "drained": true}));
    let answer = api.request(Method::GET, "/api/v1/healthz").send().await?;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    Ok(())
}

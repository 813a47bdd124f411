//! Requests and answers of Keystone, after the examples in its Identity API reference.

use proptest::prelude::*;

use super::*;

fn account(user: Named, project: Option<Named>) -> Account {
    Account { user, password: Some(Secret::new("secret")), token: None, project }
}

fn named(name: &str) -> Named {
    Named::Name { name: name.to_owned(), domain: Domain::Name("Default".to_owned()) }
}

fn wanted(interface: &str, region: Option<&str>) -> Service {
    Service {
        kind: "object-store".to_owned(),
        interface: interface.to_owned(),
        region: region.map(str::to_owned),
    }
}

#[test]
fn requests_of_v3() {
    let by_name = account(named("admin"), Some(named("demo")));
    assert_eq!(
        v3_request(&by_name),
        json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": {
                "name": "admin", "domain": { "name": "Default" }, "password": "secret" } } },
            "scope": { "project": { "name": "demo", "domain": { "name": "Default" } } } } })
    );
    let by_id = account(Named::Id("ee4dfb".to_owned()), Some(Named::Id("a6944d".to_owned())));
    assert_eq!(
        v3_request(&by_id),
        json!({ "auth": {
            "identity": { "methods": ["password"],
                "password": { "user": { "id": "ee4dfb", "password": "secret" } } },
            "scope": { "project": { "id": "a6944d" } } } })
    );
    // If no project is given, Keystone uses the user's default.
    assert!(v3_request(&account(named("admin"), None))["auth"].get("scope").is_none());
    let token = Account { token: Some(Secret::new("t")), password: None, ..by_id };
    assert_eq!(
        v3_request(&token)["auth"]["identity"],
        json!({ "methods": ["token"], "token": { "id": "t" } })
    );
    assert_eq!(
        credential_request("423f19", &Secret::new("rEaqvJka")),
        json!({ "auth": { "identity": { "methods": ["application_credential"],
            "application_credential": { "id": "423f19", "secret": "rEaqvJka" } } } })
    );
}

#[test]
fn requests_of_v2() {
    assert_eq!(
        v2_request(&account(named("joe"), Some(named("acme")))),
        json!({ "auth": { "tenantName": "acme",
            "passwordCredentials": { "username": "joe", "password": "secret" } } })
    );
    assert_eq!(
        v2_request(&account(Named::Id("u".to_owned()), Some(Named::Id("t".to_owned())))),
        json!({ "auth": { "tenantId": "t", "passwordCredentials": { "userId": "u", "password": "secret" } } })
    );
}

const V3: &str = r#"{"token": {"methods": ["password"],
    "expires_at": "2015-11-06T15:32:17.893769Z", "issued_at": "2015-11-06T14:32:17.893797Z",
    "catalog": [
        {"type": "identity", "endpoints": [
            {"interface": "public", "region": "One", "region_id": "One", "url": "http://k/v3"}]},
        {"type": "object-store", "name": "swift", "endpoints": [
            {"interface": "admin", "region": "One", "region_id": "One", "url": "http://admin/v1"},
            {"interface": "public", "region": "One", "region_id": "One", "url": "http://one/v1/AUTH_p"},
            {"interface": "public", "region": null, "region_id": "Two", "url": "http://two/v1/AUTH_p"}]}]}}"#;

const V2: &str = r#"{"access": {"token": {"id": "secret-token", "expires": "2012-04-13T13:15:00Z",
        "issued_at": "2012-04-13T12:15:00.5"},
    "serviceCatalog": [{"type": "object-store", "endpoints": [
        {"region": "One", "publicURL": "http://one/v1/AUTH_p", "internalURL": "http://in/v1/AUTH_p"}]}]}}"#;

#[test]
fn catalogues() {
    let v3 = v3_granted(V3.as_bytes()).expect("parses");
    assert_eq!(v3.life, Some(Duration::from_secs(3600)));
    let v2 = v2_granted(V2.as_bytes()).expect("parses");
    assert_eq!(v2.life, Some(Duration::from_secs(3600)));
    assert_eq!(v2.token.expect("a token").reveal(), "secret-token");
    for (endpoints, interface, region, expected) in [
        (&v3.endpoints, "public", None, "http://one/v1/AUTH_p"),
        (&v3.endpoints, "public", Some("Two"), "http://two/v1/AUTH_p"),
        (&v3.endpoints, "admin", Some("One"), "http://admin/v1"),
        (&v2.endpoints, "internal", Some("One"), "http://in/v1/AUTH_p"),
    ] {
        let found = find(endpoints, &wanted(interface, region)).expect("there");
        assert_eq!(found.as_str(), expected);
    }
}

#[test]
fn a_missing_endpoint_is_reported_with_the_existing_ones() {
    let v3 = v3_granted(V3.as_bytes()).expect("parses").endpoints;
    for (endpoints, wanted, expected) in [
        (&v3, wanted("public", Some("Three")), "public in region One, public in region Two"),
        (&v3, wanted("internal", None), "no internal object-store endpoint; it has admin in region One"),
        (
            &v3,
            Service { kind: "swift".to_owned(), ..wanted("public", None) },
            "services identity, object-store",
        ),
        (&vec![], wanted("public", None), "set tenant_name or tenant_id"),
    ] {
        let error = find(endpoints, &wanted).expect_err("not there");
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn hints_distinguish_names_and_ids() {
    let id = "a6944d763bf64ee6a275f1263fae0352";
    for (project, expected) in [
        (Named::Id("quay".to_owned()), "use tenant_name"),
        (named(id), "use tenant_id"),
        (named("quay"), "\"quay\" in the domain \"Default\""),
        (Named::Id(id.to_owned()), id),
    ] {
        let hint = hint(&account(named("joe"), Some(project)));
        assert!(hint.contains(expected) && !hint.contains("secret"), "{hint}");
    }
}

proptest! {
    #[test]
    fn no_answer_makes_the_parser_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = (v3_granted(&body).is_ok(), v2_granted(&body).is_ok());
    }

    /// The error of a broken answer never contains the answer's token.
    #[test]
    fn errors_contain_no_token(cut in 0..V2.len()) {
        if let Err(error) = v2_granted(&V2.as_bytes()[..cut]) {
            prop_assert!(!error.to_string().contains("secret"), "{}", error);
        }
    }
}

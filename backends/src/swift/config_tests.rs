//! `SwiftStorage` in the form of Quay's `config.yaml`.

use super::*;
use crate::StoreConfig;
use crate::params::ParamsOf;

const BASE: &str = "swift_container: blobs, storage_path: /reg, swift_user: quay, swift_password: hunter2";

fn read(params: &str) -> Result<SwiftConfig, String> {
    struct Whole(Params);
    impl<'de> serde::Deserialize<'de> for Whole {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            use serde::de::DeserializeSeed;
            ParamsOf { driver: "SwiftStorage" }.deserialize(deserializer).map(Self)
        }
    }
    let options = serde_saphyr::options! { with_snippet: false };
    let Whole(mut params) = serde_saphyr::from_str_with_options(&format!("{{{params}}}"), options)
        .map_err(|error| error.to_string())?;
    let config = SwiftConfig::read(&mut params)?;
    let printed = format!("{config:?} {:?}", config.summary());
    assert!(!printed.contains("hunter"), "{printed}");
    Ok(config)
}

fn login(params: &str) -> Login {
    match read(params).unwrap_or_else(|error| panic!("{params}: {error}")).access {
        Access::Login(login) => *login,
        Access::TempUrl(_) => panic!("{params}: no login"),
    }
}

fn account_of(params: &str) -> Account {
    match login(params).identity {
        Identity::V2(account) | Identity::V3(account) => account,
        other => panic!("{params}: {other:?}"),
    }
}

fn named(name: &str, domain: Domain) -> Named {
    Named::Name { name: name.to_owned(), domain }
}

fn default_domain() -> Domain {
    Domain::Id("default".to_owned())
}

/// `VERSIONFUL_AUTH_PATH` and the code after it in `get_auth_keystone`.
#[test]
fn versions_of_the_login() {
    let tenant = "os_options: {tenant_name: t}";
    for (params, url, protocol) in [
        ("auth_url: 'http://k:5000'", "http://k:5000/v2.0", "Keystone v2"),
        ("auth_url: 'http://k:5000/v2.0/'", "http://k:5000/v2.0/", "Keystone v2"),
        ("auth_url: 'http://k:5000/', auth_version: 2", "http://k:5000/v2.0", "Keystone v2"),
        ("auth_url: 'http://k:5000', auth_version: '3'", "http://k:5000/v3", "Keystone v3"),
        ("auth_url: 'https://k/identity/', auth_version: 3", "https://k/identity/v3", "Keystone v3"),
        ("auth_url: 'https://k/identity/v3', auth_version: 3", "https://k/identity/v3", "Keystone v3"),
        ("auth_url: 'http://s/auth/v1.0', auth_version: 1", "http://s/auth/v1.0", "v1"),
    ] {
        let login = login(&format!("{BASE}, {params}, {tenant}"));
        assert_eq!((login.url.as_str(), login.identity.protocol()), (url, protocol), "{params}");
    }
}

#[test]
fn users_and_projects_have_swiftclients_precedence() {
    let v3 = "auth_url: 'http://k', auth_version: 3";
    let domain = |name: &str| Domain::Name(name.to_owned());
    let id = |id: &str| Named::Id(id.to_owned());
    for (options, user, project) in [
        ("", named("quay", default_domain()), None),
        ("tenant_name: t", named("quay", default_domain()), Some(named("t", default_domain()))),
        ("tenant_id: i, tenant_name: t", named("quay", default_domain()), Some(id("i"))),
        (
            "project_name: p, tenant_name: t, project_domain_name: d",
            named("quay", default_domain()),
            Some(named("p", domain("d"))),
        ),
        ("project_id: p, tenant_id: t", named("quay", default_domain()), Some(id("p"))),
        ("user_domain_name: d", named("quay", domain("d")), None),
        ("user_domain_name: d, user_domain_id: i", named("quay", Domain::Id("i".to_owned())), None),
        ("user_id: u, user_domain_name: d", id("u"), None),
    ] {
        let account = account_of(&format!("{BASE}, {v3}, os_options: {{{options}}}"));
        assert_eq!((account.user, account.project), (user, project), "{options}");
    }
    let base = BASE.replace("quay", "'t:quay'");
    let account = account_of(&format!("{base}, {v3}, os_options: {{tenant_name: other}}"));
    assert_eq!(account.user, named("quay", default_domain()));
    assert_eq!(account.project, Some(named("t", default_domain())));
    let v1 = login(&format!("{base}, auth_url: 'http://s/auth/v1.0', auth_version: 1"));
    assert!(matches!(v1.identity, Identity::V1 { user, .. } if user == "t:quay"));
}

#[test]
fn endpoints_of_the_catalogue() {
    let base = format!("{BASE}, auth_url: 'http://k', auth_version: 3");
    let config = read(&base).expect("reads");
    assert_eq!((config.service.kind.as_str(), config.service.interface.as_str()), ("object-store", "public"));
    let options = "service_type: s3, endpoint_type: internalURL, region_name: R, unheard_of: [1, {a: b}], \
                   object_storage_url: 'http://s/v1/AUTH_x'";
    let config = read(&format!("{base}, os_options: {{{options}}}")).expect("reads");
    let region = Some("R".to_owned());
    let expected = Service { kind: "s3".to_owned(), interface: "internal".to_owned(), region };
    assert_eq!(config.service, expected);
    assert_eq!(config.storage_url.expect("a URL").as_str(), "http://s/v1/AUTH_x");
}

#[test]
fn application_credentials_and_temporary_urls() {
    let credential = "auth_type: v3applicationcredential, application_credential_id: i, \
                      application_credential_secret: hunter3";
    let login = login(&format!("{BASE}, auth_url: 'http://k', os_options: {{{credential}}}"));
    assert_eq!(login.url.as_str(), "http://k/v3");
    assert!(matches!(login.identity, Identity::ApplicationCredential { id, .. } if id == "i"));
    let base = "swift_container: c, storage_path: r, auth_url: 'http://k', swift_user: u, swift_password: ''";
    let url = "os_options: {object_storage_url: 'http://s/v1/AUTH_x'}";
    let config = read(&format!("{base}, temp_url_key: hunter2, {url}")).expect("reads");
    assert!(matches!(config.access, Access::TempUrl(_)));
    // If there is a password, temporary URLs are not used.
    let config = read(&format!("{BASE}, auth_url: 'http://s', auth_version: 1, temp_url_key: hunter3"));
    assert!(matches!(config.expect("reads").access, Access::Login(_)));
}

#[test]
fn leading_slashes_of_the_root_are_stripped() {
    let base = "swift_container: c, auth_url: 'http://k', auth_version: 1, swift_user: u, swift_password: p";
    for (path, root) in [("/", ""), ("//reg/x/", "reg/x/"), ("reg", "reg")] {
        let config = read(&format!("{base}, storage_path: '{path}', simple_path_concat: true"));
        let config = config.expect("reads");
        assert_eq!((config.root.as_str(), config.simple_path_concat), (root, true));
    }
}

#[test]
fn locations() {
    let of = |params: &str| {
        let all = format!("swift_container: blobs, {params}");
        read(&all).unwrap_or_else(|error| panic!("{params}: {error}")).location()
    };
    let quay = "swift_user: quay, swift_password: hunter2";
    let v3 = |more: &str| format!("{quay}, auth_url: 'https://k/v3', auth_version: 3, {more}");
    let first = of(&v3("storage_path: /reg, os_options: {project_name: p, region_name: one}"));
    assert_eq!(first, "https://k/v3/default:p/one/blobs/reg");
    for (params, same) in [
        (v3("storage_path: reg/, os_options: {tenant_name: p, region_name: one, user_id: u}"), true),
        (
            "storage_path: reg, swift_user: another, swift_password: hunter3, auth_url: 'https://k', \
             auth_version: '3', os_options: {project_name: p, region_name: one}"
                .to_owned(),
            true,
        ),
        (v3("storage_path: /reg/x, os_options: {project_name: p, region_name: one}"), false),
        (v3("storage_path: /reg, os_options: {project_name: p, region_name: two}"), false),
        (v3("storage_path: /reg, os_options: {project_name: q, region_name: one}"), false),
        (
            v3("storage_path: /reg, os_options: {project_name: p, project_domain_name: d, region_name: one}"),
            false,
        ),
    ] {
        assert_eq!(of(&params) == first, same, "{params}");
    }
    // An account that is given by its URL is the same place for all its users.
    let account = "os_options: {object_storage_url: 'https://s/v1/AUTH_a/', project_name: p}";
    for params in [
        v3(&format!("storage_path: /reg, {account}")),
        format!("{quay}, auth_url: 'https://s/auth/v1.0', auth_version: 1, storage_path: /reg, {account}"),
        format!("temp_url_key: hunter2, auth_url: 'https://k', storage_path: /reg, {account}"),
    ] {
        assert_eq!(of(&params), "https://s/v1/AUTH_a/blobs/reg", "{params}");
    }
    let v1 = "auth_url: 'https://s/auth/v1.0', auth_version: 1, storage_path: /reg, swift_password: hunter2";
    let place = "https://s/auth/v1.0/account//blobs/reg";
    assert_eq!(of(&format!("{v1}, swift_user: 'account:quay'")), place);
    assert_eq!(of(&format!("{v1}, swift_user: 'account:other'")), place);
}

#[test]
fn refusals_name_the_parameter() {
    let v3 = format!("{BASE}, auth_url: 'http://k', auth_version: 3");
    for (params, expected) in [
        (format!("{BASE}, auth_version: 3"), "`auth_url` is missing"),
        (format!("{BASE}, auth_url: 'http://k'"), "must have `tenant_name` or `tenant_id`"),
        (format!("{BASE}, auth_url: 'http://k', auth_version: 4"), "`auth_version` must be 1, 2 or 3"),
        (format!("{BASE}, auth_url: 'http://k', auth_version: '2.0'"), "`auth_version` must be"),
        (format!("{BASE}, auth_url: 'k:5000', auth_version: 3"), "`auth_url` must be"),
        (format!("{v3}, os_options: {{auth_type: v3token}}"), "`auth_type` must be"),
        (format!("{v3}, os_options: text"), "`os_options` must be"),
        (
            format!("{v3}, os_options: {{auth_type: v3applicationcredential}}"),
            "`application_credential_id` is missing",
        ),
        (v3.replace("hunter2", "''"), "`swift_password` is missing"),
        (format!("{}, temp_url_key: k", v3.replace("hunter2", "''")), "needs `object_storage_url`"),
        (v3.replace("quay", "'a:b:c'"), "`swift_user` must be"),
        (v3.replace("/reg", "a/../b"), "`storage_path` must be"),
        (v3.replace("blobs", "a/b"), "`swift_container` must be"),
    ] {
        let error = read(&params).expect_err("refused");
        assert!(error.contains(expected), "{params}: {error}");
        assert!(!error.contains("hunter"), "{error}");
    }
    let stray = format!("[SwiftStorage, {{{v3}, swift_pasword: hunter3}}]");
    let config: StoreConfig = serde_saphyr::from_str(&stray).expect("reads");
    assert!(config.unusable().expect("unusable").contains("did you mean `swift_password`?"));
}

//! `AzureStorage` in the form of Quay's `config.yaml`.

use crate::StoreConfig;

const KEY: &str = "aHVudGVyMi1odW50ZXIyLWh1bnRlcjI=";

fn read(params: &str) -> Result<StoreConfig, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    let config: StoreConfig =
        serde_saphyr::from_str_with_options(&format!("[AzureStorage, {{{params}}}]"), options)
            .map_err(|error| error.to_string())?;
    match config.unusable() {
        Some(reason) => Err(reason.to_owned()),
        None => Ok(config),
    }
}

/// The summary as `endpoint account container root credentials`.
fn summary(params: &str) -> String {
    let config = read(params).unwrap_or_else(|error| panic!("{params}: {error}"));
    let printed = format!("{config:?}");
    assert!(!printed.contains("hunter") && !printed.contains("aHVu"), "{printed}");
    config.summary().into_iter().map(|(_, value)| value).collect::<Vec<_>>().join(" ")
}

#[test]
fn parameters_are_interpreted_as_in_quay() {
    let base = "azure_container: blobs, storage_path: /reg, azure_account_name: acct";
    for (params, expected) in [
        (
            format!("{base}, azure_account_key: '{KEY}'"),
            "https://acct.blob.core.windows.net acct blobs reg account key",
        ),
        (
            format!("{base}, azure_account_key: '{KEY}', sas_token: '?sv=2021&sig=hunter2'"),
            "https://acct.blob.core.windows.net acct blobs reg account key",
        ),
        (
            format!(
                "{base}, sas_token: '?sv=2021&sig=hunter2', endpoint_url: 'http://127.0.0.1:10000/acct/'"
            ),
            "http://127.0.0.1:10000/acct acct blobs reg shared access signature",
        ),
        (
            format!(
                "{base}, azure_account_key: null, endpoint_url: 'https://acct.blob.core.usgovcloudapi.net'"
            ),
            "https://acct.blob.core.usgovcloudapi.net acct blobs reg none",
        ),
    ] {
        assert_eq!(summary(&params), expected);
    }
    let roots = "azure_container: blobs, azure_account_name: acct, storage_path";
    for (path, root) in [("reg/", "reg/"), ("//reg//x", "reg//x"), ("/", "")] {
        let expected = format!("https://acct.blob.core.windows.net acct blobs {root} none");
        assert_eq!(summary(&format!("{roots}: '{path}'")), expected);
    }
}

#[test]
fn locations() {
    let of = |params: &str| {
        let config = read(params).unwrap_or_else(|error| panic!("{params}: {error}"));
        config.location().expect("a place")
    };
    let first = of("azure_container: blobs, storage_path: /reg, azure_account_name: acct");
    assert_eq!(first, "https://acct.blob.core.windows.net/blobs/reg");
    for (container, root, account, more, same) in [
        ("blobs", "reg/", "acct", format!(", azure_account_key: '{KEY}'"), true),
        ("blobs", "//reg", "acct", ", endpoint_url: 'https://ACCT.blob.core.windows.net:443/'".into(), true),
        ("blobs", "reg", "acct", ", sas_token: 'sv=1&sig=hunter2'".into(), true),
        ("other", "reg", "acct", String::new(), false),
        ("blobs", "reg/x", "acct", String::new(), false),
        ("blobs", "reg", "another", String::new(), false),
        ("blobs", "reg", "acct", ", endpoint_url: 'http://127.0.0.1:10000/acct'".into(), false),
    ] {
        let params = format!(
            "azure_container: {container}, storage_path: '{root}', azure_account_name: {account}{more}"
        );
        let place = of(&params);
        assert_eq!(place == first, same, "{params}: {place}");
        assert!(!place.contains("hunter2") && !place.contains(KEY), "{place}");
    }
}

#[test]
fn refusals_name_the_parameter_and_never_its_value() {
    let base = "azure_container: blobs, storage_path: /reg, azure_account_name: acct";
    for (params, expected) in [
        ("storage_path: /, azure_account_name: a".to_owned(), "`azure_container` is missing"),
        ("azure_container: b, azure_account_name: a".to_owned(), "`storage_path` is missing"),
        ("azure_container: b, storage_path: /".to_owned(), "`azure_account_name` is missing"),
        (format!("{base}, azure_account_key: hunter2!"), "`azure_account_key` must be base64"),
        (format!("{base}, sas_token: hunter2"), "`sas_token` must be a query"),
        (format!("{base}, sas_token: 'sig=hunter2 x'"), "`sas_token` must be a query"),
        (format!("{base}, endpoint_url: 'https://h/?sig=hunter2'"), "`endpoint_url` must be"),
        (format!("{base}, endpoint_url: 'hunter2'"), "`endpoint_url` must be"),
        (format!("{base}, azure_account_keys: hunter2"), "did you mean `azure_account_key`?"),
        (
            "azure_container: b, storage_path: a/../b, azure_account_name: a".to_owned(),
            "`storage_path` must be",
        ),
        (
            "azure_container: b/c, storage_path: a, azure_account_name: a".to_owned(),
            "`azure_container` must be",
        ),
        (
            "azure_container: b, storage_path: a, azure_account_name: a.b/".to_owned(),
            "`azure_account_name` must",
        ),
    ] {
        let error = read(&params).expect_err("refused");
        assert!(error.contains(expected), "{params}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

//! The files in which docker and podman keep logins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use backends::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::Account;
use serde::Deserialize;

/// The most bytes of such a file.
const FILE_MAX: u64 = 1 << 20;

/// A file of logins (containers-auth.json(5), or docker's config.json).
pub struct AuthFile {
    path: PathBuf,
    contents: Contents,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Contents {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<Secret>,
}

impl fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl AuthFile {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, has more than 1 MiB, or is not JSON of this form.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        Self::read_if_there(path)?.with_context(|| format!("{}: there is no such file", path.display()))
    }

    fn read_if_there(path: &Path) -> anyhow::Result<Option<Self>> {
        let shown = path.display();
        let mut text = Vec::new();
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.with_context(|| format!("{shown}: cannot be read"))?,
        };
        file.take(FILE_MAX + 1).read_to_end(&mut text).with_context(|| format!("{shown}: cannot be read"))?;
        ensure!(
            text.len() as u64 <= FILE_MAX,
            "{shown}: is larger than {FILE_MAX} bytes, so it is no file of logins"
        );
        if text.trim_ascii().is_empty() {
            return Ok(Some(Self { path: path.to_owned(), contents: Contents::default() }));
        }
        // The text of serde's error may hold a part of a password.
        let contents = serde_json::from_slice(&text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            anyhow::anyhow!(
                "{shown}: is not a file of logins as podman or docker write it (line {line}, column {column})"
            )
        })?;
        Ok(Some(Self { path: path.to_owned(), contents }))
    }

    /// The files that podman and docker use, in their order: the one that `REGISTRY_AUTH_FILE` names alone, or else
    /// `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json` and `~/.docker/config.json`.
    ///
    /// # Errors
    /// A file is there and cannot be used, or the one of `REGISTRY_AUTH_FILE` is not there.
    pub fn of_user(variable: impl Fn(&str) -> Option<OsString>) -> anyhow::Result<Vec<Self>> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = set("REGISTRY_AUTH_FILE") {
            return Ok(vec![Self::read(&path).context("REGISTRY_AUTH_FILE")?]);
        }
        let home = set("HOME");
        let below_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
        let docker = set("DOCKER_CONFIG").or_else(|| below_home(".docker"));
        let config = set("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let places = [
            set("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
            config.map(|folder| folder.join("containers/auth.json")),
            docker.map(|folder| folder.join("config.json")),
        ];
        let read = places.into_iter().flatten().map(|path| Self::read_if_there(&path));
        Ok(read.collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// The login for a repository of a registry that has one of these names. As with podman, the entry with the longest
    /// path wins. `None` if there is no entry.
    ///
    /// # Errors
    /// The entry cannot be used, or the login is in a credential helper, which is not run here.
    pub fn login(&self, hosts: &[&str], repository: &str) -> anyhow::Result<Option<Account>> {
        let shown = self.path.display();
        for host in hosts {
            let whole = format!("{host}/{repository}");
            // From the whole name up to the host alone.
            let names = whole.rmatch_indices('/').map(|(end, _)| &whole[..end]);
            for name in std::iter::once(whole.as_str()).chain(names) {
                let found =
                    self.contents.auths.iter().find(|(key, _)| normalised(key).eq_ignore_ascii_case(name));
                if let Some((key, Entry { auth: Some(auth) })) = found {
                    let account = account(auth).with_context(|| format!("{shown}: the login of {key}"))?;
                    return Ok(Some(account));
                }
                if let Some(helper) = self.contents.cred_helpers.get(name) {
                    bail!(
                        "{shown}: the login of {name} is in the helper docker-credential-{helper}, which is not run here: \
                         give --username and --password-file, or --authfile with a file that has the login itself"
                    );
                }
                if let (Some(_), Some(store)) = (found, &self.contents.creds_store) {
                    bail!(
                        "{shown}: the login of {name} is in the store docker-credential-{store}, which is not asked \
                         here: give --username and --password-file, or --authfile with a file that has the login itself"
                    );
                }
            }
        }
        Ok(None)
    }
}

/// A key without what old versions of docker put around it: `https://HOST/v2/`.
fn normalised(key: &str) -> &str {
    let (key, is_url) = match key.split_once("://") {
        Some((_, rest)) => (rest, true),
        None => (key, false),
    };
    let key = key.trim_end_matches('/');
    match is_url {
        true => key.strip_suffix("/v2").or(key.strip_suffix("/v1")).unwrap_or(key),
        false => key,
    }
}

/// The account of an `auth`: `user:password` in Base64.
fn account(auth: &Secret) -> anyhow::Result<Account> {
    // No part of the text is repeated.
    let wrong = "`auth` is not NAME:PASSWORD in Base64";
    let bytes = STANDARD.decode(auth.reveal().trim()).ok().context(wrong)?;
    let pair = String::from_utf8(bytes).ok().context(wrong)?;
    let (username, password) = pair.split_once(':').context(wrong)?;
    // docker writes a NUL behind some passwords.
    let password = password.trim_end_matches('\0');
    ensure!(!username.is_empty() && !password.is_empty(), "{wrong}: a part of it is empty");
    ensure!(
        username != "<token>" && username != "00000000-0000-0000-0000-000000000000",
        "it is a token of another kind"
    );
    Ok(Account { username: username.to_owned(), password: Secret::new(password) })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn auth(pair: &str) -> serde_json::Value {
        serde_json::json!({"auth": STANDARD.encode(pair)})
    }

    fn file(folder: &Path, value: &serde_json::Value) -> PathBuf {
        let path = folder.join("auth.json");
        std::fs::write(&path, value.to_string()).expect("writes");
        path
    }

    #[test]
    fn the_longest_path_wins() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = file(
            folder.path(),
            &serde_json::json!({"auths": {
                "edge.corp:8443": auth("host:1"), "edge.corp:8443/org": auth("org:2"),
                "edge.corp:8443/org/app": auth("app:a:b"), "https://old.corp/v2/": auth("old:3"),
                "helped.corp": {}, "wrong.corp": {"auth": "%%"},
            }, "credHelpers": {"secret.corp": "pass"}, "credsStore": "desktop"}),
        );
        let file = AuthFile::read(&path).expect("reads");
        let login = |host: &str, repository: &str| {
            file.login(&[host], repository).map(|login| {
                login.map(|account| format!("{}:{}", account.username, account.password.reveal()))
            })
        };
        for (host, repository, expected) in [
            ("edge.corp:8443", "org/app", Some("app:a:b")),
            ("edge.corp:8443", "org/app/deep", Some("app:a:b")),
            ("edge.corp:8443", "org/other", Some("org:2")),
            ("edge.corp:8443", "organisation/x", Some("host:1")),
            ("EDGE.corp:8443", "x", Some("host:1")),
            ("old.corp", "x", Some("old:3")),
            ("edge.corp", "org/app", None),
        ] {
            assert_eq!(login(host, repository).expect("a login").as_deref(), expected, "{host}/{repository}");
        }
        let login = |host: &str| format!("{:#}", login(host, "x").expect_err("no login"));
        assert!(login("secret.corp").contains("docker-credential-pass"), "{}", login("secret.corp"));
        assert!(login("helped.corp").contains("docker-credential-desktop"));
        assert!(login("wrong.corp").contains("is not NAME:PASSWORD in Base64"));
        assert!(!format!("{file:?}").contains("host:1"));
    }

    #[test]
    fn the_files_of_a_user_in_their_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, value: serde_json::Value| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
            std::fs::write(&path, value.to_string()).expect("writes");
        };
        write("home/.docker/config.json", serde_json::json!({"auths": {"h": auth("docker:1")}}));
        write("run/containers/auth.json", serde_json::json!({"auths": {"h": auth("podman:1")}}));
        write("other.json", serde_json::json!({"auths": {"h": auth("other:1")}}));
        let at = |name: &str| OsString::from(folder.path().join(name));
        let names = |variables: &[(&str, OsString)]| {
            let variables: HashMap<_, _> = variables.iter().cloned().collect();
            let files = AuthFile::of_user(|name| variables.get(name).cloned())?;
            let logins =
                files.iter().map(|file| Ok(file.login(&["h"], "x")?.map(|account| account.username)));
            logins.collect::<anyhow::Result<Vec<_>>>()
        };
        let (home, run) = (("HOME", at("home")), ("XDG_RUNTIME_DIR", at("run")));
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(names(&[home.clone(), run.clone()]).expect("reads"), [some("podman"), some("docker")]);
        assert_eq!(names(std::slice::from_ref(&home)).expect("reads"), [some("docker")]);
        let other = ("REGISTRY_AUTH_FILE", at("other.json"));
        assert_eq!(names(&[home.clone(), run, other]).expect("reads"), [some("other")]);
        let absent = ("REGISTRY_AUTH_FILE", at("absent.json"));
        let error = format!("{:#}", names(&[home, absent]).expect_err("it is not there"));
        assert!(error.contains("REGISTRY_AUTH_FILE") && error.contains("no such file"), "{error}");
    }

    #[test]
    fn a_broken_file_shows_nothing_of_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("auth.json");
        std::fs::write(&path, r#"{"auths": {"h": {"auth": hunter2}}}"#).expect("writes");
        let error = format!("{:#}", AuthFile::read(&path).expect_err("not JSON"));
        assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
        std::fs::write(&path, " \n").expect("writes");
        assert!(AuthFile::read(&path).expect("empty").login(&["h"], "x").expect("no entry").is_none());
    }
}

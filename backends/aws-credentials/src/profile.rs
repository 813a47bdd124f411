//! Profiles in the files that Amazon's tools share, `~/.aws/credentials` and `~/.aws/config`.

use std::collections::BTreeMap;

use aws_credential_types::Credentials;
use store_answers::{Error, Kind, Result, Secret};
use tokio::io::AsyncReadExt;

use super::{Environment, Role};

/// The largest file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The profile that is used if none is named.
const DEFAULT: &str = "default";

/// The values of one profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Profile(BTreeMap<String, Secret>);

type Sections = BTreeMap<String, Profile>;

/// The contents of both files.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    /// The requested name, if there is one.
    asked: Option<String>,
    credentials: Sections,
    config: Sections,
    /// Both files merged. The credentials file has precedence.
    merged: Sections,
    none: Profile,
}

impl Profiles {
    /// Reads both files. A missing file counts as empty.
    pub(crate) async fn read(environment: &Environment) -> Result<Self> {
        let file = async |variable, default: &str| {
            let name = environment.get(variable).unwrap_or(default);
            let read = match name.strip_prefix("~/") {
                Some(below) => match environment.get("HOME") {
                    Some(home) => read(&format!("{home}/{below}"), MAX_FILE).await,
                    None => Ok(None),
                },
                None => read(name, MAX_FILE).await,
            };
            read.map(|text| text.map(|text| sections(text.reveal())).unwrap_or_default())
                .map_err(|why| Error::new(Kind::Invalid, format!("read {name}: {why}")))
        };
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials").await?;
        let config = file("AWS_CONFIG_FILE", "~/.aws/config").await?;
        let asked = environment.get("AWS_DEFAULT_PROFILE").or_else(|| environment.get("AWS_PROFILE"));
        Ok(Self::of(asked, credentials, config))
    }

    fn of(asked: Option<&str>, credentials: Sections, config: Sections) -> Self {
        let config: Sections =
            config.into_iter().filter_map(|(name, profile)| Some((profile_name(&name)?, profile))).collect();
        let mut merged = config.clone();
        for (name, profile) in &credentials {
            merged.entry(name.clone()).or_default().0.extend(profile.0.clone());
        }
        Self { asked: asked.map(str::to_owned), credentials, config, merged, none: Profile::default() }
    }

    fn name(&self) -> &str {
        self.asked.as_deref().unwrap_or(DEFAULT)
    }

    /// The profile to use. It is empty if no profile is requested and there is no default.
    pub(crate) fn chosen(&self) -> Result<&Profile> {
        match (self.merged.get(self.name()), &self.asked) {
            (Some(profile), _) => Ok(profile),
            (None, None) => Ok(&self.none),
            (None, Some(name)) => {
                Err(Error::new(Kind::Invalid, format!("get credentials: there is no profile {name}")))
            }
        }
    }

    /// The profile with this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Profile> {
        self.merged.get(name)
    }

    /// The keys of the profile. The credentials file has precedence.
    pub(crate) fn keys(&self) -> Result<Option<Credentials>> {
        let name = self.name();
        let unsupported = |what| {
            let why = format!("get credentials: profile {name} has {what}, which is not supported");
            Err(Error::new(Kind::Invalid, why))
        };
        let chosen = self.chosen()?;
        if chosen.get("sso_role_name").or_else(|| chosen.get("sso_account_id")).is_some() {
            return unsupported("single sign-on (sso_…)");
        }
        if let Some(found) = self.credentials.get(name).map(Profile::keys).transpose()?.flatten() {
            return Ok(Some(found));
        }
        if chosen.get("credential_process").is_some() {
            return unsupported("credential_process");
        }
        self.config.get(name).map(Profile::keys).transpose().map(Option::flatten)
    }
}

impl Profile {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::reveal).filter(|value| !value.is_empty())
    }

    /// The keys in this profile.
    pub(crate) fn keys(&self) -> Result<Option<Credentials>> {
        let Some(access_key) = self.get("aws_access_key_id") else { return Ok(None) };
        let secret_key = self.get("aws_secret_access_key").ok_or_else(|| {
            let why = "get credentials: a profile has aws_access_key_id but no aws_secret_access_key";
            Error::new(Kind::Invalid, why)
        })?;
        let token = self.get("aws_security_token").or_else(|| self.get("aws_session_token"));
        Ok(Some(Credentials::new(access_key, secret_key, token.map(str::to_owned), None, "shared file")))
    }

    /// The role to assume with the keys of another identity.
    pub(crate) fn role(&self) -> Option<Role> {
        if self.get("web_identity_token_file").is_some() {
            return None;
        }
        Some(Role {
            arn: self.get("role_arn")?.to_owned(),
            session: self.get("role_session_name").map(str::to_owned),
            external_id: self.get("external_id").map(str::to_owned),
            seconds: self.get("duration_seconds").and_then(|seconds| seconds.parse().ok()),
        })
    }
}

/// The profile's name in a section of the config file: `default`, `profile x` or `profile "x y"`. Other
/// sections are ignored.
fn profile_name(section: &str) -> Option<String> {
    if section == DEFAULT {
        return Some(DEFAULT.to_owned());
    }
    let name = section.strip_prefix("profile")?;
    let trimmed = name.trim_start();
    let unquoted = ['"', '\'']
        .iter()
        .find_map(|quote| trimmed.trim_end().strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(trimmed.trim_end());
    (trimmed.len() < name.len() && !unquoted.is_empty()).then(|| unquoted.to_owned())
}

/// Parses the sections of an INI file like Python's `configparser`: names in lower case, `=` or `:`, and
/// comments on lines of their own. An indented line continues the value before it. No value that is read here
/// has such lines.
fn sections(text: &str) -> Sections {
    let mut found = Sections::new();
    let mut name = None;
    for line in text.trim_start_matches('\u{feff}').lines() {
        let trimmed = line.trim();
        let is_within = line.starts_with([' ', '\t']);
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) || is_within {
            continue;
        }
        if let Some(section) = trimmed.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            found.entry(section.0.to_owned()).or_default();
            name = Some(section.0.to_owned());
        } else if let Some((section, at)) = name.as_ref().zip(trimmed.find(['=', ':'])) {
            let (key, value) = (trimmed[..at].trim().to_lowercase(), trimmed[at + 1..].trim());
            found.entry(section.clone()).or_default().0.insert(key, Secret::new(value));
        }
    }
    found
}

/// Reads a small text file of at most `bound` bytes. `None` if it does not exist.
pub(crate) async fn read(path: &str, bound: u64) -> Result<Option<Secret>, String> {
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = String::new();
    let read = file.take(bound + 1).read_to_string(&mut text).await.map_err(|error| error.to_string())?;
    if read as u64 > bound {
        return Err(format!("it has more than {bound} bytes"));
    }
    Ok(Some(Secret::new(text)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CREDENTIALS: &str = "\u{feff}# a comment\n[default]\naws_access_key_id = AKD\n\
        aws_secret_access_key: hunter/2+a=b\n; another\n[ci]\nAWS_ACCESS_KEY_ID=AKC\n\
        aws_secret_access_key=hunter2\naws_session_token = token\n[half]\naws_access_key_id = AKH\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1\ns3 =\n    addressing_style = path\n\n\
        [profile only here]\naws_access_key_id = AKO\naws_secret_access_key = hunter2\n\
        [profile \"ci\"]\nregion = eu-north-1\naws_access_key_id = other\n[profile sso]\nsso_account_id = 1\n\
        [profile program]\ncredential_process = /bin/x\n[profile role]\nrole_arn = arn:r\nsource_profile = ci\n\
        external_id = e\nduration_seconds = 900\n[profile web]\nrole_arn = arn:w\nweb_identity_token_file = /t\n\
        [services x]\nregion = no\n";

    fn profiles(asked: Option<&str>) -> Profiles {
        Profiles::of(asked, sections(CREDENTIALS), sections(CONFIG))
    }

    fn keys(asked: Option<&str>) -> Result<Option<(String, String, Option<String>)>> {
        let found = profiles(asked).keys()?;
        Ok(found.map(|keys| {
            let token = keys.session_token().map(str::to_owned);
            (keys.access_key_id().to_owned(), keys.secret_access_key().to_owned(), token)
        }))
    }

    #[test]
    fn keys_are_found_as_in_boto() {
        let of = |id: &str, key: &str, token: Option<&str>| {
            Some((id.to_owned(), key.to_owned(), token.map(str::to_owned)))
        };
        assert_eq!(keys(None).expect("reads"), of("AKD", "hunter/2+a=b", None));
        assert_eq!(keys(Some("ci")).expect("reads"), of("AKC", "hunter2", Some("token")));
        assert_eq!(keys(Some("only here")).expect("reads"), of("AKO", "hunter2", None));
        assert_eq!(keys(Some("web")).expect("reads"), None);
        for (name, why) in [
            ("half", "no aws_secret_access_key"),
            ("sso", "single sign-on"),
            ("program", "credential_process"),
            ("nobody", "there is no profile nobody"),
            ("x", "there is no profile x"),
        ] {
            let error = keys(Some(name)).expect_err(name);
            assert!(error.to_string().contains(why), "{error}");
            assert!(!error.to_string().contains("hunter"), "{error}");
        }
    }

    #[test]
    fn both_files_make_a_profile() {
        let (default, ci) = (profiles(None), profiles(Some("ci")));
        assert_eq!(default.chosen().expect("there").get("region"), Some("eu-west-1"));
        let ci = ci.chosen().expect("there");
        assert_eq!((ci.get("region"), ci.get("aws_access_key_id")), (Some("eu-north-1"), Some("AKC")));
        assert!(
            Profiles::of(None, Sections::new(), Sections::new()).chosen().expect("none asked").0.is_empty()
        );
    }

    #[test]
    fn roles() {
        let role = profiles(Some("role")).chosen().expect("there").role().expect("a role");
        assert_eq!(
            (role.arn.as_str(), role.external_id.as_deref(), role.seconds),
            ("arn:r", Some("e"), Some(900))
        );
        assert!(profiles(Some("web")).chosen().expect("there").role().is_none());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(\\[[a-z \"]{0,8}\\]?|[ \t]?[a-zé]{0,5}[=:][^\\n]{0,9}|[#;].{0,9}|\n){0,20}") {
            let found = sections(&text);
            let _ = Profiles::of(Some("default"), found.clone(), found).keys();
        }

        #[test]
        fn values_survive(key in "[a-z_]{1,12}", value in "[!-~]([ -~]{0,30}[!-~])?") {
            let found = sections(&format!("[default]\n{key} = {value}\n"));
            prop_assert_eq!(found["default"].get(&key), Some(value.as_str()));
        }
    }
}

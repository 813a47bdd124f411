use http::header::HeaderValue;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

struct Site {
    _folder: tempfile::TempDir,
    store: Arc<Store>,
    credentials: Credentials,
    now: SystemTime,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(Store::open(folder.path(), "r", DAY).expect("opened"));
        let keys = Keys::open(folder.path()).expect("a key");
        let credentials = Credentials::new(Arc::clone(&store), &keys).expect("credentials");
        Self { _folder: folder, store, credentials, now: SystemTime::now() }
    }

    fn accepted(&self, name: &str, password: &str, asked: &[&str], readable: &[&str]) {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let credential = credential(name, password);
        let accepted = self.credentials.accepted(&credential, &names(asked), &names(readable), self.now);
        accepted.expect("hashed");
        self.store.flush();
    }

    fn refused(&self, name: &str, password: &str) {
        self.credentials.refused(&credential(name, password), self.now).expect("hashed");
        self.store.flush();
    }

    fn judge(&self, name: &str, password: &str, asked: &[&str]) -> Judged {
        let asked: Vec<_> = asked.iter().map(|name| (*name).to_owned()).collect();
        self.credentials.judge(&credential(name, password), &asked, self.now).expect("hashed")
    }

    fn readable(&self, name: &str, password: &str, asked: &[&str]) -> Option<Vec<String>> {
        match self.judge(name, password, asked) {
            Judged::Known { readable, .. } => Some(readable),
            _ => None,
        }
    }

    /// Forgets what is only in memory, as a restart does.
    fn restart(&self) {
        self.credentials.memo.invalidate_all();
        self.credentials.wrong.invalidate_all();
    }
}

fn credential(name: &str, password: &str) -> Credential {
    Credential { name: name.into(), password: Zeroizing::new(password.into()) }
}

#[test]
fn basic_credentials_are_read() {
    let read = |values: &[&str]| {
        let values =
            values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).expect("a value")));
        Credential::of(&values.collect()).map(|known| (known.name, known.password.to_string()))
    };
    let user = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
    assert_eq!(read(&["Basic dTpw"]), user("u", "p"));
    assert_eq!(read(&["basic dTpwOnE="]), user("u", "p:q"));
    let long = format!("Basic {}", STANDARD.encode("a".repeat(CREDENTIAL_BYTES_MAX) + ":p"));
    for other in
        [&[][..], &["Basic dTpw", "Basic dTpw"], &["Bearer a.b.c"], &["Basic !"], &["Basic dQ=="], &[&*long]]
    {
        assert_eq!(read(other), None, "{other:?}");
    }
    assert_eq!(format!("{:?}", credential("u", "hunter2")), "Credential(<name and password>)");
}

#[test]
fn a_credential_may_read_what_the_registry_let_it_read_and_nothing_else() {
    let site = Site::new();
    site.accepted("u", "p", &["o/a", "o/b"], &["o/a"]);
    site.accepted("v", "p", &["o/b"], &["o/b"]);
    for _ in 0..2 {
        assert_eq!(site.readable("u", "p", &["o/a", "o/b", "o/c"]), Some(vec!["o/a".into()]));
        assert_eq!(site.readable("v", "p", &["o/a", "o/b"]), Some(vec!["o/b".into()]));
        assert_eq!(site.judge("u", "q", &["o/a"]), Judged::Wrong);
        assert_eq!(site.judge("w", "p", &["o/a"]), Judged::Unknown);
        site.restart();
    }
}

#[test]
fn what_the_registry_takes_back_ends() {
    let site = Site::new();
    site.accepted("u", "p", &["o/a", "o/b"], &["o/a", "o/b"]);
    site.accepted("u", "p", &["o/b"], &[]);
    assert_eq!(site.readable("u", "p", &["o/a", "o/b"]), Some(vec!["o/a".into()]));
    site.accepted("u", "renewed", &["o/a"], &["o/a"]);
    site.restart();
    site.refused("u", "wrong");
    assert!(site.readable("u", "p", &["o/a"]).is_some(), "a wrong password takes nothing from the right one");
    site.refused("u", "p");
    assert_eq!(site.judge("u", "p", &["o/a"]), Judged::Wrong);
    assert!(site.readable("u", "renewed", &["o/a"]).is_some(), "another password of the same name stays");
    site.accepted("u", "p", &["o/a"], &["o/a"]);
    assert!(site.readable("u", "p", &["o/a"]).is_some(), "accepted again");
}

#[test]
fn wrong_passwords_of_one_name_are_bounded() {
    let site = Site::new();
    site.accepted("u", "p", &["o/a"], &["o/a"]);
    for number in 0..WRONG_MAX {
        assert_eq!(site.judge("u", &format!("guess {number}"), &[]), Judged::Wrong);
    }
    assert_eq!(site.judge("u", "one more", &[]), Judged::TooMany);
    assert!(site.readable("u", "p", &["o/a"]).is_some(), "whoever logged in lately still can");
    site.credentials.memo.invalidate_all();
    assert_eq!(site.judge("u", "p", &["o/a"]), Judged::TooMany);
    assert_eq!(site.judge("v", "p", &[]), Judged::Unknown, "other names are not concerned");
}

#[test]
fn nothing_of_a_credential_is_on_disk_in_the_clear() {
    let site = Site::new();
    site.accepted("some-user-name", "some-password", &["o/a"], &["o/a"]);
    for file in std::fs::read_dir(site._folder.path()).expect("a folder") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("read");
        for secret in ["some-user-name", "some-password"] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));
        }
    }
}

use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use proptest::prelude::*;

use super::*;

const SETTINGS: OfflineSettings = OfflineSettings { max_age: Duration::from_secs(24 * 3600), tokens: true };

fn open(folder: &Path, settings: OfflineSettings) -> Remembered {
    Remembered::open(folder, "r", "quay.example.com", settings).expect("opened")
}

fn user() -> Credential {
    let headers: HeaderMap = [(AUTHORIZATION, "Basic dTpw".parse().expect("a value"))].into_iter().collect();
    Credential::of(&headers).expect("a credential")
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn token(login: Login) -> String {
    match login {
        Login::Token(token, _) => token,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_ends_with_the_permission_behind_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (remembered, now) = (open(folder.path(), SETTINGS), SystemTime::now());
    let credentials = remembered.credentials().expect("they are remembered");
    credentials.accepted(&user(), &names(&["o/a"]), &names(&["o/a"]), now).expect("hashed");
    remembered.store().served_anonymously("o/public", now);
    remembered.store().flush();
    let asked = names(&["o/a", "o/b", "o/public"]);
    let login = |credential| token(remembered.login(credential, &asked, now).expect("a login"));
    let (own, anonymous) = (login(Some(&user())), login(None));
    let may = |token: &str, name: &str| remembered.may_read(Shown::Token(token), name, now);
    assert_eq!(["o/a", "o/b", "o/public"].map(|name| may(&own, name)), [true, false, false]);
    assert_eq!(["o/a", "o/b", "o/public"].map(|name| may(&anonymous, name)), [false, false, true]);
    assert!(
        remembered.may_read(Shown::Nothing, "o/public", now)
            && !remembered.may_read(Shown::Nothing, "o/a", now)
    );
    credentials.refused(&user(), now).expect("hashed");
    remembered.store().refused_anonymously("o/public");
    remembered.store().flush();
    assert!(!may(&own, "o/a") && !may(&anonymous, "o/public"));
    assert!(matches!(remembered.login(Some(&user()), &asked, now), Ok(Login::Unknown)));
}

#[test]
fn without_tokens_nobody_logs_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let remembered = open(folder.path(), OfflineSettings { tokens: false, ..SETTINGS });
    assert!(remembered.credentials().is_none());
    assert!(matches!(remembered.login(None, &[], SystemTime::now()), Ok(Login::Unknown)));
    assert!(!folder.path().join("offline.key").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A token permits exactly what was asked for, what the registry let this credential read, and what was not taken back.
    #[test]
    fn no_token_permits_more_than_the_registry_did(
        granted in prop::collection::btree_set(0usize..6, 0..6),
        asked in prop::collection::btree_set(0usize..6, 0..6),
        taken_back in prop::collection::btree_set(0usize..6, 0..3),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let (remembered, now) = (open(folder.path(), SETTINGS), SystemTime::now());
        let credentials = remembered.credentials().expect("they are remembered");
        let of = |places: &std::collections::BTreeSet<usize>| -> Vec<String> {
            places.iter().map(|place| format!("o/{place}")).collect()
        };
        credentials.accepted(&user(), &of(&granted), &of(&granted), now).expect("hashed");
        credentials.accepted(&user(), &of(&taken_back), &[], now).expect("hashed");
        remembered.store().flush();
        let token = token(remembered.login(Some(&user()), &of(&asked), now).expect("a login"));
        for place in 0..6 {
            let expected = granted.contains(&place) && asked.contains(&place) && !taken_back.contains(&place);
            prop_assert_eq!(remembered.may_read(Shown::Token(&token), &format!("o/{place}"), now), expected);
        }
    }
}

//! `admin`.

use super::{GATEWAY, loaded, refused};

#[test]
fn over_tls_the_names_of_clients_are_known_hosts() {
    let of = |admin: &str| loaded(&format!("{GATEWAY}admin: {admin}\n"), &[]).admin;
    let plain = of("{hosts: [ops.example.com]}");
    assert!(!plain.tls && plain.hosts == ["ops.example.com"]);
    let tls = of("{hosts: [ops.example.com], tls: true}");
    assert!(tls.tls && tls.hosts == ["ops.example.com", "quay.example.com"]);
    assert!(loaded(GATEWAY, &[("QUAY_GATEWAY__ADMIN__TLS", "true")]).admin.tls);
}

#[test]
fn tls_is_true_or_false() {
    let of = |wrong: &str| refused(&format!("{GATEWAY}admin: {{tls: {wrong}}}\n"));
    assert_eq!(of("maybe"), "gateway.yaml:2: expected true or false");
    for wrong in ["{certificate: tls.crt, key: tls.key}", "[true]"] {
        assert!(of(wrong).starts_with("gateway.yaml:2: "), "{}", of(wrong));
    }
}

//! Wrong values of `tls`.

use super::{GATEWAY, refused};

#[test]
fn an_error_names_its_line() {
    for (gateway, wanted) in [
        (
            &format!("{GATEWAY}tls:\n  certificate: quay.yaml\n"),
            "gateway.yaml:3: tls.certificate without tls.key",
        ),
        (
            &format!("{GATEWAY}tls:\n  more:\n    - {{certificate: quay.yaml, key: quay.yaml}}\n"),
            "gateway.yaml:4: tls.more without tls.certificate",
        ),
        (
            &format!(
                "{GATEWAY}tls:\n  certificate: quay.yaml\n  key: quay.yaml\n  more:\n    - {{certificate: quay.yaml, key: quay.yaml}}\n"
            ),
            "quay.yaml is named twice",
        ),
        (
            &format!(
                "{GATEWAY}tls:\n  certificate: quay.yaml\n  key: quay.yaml\n  more: [{{key: quay.yaml}}]\n"
            ),
            "gateway.yaml:5: tls.more: an entry has no certificate",
        ),
        (
            &format!("{GATEWAY}tls: {{client_ca: nowhere.pem}}\n"),
            "tls.client_ca: there is no file nowhere.pem",
        ),
    ] {
        let error = refused(gateway);
        assert!(error.contains(wanted), "{gateway}\n{error}\nwanted {wanted}");
    }
}

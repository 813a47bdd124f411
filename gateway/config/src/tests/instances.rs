//! The instances of the registry.

use super::*;

#[test]
fn instances_of_all_zones() {
    let settings = loaded(INSTANCES, &[]);
    let all: Vec<_> = settings
        .instances
        .iter()
        .map(|instance| (instance.name.as_str(), instance.zone.as_str(), instance.server_name.as_str()))
        .collect();
    let own = "quay.example.com";
    assert_eq!(
        all,
        [("zone-b", "zone-b", own), ("zone-a", "zone-a", "a.internal"), ("zone-b~2", "zone-b", own)]
    );
    assert!(!settings.warnings.iter().any(|warning| warning.contains("registry.instances")));
    let printed = crate::Summary::of(&settings).to_string();
    assert!(
        printed.contains("https://b.internal:8443/, certificate for quay.example.com, prefers zone-b"),
        "{printed}"
    );
    let elsewhere = loaded(&INSTANCES.replace("home: zone-a", "home: zone-c"), &[]);
    assert!(elsewhere.warnings.iter().any(|warning| warning.contains("has the home zone zone-c")));
    let given = [("QUAY_GATEWAY__REGISTRY__INSTANCES", "[{url: 'http://c', zone: zone-c}]")];
    assert_eq!(loaded(INSTANCES, &given).instances[0].name, "zone-c");
}

#[test]
fn an_error_in_an_instance_names_its_line() {
    for (from, to, wanted) in [
        (
            "zone: zone-a,",
            "zone: zone-aa,",
            "gateway.yaml:6: registry.instances: there is no zone zone-aa; did you mean zone-a?",
        ),
        (
            "zone: zone-a,",
            "zone: paris,",
            "gateway.yaml:6: registry.instances: there is no zone paris; zones are zone-a, zone-b, zone-c",
        ),
        ("zone: zone-a, ", "", "gateway.yaml:6: registry.instances: https://a.internal:8443/ has no zone"),
        (
            "http://b2.internal",
            "https://A.internal:8443/",
            "gateway.yaml:7: registry.instances: https://a.internal:8443/ is there twice",
        ),
        ("url: 'http://b2.internal', ", "", "gateway.yaml:7: registry.instances: an entry has no url"),
        ("http://b2.internal", "http://b2/x", "gateway.yaml:7: registry.instances: url: must hold no path"),
        ("server_name:", "servername:", "gateway.yaml:6:"),
        (
            "  config:",
            "  url: https://q\n  config:",
            "gateway.yaml:3: registry.url and registry.instances are both given: remove registry.url",
        ),
    ] {
        let gateway = INSTANCES.replace(from, to);
        assert_ne!(gateway, INSTANCES, "{from}");
        let error = refused(&gateway);
        assert!(error.contains(wanted), "{gateway}\n{error}\nwanted {wanted}");
    }
    let none = refused("registry:\n  config: quay.yaml\n  instances: []\n");
    assert!(none.contains("gateway.yaml:3: registry.instances: 0 entries"), "{none}");
    let other = refused("registry:\n  kind: distribution\n  instances: [{url: 'http://x', zone: a}]\n");
    assert!(other.contains("gateway.yaml:3: registry.instances are Quay instances that share"), "{other}");
    let variable = [("QUAY_GATEWAY__REGISTRY__URL", "http://x")];
    let both = refused_with(INSTANCES, QUAY, &variable);
    assert!(both.contains("gateway.yaml: registry.url (from QUAY_GATEWAY__REGISTRY__URL) and"), "{both}");
}

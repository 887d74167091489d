use serde_json::json;

use crate::domain::policies::check::tests::{found, read};

#[test]
fn a_contradiction_names_both_settings() {
    let cases = [
        (json!({"network": {"vpn_always_on": true}}), "network.vpn_always_on", "network.vpn_required"),
        (
            json!({"network": {"vpn_always_on": true, "vpn_required": false}}),
            "network.vpn_always_on",
            "network.vpn_required",
        ),
        (
            json!({"network": {"allowed_domains": ["a.example"], "blocked_domains": ["b.example", "A.example"]}}),
            "network.allowed_domains[0]",
            "network.blocked_domains[1]",
        ),
        (
            json!({"dlp": {"clipboard_sharing": false, "clipboard_direction": "both"}}),
            "dlp.clipboard_direction",
            "dlp.clipboard_sharing",
        ),
        (json!({"usb": {"allowed": false, "audit_only": true}}), "usb.audit_only", "usb.allowed"),
        (
            json!({"applications": {"required_apps": ["com.acme.mail"], "blocked_apps": ["org.*", "com.acme.*"]}}),
            "applications.required_apps[0]",
            "applications.blocked_apps[1]",
        ),
        (
            json!({"applications": {"required_apps": ["com.*"], "blocked_apps": ["com.*"]}}),
            "applications.required_apps[0]",
            "applications.blocked_apps[0]",
        ),
        (
            json!({"applications": {
            "install_mode": "managed_only", "managed_apps": ["com.acme.*"], "required_apps": ["org.other"]}}),
            "applications.required_apps[0]",
            "applications.managed_apps",
        ),
        (
            json!({"compliance": {"passcode_required": false, "passcode_min_length": 6}}),
            "compliance.passcode_min_length",
            "compliance.passcode_required",
        ),
        (
            json!({"compliance": {"encryption_required": true}, "storage": {"encryption_required": false}}),
            "compliance.encryption_required",
            "storage.encryption_required",
        ),
    ];
    for (data, one, other) in cases {
        let found = found(read(&data).contradictions(false));
        assert_eq!(found.len(), 1, "{data}: {found:?}");
        let start = format!("policy_data.{one} contradicts policy_data.{other}: ");
        assert!(found[0].starts_with(&start), "{}", found[0]);
    }
}

#[test]
fn what_may_be_inherited_is_not_yet_a_contradiction() {
    let open = read(&json!({"network": {"vpn_always_on": true}}));
    assert!(open.contradictions(true).is_empty());
    let closed = read(&json!({"network": {"vpn_always_on": true, "vpn_required": false}}));
    assert_eq!(closed.contradictions(true).len(), 1);
}

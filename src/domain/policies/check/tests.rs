use serde_json::{Value, json};

use super::*;

pub(in crate::domain::policies) fn read(data: &Value) -> PolicyData {
    serde_json::from_value(data.clone()).unwrap()
}

pub(in crate::domain::policies) fn found(errors: Vec<FieldError>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_well_formed_passes() {
    let data = json!({
        "dlp": {"clipboard_sharing": true, "clipboard_direction": "both", "sensitive_data_patterns": [r"\b\d{16}\b"]},
        "network": {
            "vpn_required": true, "vpn_always_on": true, "split_tunnel": true,
            "allowed_domains": ["intranet", "*.acme.example", "mail.acme.example", "bücher.example"],
            "blocked_domains": ["*.mail.acme.example"], "dns_servers": ["9.9.9.9", "2620:fe::fe"],
        },
        "usb": {"allowed": false, "whitelist": ["046d:C52B"], "allowed_classes": ["HID", "audio"]},
        "container": {"memory_limit": "512m", "cpu_limit": 1.5, "storage_limit": "20G"},
        "applications": {
            "install_mode": "managed_only", "managed_apps": ["com.acme.*"], "blocked_apps": ["*.games.*"],
            "required_apps": ["com.acme.mail", "org.*.editor"],
        },
        "compliance": {"passcode_min_length": 8, "min_os_version": "14.2.1", "update_required_within": "30d"},
    });
    let data = read(&data);
    assert_eq!((found(data.check()), found(data.contradictions(false))), (Vec::new(), Vec::new()));
}

#[test]
fn each_wrong_setting_is_named_with_its_place() {
    let long = format!(r"(\pL{{100}}){{{}}}", 100);
    let cases = [
        ("network", "allowed_domains", json!(["ok.example", "not a domain"]), "[1] is not a domain"),
        ("network", "allowed_domains", json!(["10.0.0.1"]), "[0] is not a domain"),
        ("network", "allowed_domains", json!(["*"]), "[0] is not a domain"),
        ("network", "blocked_domains", json!(["a.*.example"]), "[0] is not a domain"),
        ("network", "blocked_domains", json!(["https://a.example"]), "[0] is not a domain"),
        (
            "network",
            "blocked_domains",
            json!(["*.B.example", "*.b.example"]),
            "[1] is the same as policy_data.network.blocked_domains[0]",
        ),
        (
            "network",
            "blocked_domains",
            json!(["bücher.example", "xn--bcher-kva.example"]),
            "[1] is the same as policy_data.network.blocked_domains[0]",
        ),
        ("network", "dns_servers", json!(["dns.example"]), "[0] is not an IP address"),
        ("network", "dns_servers", json!(["0.0.0.0"]), "[0] is not the address of a server"),
        (
            "usb",
            "whitelist",
            json!(["046d:c52b", "46d:c52b"]),
            "[1] is not vendor:product in hexadecimal, such as 046d:c52b",
        ),
        ("usb", "whitelist", json!(["046d:c52b", "046D:C52B"]), "[1] is the same as policy_data.usb.whitelist[0]"),
        (
            "usb",
            "allowed_classes",
            json!(["keyboard"]),
            "[0] is not a class of USB devices: audio, cdc, hid, hub, image, mass_storage, network, physical, \
             printer, smart_card, video, wireless",
        ),
        ("usb", "allowed_classes", json!(["HID", "hid"]), "[1] is the same as policy_data.usb.allowed_classes[0]"),
        ("dlp", "sensitive_data_patterns", json!(["(open"]), "[0] is not a regular expression: unclosed group"),
        ("dlp", "sensitive_data_patterns", json!([long]), "[0] is too large a regular expression once compiled"),
        ("applications", "blocked_apps", json!(["a[b"]), "[0] is not a pattern: unclosed character class; missing ']'"),
        ("container", "memory_limit", json!("512"), " is not a size such as 512m or 2g"),
        ("container", "storage_limit", json!("1k"), " must be at least 1m and at most 16t"),
        ("compliance", "min_os_version", json!("v14"), " is not a version of numbers and dots, such as 14.2"),
        ("compliance", "update_required_within", json!("monthly"), " is not a duration such as 12h or 30d"),
        ("compliance", "update_required_within", json!("0d"), " must be at least 1h and at most 3650d"),
    ];
    for (section, setting, value, message) in cases {
        let data = read(&json!({section: {setting: value}}));
        assert_eq!(found(data.check()), [format!("policy_data.{section}.{setting}{message}")]);
    }
}

#[test]
fn an_answer_names_a_limited_number_of_errors() {
    let names: Vec<String> = (0..1000).map(|at| format!("{at} {at}")).collect();
    let data = read(&json!({"network": {"allowed_domains": names, "blocked_domains": names}}));
    assert_eq!(data.check().len(), MAX_ERRORS);
}

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn load(file: &str, variables: &[(&str, &str)], flags: Flags) -> Result<Loaded, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zero.toml");
    std::fs::write(&path, file).unwrap();
    Config::load(Some(&path), environment(variables), flags).map_err(|mistakes| {
        let folder = format!("{}/", dir.path().display());
        mistakes.0.iter().map(|mistake| mistake.to_string().replace(&folder, "")).collect()
    })
}

fn mistakes(file: &str) -> Vec<String> {
    load(file, &[], Flags::default()).expect_err("the file has mistakes")
}

fn keys_of(text: &str) -> BTreeSet<String> {
    let tables: toml::Table = text.parse().unwrap();
    let sections = tables.iter().map(|(section, content)| (section, content.as_table().unwrap()));
    sections.flat_map(|(section, keys)| keys.keys().map(move |key| format!("{section}.{key}"))).collect()
}

fn defaults() -> Loaded {
    Config::load(None, [], Flags::default()).unwrap()
}

#[test]
fn the_documented_file_has_every_setting_and_its_default() {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/config/zero.toml"));
    let documented = Config::load(Some(&path), [], Flags::default()).unwrap();
    assert_eq!(documented.config, Config::default());
    assert_eq!(documented.origins.keys().cloned().collect::<BTreeSet<_>>(), keys_of(&defaults().to_string()));
}

#[test]
fn every_setting_can_be_given_in_the_environment() {
    let plain = defaults().to_string();
    let tables: toml::Table = plain.parse().unwrap();
    for path in keys_of(&plain) {
        let (section, key) = path.split_once('.').unwrap();
        // What cannot stand alone.
        let with: &[(&str, &str)] = match path.as_str() {
            "smtp.host" => &[("ZERO_SMTP_FROM", "zero@example.com")],
            "tls.mode" | "server.public_url" => &[("ZERO_SERVER_NAMES", "zero.example.com")],
            "server.proxy_protocol" => &[("ZERO_SERVER_TRUSTED_PROXIES", "10.0.0.1")],
            _ => &[],
        };
        let candidates = match &tables[section][key] {
            toml::Value::Integer(number) => vec![(number + 1).to_string()],
            toml::Value::Boolean(value) => vec![(!value).to_string()],
            // The first that the setting takes is tried, so one for each kind of text is enough.
            _ => [
                "127.0.0.1:1",
                "10.9.0.0/16",
                "debug",
                "json",
                "starttls",
                "http-01",
                "deny",
                "acme",
                "https://ca.example/dir",
                "https://zero.example.com",
                "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
                "a@b.example",
                "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
                "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa",
            ]
            .map(String::from)
            .to_vec(),
        };
        let variable = format!("ZERO_{section}_{key}").to_uppercase();
        let loaded = candidates
            .iter()
            .find_map(|value| {
                Config::load(None, environment(&[&[(&*variable, &**value)], with].concat()), Flags::default()).ok()
            })
            .unwrap_or_else(|| panic!("{variable} takes none of {candidates:?}"));
        assert!(loaded.origins.contains_key(&path) && loaded.origins.len() == 1 + with.len(), "{:?}", loaded.origins);
        assert_ne!(loaded.config, Config::default(), "{variable} changes nothing");
    }
}

#[test]
fn what_is_printed_can_be_read_back() {
    let changed = environment(&[
        ("ZERO_SERVER_NAMES", "Zero.Example.com, [fd00::1], 192.0.2.7"),
        ("ZERO_SERVER_TRUSTED_PROXIES", "10.0.0.0/8,fd00::/8,127.0.0.1"),
        ("ZERO_LOG_LEVEL", "trace"),
        ("ZERO_STORE_CACHE_MIB", "64"),
    ]);
    let loaded = Config::load(None, changed, Flags::default()).unwrap();
    let again = load(&loaded.to_string(), &[], Flags::default()).unwrap();
    assert_eq!(again.config, loaded.config);
    assert!(loaded.to_string().contains("level = \"trace\"  # ZERO_LOG_LEVEL"), "{loaded}");
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let file = "[server]\nlisten = '127.0.0.1:1'\ndata_dir = 'file'\ndrain_seconds = 1";
    let variables = [("ZERO_SERVER_LISTEN", "127.0.0.1:2"), ("ZERO_DATA_DIR", "environment")];
    let flags = Flags { listen: Some("127.0.0.1:3".into()), data_dir: None };
    let server = load(file, &variables, flags).unwrap().config.server;
    assert_eq!(server.listen.port(), 3);
    assert_eq!(server.data_dir, PathBuf::from("environment"));
    assert_eq!(server.drain, Duration::from_secs(1));
}

#[test]
fn every_mistake_of_every_source_is_reported_at_once_with_its_place() {
    let file = "\
[server]
listen = 8443
lisen = '0.0.0.0:8443'
drain_seconds = 301
names = ['ok', '-bad', 'http://x']

[log]
level = 'loud'

[webhook]
a = 1
";
    let variables = [
        ("ZERO_LIMITS_KEYS", "many"),
        ("ZERO_LOG_LEVL", "info"),
        ("ZERO_CONFIG", "read by the command line"),
        ("ZERO_WEB", "skip"),
        ("HOME", "/root"),
    ];
    let flags = Flags { listen: Some("everywhere".into()), data_dir: Some(String::new()) };
    let names = "each item must be a host name or an IP address, without a port, not";
    let address = "server.listen must be ADDRESS:PORT, such as 0.0.0.0:8443 or [::]:8443, not";
    let expected = [
        format!("zero.toml:2: {address} 8443"),
        "zero.toml:3: server.lisen is no setting".into(),
        "zero.toml:4: server.drain_seconds must be a whole number of seconds from 0 to 300, not 301".into(),
        format!("zero.toml:5: server.names {names} \"-bad\"; {names} \"http://x\""),
        "zero.toml:8: log.level must be one of off, error, warn, info, debug, trace, not \"loud\"".into(),
        "zero.toml:10: there is no section [webhook]".into(),
        "ZERO_LIMITS_KEYS: limits.keys must be a whole number from 1000 to 10000000, not \"many\"".into(),
        "ZERO_LOG_LEVL: no setting has this variable, and ZERO_ is only for settings".into(),
        "--data-dir: server.data_dir must be a path, not \"\"".into(),
        format!("--listen: {address} \"everywhere\""),
    ];
    let found = load(file, &variables, flags).expect_err("the settings have mistakes");
    assert_eq!(found, expected);
}

#[test]
fn a_value_that_something_else_overrides_must_still_be_right() {
    let found = load("[log]\nlevel = 1", &[("ZERO_LOG_LEVEL", "warn")], Flags::default());
    assert_eq!(found.expect_err("the file has a mistake").len(), 1);
}

#[test]
fn broken_toml_is_reported_once_a_line_and_hides_no_other_mistake() {
    let found = mistakes("[server]\nlisten = \n[log]\nlevel = 'loud'\nformat = 'json\n[limits]\nkeys = 1\n");
    let lines: Vec<_> = found.iter().map(|mistake| mistake.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["zero.toml:2", "zero.toml:4", "zero.toml:5", "zero.toml:7"], "{found:#?}");
}

#[test]
fn a_setting_given_twice_or_outside_of_a_section_is_a_mistake() {
    assert_eq!(mistakes("[log]\nlevel = 'info'\nlevel = 'warn'").len(), 1);
    assert_eq!(mistakes("level = 'info'").len(), 1);
    assert_eq!(mistakes("[webhook]"), ["zero.toml:1: there is no section [webhook]"]);
    assert_eq!(mistakes("[server.tls]\nkey = 1"), ["zero.toml:1: server.tls is no setting"]);
}

#[test]
fn numbers_are_whole_and_in_bounds() {
    for value in ["0", "-1", "1.5", "'60'", "true", "99999999999999999999", "[1]", "{ a = 1 }", "2026-01-01"] {
        let found = mistakes(&format!("[auth]\nsessions_per_user = {value}"));
        assert_eq!(found.len(), 1, "{value}: {found:?}");
    }
    assert_eq!(
        load("[auth]\nsessions_per_user = 1_000", &[], Flags::default()).unwrap().config.auth.sessions_per_user,
        1000
    );
}

#[test]
fn a_missing_an_unreadable_and_a_huge_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [("missing", None), ("binary", Some(vec![0xFF])), ("huge", Some(vec![b'#'; (1 << 20) + 1]))] {
        let path = dir.path().join(name);
        if let Some(bytes) = bytes {
            std::fs::write(&path, bytes).unwrap();
        }
        let refused = Config::load(Some(&path), [], Flags::default()).expect_err(name);
        assert_eq!(refused.0.len(), 1, "{refused}");
    }
}

#[test]
fn devices_may_not_be_offline_between_their_check_ins() {
    let found =
        load("[devices]\ncheckin_seconds = 10", &[("ZERO_DEVICES_OFFLINE_AFTER_SECONDS", "10")], Flags::default());
    let found = found.expect_err("the two contradict each other");
    assert!(found.len() == 1 && found[0].starts_with("ZERO_DEVICES_OFFLINE_AFTER_SECONDS: "), "{found:?}");
    // One that is wrong by itself is not compared too.
    assert_eq!(mistakes("[devices]\ncheckin_seconds = 600\noffline_after_seconds = 'x'").len(), 1);
}

#[test]
fn the_two_names_of_the_data_directory_may_not_contradict() {
    let both = |short, long| {
        load("", &[("ZERO_DATA_DIR", short), ("ZERO_SERVER_DATA_DIR", long)], Flags::default()).map_err(|m| m.len())
    };
    assert_eq!(both("a", "a").unwrap().config.server.data_dir, PathBuf::from("a"));
    assert_eq!(both("a", "b").expect_err("they differ"), 1);
}

#[test]
fn a_network_with_bits_after_its_prefix_is_a_mistake() {
    for (key, value) in [("server]\ntrusted_proxies", "['10.0.0.1/8']"), ("devices]\naddress_pool", "'10.100.0.1/16'")]
    {
        assert_eq!(mistakes(&format!("[{key} = {value}")).len(), 1);
    }
}

#[test]
fn hosts_are_names_or_addresses() {
    assert_eq!(Host::parse("Zero.Example.COM."), Some(Host::Name("zero.example.com".into())));
    assert_eq!(Host::parse("[fd00::1]").unwrap().to_string(), "[fd00::1]");
    assert_eq!(Host::parse("fd00::1"), Host::parse("[fd00::1]"));
    let long = "a".repeat(64);
    for wrong in ["", ".", "a..b", "-a", "a-", "*.example.com", "a_b", "a:443", "10.0.0.256", "a b", &long, "ü.example"]
    {
        assert_eq!(Host::parse(wrong), None, "{wrong:?}");
    }
}

#[test]
fn a_secret_never_prints() {
    let secret = Secret::new("hunter2hunter2");
    assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    assert_eq!(secret.expose(), "hunter2hunter2");
}

#[test]
fn the_password_of_the_mail_server_shows_in_no_listing_and_no_mistake() {
    let file = "[smtp]\nhost = 'mail.example.com'\nfrom = 'Zero <zero@example.com>'\nusername = 'zero'";
    let loaded = load(file, &[("ZERO_SMTP_PASSWORD", "hunter2hunter2")], Flags::default()).unwrap();
    assert_eq!(loaded.config.smtp.password.expose(), "hunter2hunter2");
    assert!(loaded.to_string().contains("password = \"***\"  # ZERO_SMTP_PASSWORD"), "{loaded}");
    assert!(!format!("{loaded} {loaded:?}").contains("hunter2"));
    let long = "hunter2".repeat(200);
    for wrong in ["[smtp]\npassword = 8446744073".into(), format!("[smtp]\npassword = '{long}'")] {
        let found = mistakes(&wrong).concat();
        assert!(found.contains("smtp.password") && !found.contains("hunter2") && !found.contains("844674"), "{found}");
    }
}

#[test]
fn mail_needs_a_sender_both_halves_of_a_sign_in_and_tls_beyond_the_private_network() {
    for (settings, named) in [
        ("host = 'mail.example.com'", "smtp.from"),
        ("host = 'mail.example.com'\nfrom = 'a@b.example'\nusername = 'a'", "smtp.password"),
        ("host = 'mail.example.com'\nfrom = 'a@b.example'\ntls = 'none'", "smtp.tls"),
        ("host = '192.0.2.1'\nfrom = 'a@b.example'\ntls = 'none'", "smtp.tls"),
        ("from = 'nobody'", "smtp.from"),
        ("host = 'mail:25'\nfrom = 'a@b.example'", "smtp.host"),
    ] {
        let found = mistakes(&format!("[smtp]\n{settings}"));
        assert!(found.len() == 1 && found[0].contains(named), "{settings}: {found:?}");
    }
    for near in ["localhost", "127.0.0.1", "10.0.0.25", "::1", "fd00::19"] {
        load(&format!("[smtp]\nhost = '{near}'\nfrom = 'a@b.example'\ntls = 'none'"), &[], Flags::default()).unwrap();
    }
}

#[test]
fn a_certificate_is_asked_for_by_name_and_comes_from_somewhere() {
    let load = |variables: &[(&str, &str)]| Config::load(None, environment(variables), Flags::default());
    let refused = |variables: &[(&str, &str)]| load(variables).unwrap_err().to_string();
    let acme = ("ZERO_TLS_MODE", "acme");
    assert!(refused(&[acme]).contains("needs a DNS name in server.names"));
    assert!(refused(&[acme, ("ZERO_SERVER_NAMES", "192.0.2.7")]).contains("needs a DNS name in server.names"));
    assert!(load(&[acme, ("ZERO_SERVER_NAMES", "192.0.2.7,zero.example.com")]).is_ok());
    let files = ("ZERO_TLS_MODE", "files");
    let (cert, key) = (("ZERO_TLS_CERT_FILE", "/a.pem"), ("ZERO_TLS_KEY_FILE", "/a.key"));
    assert!(refused(&[files, cert]).contains("needs tls.cert_file and tls.key_file"));
    assert!(refused(&[files, cert, key]).contains("needs server.names"));
    assert!(load(&[files, cert, key, ("ZERO_SERVER_NAMES", "192.0.2.7")]).is_ok());
    assert!(refused(&[("ZERO_TLS_ACME_DIRECTORY", "http://ca.example/dir")]).contains("must be an https URL"));
}

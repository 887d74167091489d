//! Installing on the image of a machine, upgrading it, and leaving it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::server::zero;

fn run(command: &str, root: &TempDir, more: &[&str]) -> Output {
    let path = std::env::var("PATH").unwrap();
    let mut command = zero(&[command, "--root", root.path().to_str().unwrap()]);
    command.args(more).env("PATH", path).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_machine_is_installed_upgraded_with_its_settings_and_left_with_its_data() {
    let root = TempDir::new().unwrap();
    let path = |file: &str| root.path().join(file);
    let installed = run("install", &root, &[]);
    assert!(installed.status.success(), "{}", text(&installed));
    let mode = |file: &str| fs::metadata(path(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("usr/bin/zero"), mode("etc/zero/zero.toml")), (0o755, 0o640));
    assert!(fs::read_to_string(path("etc/passwd")).unwrap().starts_with("zero:x:"), "a user of its own");
    let group: u32 = fs::read_to_string(path("etc/group")).unwrap().split(':').nth(2).unwrap().parse().unwrap();
    assert_eq!(fs::metadata(path("etc/zero/zero.toml")).unwrap().gid(), group, "the service could not read it");
    assert!(path("etc/systemd/system/multi-user.target.wants/zero.service").symlink_metadata().is_ok());
    let checked = zero(&["check-config", "--config", path("etc/zero/zero.toml").to_str().unwrap()]).output().unwrap();
    assert!(text(&checked).contains("0.0.0.0:443"), "{}", text(&checked));

    // Again, as an upgrade does.
    fs::write(path("etc/zero/zero.toml"), "[server]\nlisten = \"0.0.0.0:8443\"\n").unwrap();
    fs::write(path("usr/bin/zero"), "an older one").unwrap();
    fs::create_dir_all(path("var/lib/zero")).unwrap();
    fs::write(path("var/lib/zero/zero.redb"), "data").unwrap();
    let upgraded = run("install", &root, &[]);
    assert!(upgraded.status.success(), "{}", text(&upgraded));
    assert!(fs::read_to_string(path("etc/zero/zero.toml")).unwrap().contains("8443"));
    assert!(fs::metadata(path("usr/bin/zero")).unwrap().len() > 1_000_000);

    let removed = run("uninstall", &root, &[]);
    assert!(removed.status.success(), "{}", text(&removed));
    for file in ["usr/bin/zero", "etc/systemd/system/zero.service", "etc/sysusers.d/zero.conf"] {
        assert!(!path(file).exists(), "{file}");
    }
    assert!(path("etc/systemd/system/multi-user.target.wants/zero.service").symlink_metadata().is_err());
    assert!(path("var/lib/zero/zero.redb").exists() && path("etc/zero/zero.toml").exists());
    assert!(run("uninstall", &root, &["--purge"]).status.success());
    assert!(!path("var/lib/zero").exists() && !path("etc/zero").exists());
}

#[test]
fn what_a_package_has_installed_is_left_to_it() {
    let root = TempDir::new().unwrap();
    fs::create_dir_all(root.path().join("var/lib/dpkg/info")).unwrap();
    fs::write(root.path().join("var/lib/dpkg/info/zero.list"), "").unwrap();
    for command in ["install", "uninstall"] {
        let refused = run(command, &root, &[]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused).contains("use apt"), "{}", text(&refused));
    }
    assert!(!root.path().join("usr/bin/zero").exists());
}

#[test]
fn the_service_can_do_no_more_than_it_needs() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/systemd/zero.service");
    // An exposure of at most 2.0, in tenths.
    let judged = Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=20", unit]).output();
    let judged = judged.expect("systemd-analyze, from the package systemd");
    assert!(judged.status.success(), "{}", text(&judged));
}

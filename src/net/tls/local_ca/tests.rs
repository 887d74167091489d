use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

use tempfile::TempDir;

use super::*;

const NOW: Time = Time::from_unix(1_790_000_000);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A machine with the one address that can be changed.
struct Machine(Arc<Mutex<&'static str>>);

impl Machine {
    fn at(address: &'static str) -> Self {
        Self(Arc::new(Mutex::new(address)))
    }

    fn moves_to(&self, address: &'static str) {
        *self.0.lock().unwrap() = address;
    }

    fn open(&self, directory: &TempDir, configured: &[&str], now: Time) -> Result<LocalCa, TlsError> {
        let address = self.0.clone();
        let add: AddCurrent = Box::new(move |names| names.add(*address.lock().unwrap()));
        let configured: Vec<String> = configured.iter().map(|name| name.to_string()).collect();
        LocalCa::open_on(add, directory.path(), &configured, None, now)
    }
}

fn open(directory: &TempDir, now: Time) -> Result<LocalCa, TlsError> {
    Machine::at("192.0.2.1").open(directory, &["zero.example.com"], now)
}

fn refused(directory: &TempDir, now: Time) -> String {
    open(directory, now).err().expect("is refused").to_string()
}

fn file(directory: &TempDir, name: &str) -> String {
    fs::read_to_string(directory.path().join(name)).unwrap()
}

#[test]
fn keys_are_for_the_owner_only_and_the_ca_for_everyone() {
    let directory = TempDir::new().unwrap();
    open(&directory, NOW).unwrap();
    let mode = |name: &str| fs::metadata(directory.path().join(name)).unwrap().mode() & 0o777;
    assert_eq!([mode("ca.key"), mode("server.key")], [0o600, 0o600]);
    assert_eq!([mode("ca.pem"), mode("server.pem")], [0o644, 0o644]);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 4, "nothing is left lying about");
}

#[test]
fn a_restart_changes_nothing_that_clients_trust_or_cache() {
    let directory = TempDir::new().unwrap();
    let fingerprint = open(&directory, NOW).unwrap().authority().fingerprint();
    let before = [file(&directory, "ca.pem"), file(&directory, "server.pem")];
    let again = open(&directory, NOW.plus(DAY)).unwrap();
    assert_eq!([file(&directory, "ca.pem"), file(&directory, "server.pem")], before);
    assert_eq!(again.authority().fingerprint(), fingerprint);
    assert_eq!(fingerprint.len(), 32 * 3 - 1);
    assert!(!again.renew(NOW.plus(DAY)).unwrap());
}

#[test]
fn the_certificate_says_what_clients_check() {
    let directory = TempDir::new().unwrap();
    let ca = open(&directory, NOW).unwrap();
    let server = CertificateDer::from_pem_slice(file(&directory, "server.pem").as_bytes()).unwrap();
    let server = authority::parse(&server).unwrap();
    assert!(ca.authority().has_signed(&server));
    assert!(!server.is_ca());
    assert_eq!(server.validity().not_before.timestamp(), NOW.unix() - 3600, "for clients whose clock is behind");
    assert_eq!(server.validity().not_after.timestamp(), NOW.plus(30 * DAY).unix());
    let usage = server.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth);
    for host in ["zero.example.com", "localhost", "127.0.0.1", "[::1]", "192.0.2.1"] {
        assert!(names_of(&server).unwrap().contains(host), "{host}");
        assert!(ca.names().contains(host), "{host}");
    }

    let root = CertificateDer::from_pem_slice(ca.authority().certificate_pem().as_bytes()).unwrap();
    let root = authority::parse(&root).unwrap();
    assert!(root.is_ca());
    assert_eq!(root.validity().not_after.timestamp(), NOW.plus(3650 * DAY).unix());
    assert!(root.subject().to_string().starts_with("CN=Zero local CA "));
    assert_ne!(root.raw_serial(), server.raw_serial());
}

#[test]
fn the_certificate_is_renewed_before_clients_see_it_expire() {
    let directory = TempDir::new().unwrap();
    let ca = open(&directory, NOW).unwrap();
    assert!(!ca.renew(NOW.plus(19 * DAY)).unwrap());
    assert!(ca.renew(NOW.plus(21 * DAY)).unwrap());
    assert_eq!(ca.facts().unwrap().not_after, NOW.plus(51 * DAY));

    let renewed = file(&directory, "server.pem");
    let reopened = open(&directory, NOW.plus(60 * DAY)).unwrap();
    assert_ne!(file(&directory, "server.pem"), renewed, "expired while the appliance was off");
    assert_eq!(reopened.facts().unwrap().not_after, NOW.plus(90 * DAY));
}

#[test]
fn a_new_address_or_name_is_certified_soon() {
    let directory = TempDir::new().unwrap();
    let machine = Machine::at("192.0.2.1");
    let ca = machine.open(&directory, &[], NOW).unwrap();
    machine.moves_to("192.0.2.99");
    assert!(ca.renew(NOW).unwrap());
    assert!(ca.names().contains("192.0.2.99") && !ca.names().contains("192.0.2.1"));

    let before = file(&directory, "server.pem");
    let renamed = machine.open(&directory, &["new.example.com"], NOW).unwrap();
    assert!(renamed.names().contains("new.example.com"));
    assert_ne!(file(&directory, "server.pem"), before);
}

#[test]
fn a_renewal_that_fails_leaves_the_old_certificate_in_place() {
    let directory = TempDir::new().unwrap();
    let machine = Machine::at("192.0.2.1");
    let ca = machine.open(&directory, &[], NOW).unwrap();
    machine.moves_to("not an address");
    assert!(ca.renew(NOW).is_err());
    machine.moves_to("192.0.2.2");
    fs::remove_dir_all(&directory).unwrap();
    assert!(ca.renew(NOW).is_err());
    assert!(ca.names().contains("192.0.2.1"));
    assert_eq!(ca.facts().unwrap().not_after, NOW.plus(30 * DAY));
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_remedy() {
    for name in ["ca.key", "server.key"] {
        let directory = TempDir::new().unwrap();
        open(&directory, NOW).unwrap();
        let path = directory.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let text = refused(&directory, NOW);
        assert!(text.contains(&format!("chmod 600 {}", path.display())), "{text}");
    }
}

#[test]
fn a_damaged_authority_is_refused_and_left_as_it_is() {
    for (name, damage) in [
        ("ca.pem", (|text: &str| text[..text.len() / 2].to_owned()) as fn(&str) -> String),
        ("ca.pem", |_| String::new()),
        ("ca.pem", |text| text.replacen("MII", "MIJ", 1)),
        ("ca.key", |text| text[..text.len() / 2].to_owned()),
        ("ca.key", |_| authority::new_key().unwrap().serialize_pem()),
    ] {
        let directory = TempDir::new().unwrap();
        open(&directory, NOW).unwrap();
        let damaged = damage(&file(&directory, name));
        fs::write(directory.path().join(name), &damaged).unwrap();
        let text = refused(&directory, NOW);
        assert!(text.contains("ca.") && text.contains("backup"), "{text}");
        assert_eq!(file(&directory, name), damaged);
    }
}

#[test]
fn a_server_certificate_is_no_authority() {
    let directory = TempDir::new().unwrap();
    open(&directory, NOW).unwrap();
    fs::copy(directory.path().join("server.pem"), directory.path().join("ca.pem")).unwrap();
    fs::copy(directory.path().join("server.key"), directory.path().join("ca.key")).unwrap();
    assert!(refused(&directory, NOW).contains("not the certificate of an authority"));
}

#[test]
fn a_lost_authority_key_is_reported_not_replaced() {
    let directory = TempDir::new().unwrap();
    open(&directory, NOW).unwrap();
    fs::remove_file(directory.path().join("ca.key")).unwrap();
    assert!(refused(&directory, NOW).contains("ca.key is missing"));
    assert!(!directory.path().join("ca.key").exists());
}

/// Also what a power cut between the two files of the first start leaves.
#[test]
fn a_lost_authority_certificate_is_made_again_so_that_old_trust_holds() {
    let directory = TempDir::new().unwrap();
    open(&directory, NOW).unwrap();
    let old = CertificateDer::from_pem_slice(file(&directory, "ca.pem").as_bytes()).unwrap();
    fs::remove_file(directory.path().join("ca.pem")).unwrap();
    fs::remove_file(directory.path().join("server.pem")).unwrap();
    open(&directory, NOW.plus(DAY)).unwrap();
    let server = CertificateDer::from_pem_slice(file(&directory, "server.pem").as_bytes()).unwrap();
    let (old, server) = (authority::parse(&old).unwrap(), authority::parse(&server).unwrap());
    assert_eq!(server.issuer().as_raw(), old.subject().as_raw());
    server.verify_signature(Some(old.public_key())).unwrap();
}

#[test]
fn a_damaged_server_certificate_is_simply_made_anew() {
    for name in ["server.pem", "server.key"] {
        for contents in ["", "damaged", &authority::new_key().unwrap().serialize_pem()] {
            let directory = TempDir::new().unwrap();
            open(&directory, NOW).unwrap();
            fs::write(directory.path().join(name), contents).unwrap();
            open(&directory, NOW).unwrap();
            assert_ne!(file(&directory, name), contents);
        }
    }
}

#[test]
fn a_certificate_of_another_authority_is_not_served() {
    let (directory, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    open(&directory, NOW).unwrap();
    open(&other, NOW).unwrap();
    for name in ["server.pem", "server.key"] {
        fs::copy(other.path().join(name), directory.path().join(name)).unwrap();
    }
    open(&directory, NOW).unwrap();
    assert_ne!(file(&directory, "server.pem"), file(&other, "server.pem"));
}

#[test]
fn an_expired_authority_is_reported() {
    let directory = TempDir::new().unwrap();
    open(&directory, NOW).unwrap();
    assert!(refused(&directory, NOW.plus(3651 * DAY)).contains("expired"));
    let near_end = NOW.plus(3640 * DAY);
    assert_eq!(
        open(&directory, near_end).unwrap().facts().unwrap().not_after,
        NOW.plus(3650 * DAY),
        "no longer than its authority"
    );
}

#[test]
fn a_machine_that_wakes_in_1970_makes_no_authority_that_is_soon_useless() {
    let directory = TempDir::new().unwrap();
    assert!(refused(&directory, Time::from_unix(60)).contains("clock"));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

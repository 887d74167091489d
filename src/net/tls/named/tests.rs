use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::super::{ServerTls, Slot};
use super::*;

const NOW: Time = Time::from_unix(1_790_000_000);

/// A root, and a certificate of it for these names: chain and key.
fn issued(names: &[&str], now: Time) -> (RootCertStore, String, String) {
    let valid = |params: &mut CertificateParams| {
        let at = |time: Time| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(time.unix().unsigned_abs());
        params.not_before = at(now.minus(Duration::from_secs(3600)));
        params.not_after = at(now.plus(Duration::from_secs(3600)));
    };
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    valid(&mut params);
    let root_key = KeyPair::generate().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(params.self_signed(&root_key).unwrap().der().clone()).unwrap();
    let root = Issuer::new(params, root_key);
    let mut params = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
    valid(&mut params);
    let key = KeyPair::generate().unwrap();
    (roots, params.signed_by(&key, &root).unwrap().pem(), key.serialize_pem())
}

fn wanted(names: &[&str]) -> Names {
    let mut wanted = Names::default();
    names.iter().for_each(|name| wanted.add(name).unwrap());
    wanted
}

#[test]
fn only_browsers_that_trust_a_certificate_are_held_to_it() {
    let (roots, chain, key) = issued(&["zero.example.com", "*.lan.example.com"], NOW);
    let named = Named::check_against(&roots, &chain, &key, Chain::Complete, NOW).unwrap();
    let local = CertifiedKey::clone(&named.key);
    let tls = ServerTls::new(local, None).unwrap();
    assert!(!tls.is_publicly_trusted("zero.example.com"), "while the local authority's is shown");
    let slot = Arc::new(Slot::default());
    tls.show_from(slot.clone());
    slot.show(named);
    for host in ["zero.example.com", "ZERO.example.com.:8443", "a.lan.example.com:443"] {
        assert!(tls.is_publicly_trusted(host), "{host}");
    }
    for host in ["localhost:8443", "192.0.2.7", "[2001:db8::7]:443", "a.b.lan.example.com", "lan.example.com", ""] {
        assert!(!tls.is_publicly_trusted(host), "{host}");
    }
    slot.show(Named::check_against(&RootCertStore::empty(), &chain, &key, Chain::AsIssued, NOW).unwrap());
    assert!(!tls.is_publicly_trusted("zero.example.com"), "of an authority that is not public");
}

#[test]
fn a_leaf_alone_is_enough_under_a_root_that_everybody_has_and_under_no_other() {
    let (roots, chain, key) = issued(&["zero.example.com"], NOW);
    assert!(Named::check_against(&roots, &chain, &key, Chain::Complete, NOW).is_ok());
    let refused = Named::check(&chain, &key, Chain::Complete, NOW).unwrap_err().to_string();
    assert!(refused.starts_with("the chain is not complete"), "{refused}");
}

#[test]
fn every_name_must_be_covered_and_addresses_only_where_there_is_no_name() {
    let (_, chain, key) = issued(&["zero.example.com", "*.lan.example.com"], NOW);
    let named = Named::check(&chain, &key, Chain::AsIssued, NOW).unwrap();
    assert_eq!(named.covers(&wanted(&["zero.example.com", "x.lan.example.com", "192.0.2.7"])), Ok(()));
    let missing = named.covers(&wanted(&["zero.example.com", "zero.lan"])).unwrap_err().to_string();
    assert!(missing.contains("but not for zero.lan,"), "{missing}");
    assert!(named.covers(&wanted(&["192.0.2.7"])).is_err());
    let (_, chain, key) = issued(&["192.0.2.7"], NOW);
    let named = Named::check(&chain, &key, Chain::AsIssued, NOW).unwrap();
    assert_eq!(named.covers(&wanted(&["192.0.2.7"])), Ok(()));
}

#[test]
fn keys_that_cannot_be_used_are_refused_with_the_remedy() {
    let (_, chain, key) = issued(&["zero.example.com"], NOW);
    let refused = |key: &str| Named::check(&chain, key, Chain::AsIssued, NOW).unwrap_err().to_string();
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(refused(&encrypted).contains("openssl pkey"));
    assert!(refused("").contains("cannot be read as PEM"));
    // X25519 signs nothing.
    let foreign = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n";
    assert!(refused(foreign).contains("P-256, P-384, Ed25519 or RSA"), "{}", refused(foreign));
}

//! The layers of the crate: who may use whom.

use std::path::Path;

/// Layer, and what it may use beside the foundations and itself.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("store", &["model"]),
    ("domain", &["model", "store"]),
    ("http", &["domain", "model", "store"]),
    ("api", &["domain", "http", "model", "store"]),
    ("net", &[]),
    ("tasks", &["domain"]),
];
const FOUNDATIONS: &[&str] = &["clock", "ids", "turns", "error", "config"];
/// What `http` and `api` may name of the store: what a filter is, and what makes a request one that counts once.
const OF_THE_STORE: &[&str] = &["store::idempotency", "store::index::"];

#[test]
fn no_layer_uses_what_is_above_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut read = 0;
    for (layer, allowed) in ALLOWED {
        for file in files(&source, layer) {
            let text = std::fs::read_to_string(&file).unwrap();
            for line in text.lines().filter(|line| line.trim_start().starts_with("use crate::")) {
                let path = line.trim_start().trim_start_matches("use crate::");
                let used = path.split([':', ';', ' ', '{']).next().unwrap();
                let fine = used == *layer || FOUNDATIONS.contains(&used) || allowed.contains(&used);
                assert!(fine, "{}: {line}", file.display());
                if used == "store" && matches!(*layer, "http" | "api") {
                    let named = OF_THE_STORE.iter().any(|part| path.starts_with(part)) || path.contains("idempotency");
                    assert!(named, "{}: {line}", file.display());
                }
            }
            assert!(text.lines().count() <= 600, "{} is too long: split it by meaning", file.display());
            read += 1;
        }
    }
    assert!(read > 50, "only {read} files were read");
}

#[test]
fn only_the_engine_names_redb() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (layer, _) in ALLOWED {
        for file in files(&source, layer).into_iter().filter(|file| !file.to_string_lossy().contains("/engine/")) {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(!text.contains("redb::"), "{} names redb", file.display());
        }
    }
}

/// What is not asked for at the one way out could leave unnoticed.
#[test]
fn connections_and_names_are_asked_for_in_one_place() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    const WAYS: &[&str] =
        &["TcpStream::connect", "TcpSocket", "UdpSocket", "lookup_host", "to_socket_addrs", "hickory"];
    let mut found = Vec::new();
    for layer in ALLOWED.iter().map(|(layer, _)| *layer).chain(["app", "cli"]) {
        for file in files(&source, layer) {
            let text = std::fs::read_to_string(&file).unwrap();
            if !file.ends_with("tests.rs") && WAYS.iter().any(|way| text.contains(way)) {
                found.push(file.strip_prefix(&source).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    assert_eq!(found, ["net/outbound/egress.rs", "net/outbound/names.rs"]);
}

fn files(source: &Path, layer: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![source.join(layer)];
    found.extend(Some(source.join(format!("{layer}.rs"))).filter(|file| file.is_file()));
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

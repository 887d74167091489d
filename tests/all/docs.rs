//! The documentation is where the appliance is: with the network cut, it is all there is.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::server::{Reply, Server};

/// Pages are no part of the API, and are asked for by whoever reads them.
async fn page(server: &Server, path: &str) -> Reply {
    let client = crate::server::client(&server.folder.path().join("data/tls/ca.pem"));
    let response = client.get(format!("{}{path}", server.base)).send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, text: response.text().await.unwrap() }
}

/// What stands in an attribute, wherever it is.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    page.split(&start).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[tokio::test]
async fn every_page_is_there_and_every_link_leads_somewhere() {
    let server = Server::start().await;
    let mut pages = BTreeMap::new();
    let mut wanted = vec!["/docs".to_owned()];
    let mut links = BTreeSet::new();
    while let Some(path) = wanted.pop() {
        if pages.contains_key(&path) {
            continue;
        }
        let reply = page(&server, &path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert!(!reply.header("content-security-policy").contains("unsafe"), "{path}");
        assert!(!reply.header("etag").is_empty(), "{path}");
        if reply.header("content-type").starts_with("text/html") {
            for breach in ["<script", " style=", " onclick=", "<style"] {
                assert!(!reply.text.contains(breach), "{path} has {breach}");
            }
            for link in attributes(&reply.text, "href").into_iter().chain(attributes(&reply.text, "src")) {
                let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
                let file = if file.is_empty() { path.clone() } else { file.to_owned() };
                assert!(file.starts_with('/') || file.starts_with("https://"), "{path} leads to {link}");
                if file.starts_with("/docs") {
                    wanted.push(file.clone());
                    links.extend(anchor.map(|anchor| (path.clone(), file, anchor.to_owned())));
                }
            }
        }
        pages.insert(path, reply.text);
    }
    for (from, file, anchor) in &links {
        let found = pages[file].contains(&format!(" id=\"{anchor}\""));
        assert!(found, "{from} leads to {file}#{anchor}, which is not there");
    }
    assert!(links.len() > 100, "{}", links.len());
    for name in ["", "/raspberry-pi", "/vm", "/settings", "/api", "/licences", "/sbom.cdx.json", "/docs.css"] {
        assert!(pages.contains_key(&format!("/docs{name}")), "{name} is linked from nowhere");
    }
    // The same words as in the repository, and every call.
    let overview = &pages["/docs"];
    for heading in include_str!("../../README.md").lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(overview.contains(&format!(">{heading}</h2>")), "{heading}");
    }
    let document = page(&server, "/api/v1/openapi.json").await.json();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let call = format!("<code>{} {path}</code>", method.to_uppercase());
            assert!(pages["/docs/api"].contains(&call), "{call}");
        }
    }
    assert_eq!(page(&server, "/docs/nothing").await.status, 404);
}

#[tokio::test]
async fn what_the_binary_is_made_of_is_told_with_its_terms() {
    let server = Server::start().await;
    let bill = page(&server, "/docs/sbom.cdx.json").await.json();
    let licences = page(&server, "/docs/licences").await.text;
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let components = bill["components"].as_array().unwrap();
    let mut found = BTreeSet::new();
    for component in components {
        let (name, version) = (text(&component["name"]), text(&component["version"]));
        let licence = text(&component["licenses"][0]["expression"]);
        assert!(licences.contains(&format!("<tr><td>{name}</td><td>{version}</td><td>{licence}</td></tr>")), "{name}");
        found.insert((name, version, component["hashes"][0]["content"].as_str().map(ToOwned::to_owned)));
    }
    assert!(licences.contains("TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION"));
    assert!(licences.contains("The above copyright notice and this permission notice shall be included in"));
    // As the packages' own bill has it.
    let made = Command::new("python3").args(["packaging/sbom", env!("CARGO_PKG_VERSION")]).output().unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).expect("packaging/sbom makes JSON");
    let made = made["components"].as_array().unwrap().iter();
    let made: BTreeSet<_> = made
        .map(|c| (text(&c["name"]), text(&c["version"]), c["hashes"][0]["content"].as_str().map(ToOwned::to_owned)))
        .collect();
    for name in ["redb", "rustls", "hyper", "tokio"] {
        assert!(found.iter().any(|(known, ..)| known == name), "{name}");
    }
    let crates: BTreeSet<_> = found.into_iter().filter(|(.., hash)| hash.is_some()).collect();
    assert!(crates.is_subset(&made), "{:?}", crates.difference(&made).collect::<Vec<_>>());
}

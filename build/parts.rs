//! What the binary is made of: the crates that are linked into it, and the packages of npm that are in the dashboard. As
//! CycloneDX, and with their licences.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::{Value, json};

use crate::docs::escape;

/// Beside the dashboard: which packages are in it. Made by `vite.config.ts`.
pub const OF_NPM: &str = "parts.json";

pub struct Part {
    /// `cargo` or `npm`.
    kind: &'static str,
    name: String,
    version: String,
    /// An SPDX expression.
    licence: String,
    sha256: Option<String>,
    texts: Vec<String>,
}

pub fn of_npm(dist: &Path) -> Result<Vec<Part>, String> {
    let file = dist.join(OF_NPM);
    let wrong = |cause: &dyn std::fmt::Display| format!("{}: {cause}: build the dashboard anew", file.display());
    let found = fs::read(&file).map_err(|cause| wrong(&cause))?;
    let found: Vec<Value> = serde_json::from_slice(&found).map_err(|cause| wrong(&cause))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let parts = found.iter().map(|package| Part {
        kind: "npm",
        name: text(&package["name"]),
        version: text(&package["version"]),
        licence: text(&package["license"]),
        sha256: None,
        texts: package["texts"].as_array().into_iter().flatten().map(text).collect(),
    });
    Ok(parts.collect())
}

/// The crates that are linked for the target of this build. Asks nobody: all of them are on this machine by now.
pub fn of_cargo(root: &Path) -> Result<Vec<Part>, String> {
    let variable = |name| env::var(name).map_err(|_| format!("{name} is not set: run this by cargo"));
    let (cargo, target) = (variable("CARGO")?, variable("TARGET")?);
    let tree = ["tree", "--locked", "--offline", "--edges", "normal,no-proc-macro", "--prefix", "none"];
    let output = Command::new(cargo)
        .args(tree)
        .args(["--format", "{p}|{l}", "--target", &target])
        .current_dir(root)
        .output()
        .map_err(|cause| format!("cargo tree: {cause}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let lock = fs::read_to_string(root.join("Cargo.lock")).map_err(|cause| format!("Cargo.lock: {cause}"))?;
    let mut found = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (package, licence) = line.split_once('|').unwrap_or((line, ""));
        let mut words = package.split(' ');
        let (Some(name), Some(version)) = (words.next(), words.next().and_then(|v| v.strip_prefix('v'))) else {
            continue;
        };
        if name != env!("CARGO_PKG_NAME") {
            let licence = licence.trim_end_matches(" (*)").replace('/', " OR ");
            found.insert((name.to_owned(), version.to_owned()), licence);
        }
    }
    let parts = found.into_iter().map(|((name, version), licence)| {
        let sha256 = checksum(&lock, &name, &version);
        let texts = texts(&name, &version);
        if texts.is_none() {
            println!("cargo::warning=the sources of {name} {version} are not where cargo keeps them: no licence text");
        }
        Part { kind: "cargo", name, version, licence, sha256, texts: texts.unwrap_or_default() }
    });
    Ok(parts.collect())
}

fn checksum(lock: &str, name: &str, version: &str) -> Option<String> {
    let block = lock.split("[[package]]").find(|block| {
        block.contains(&format!("\nname = \"{name}\"\n")) && block.contains(&format!("\nversion = \"{version}\"\n"))
    })?;
    let line = block.lines().find_map(|line| line.strip_prefix("checksum = \""))?;
    line.strip_suffix('"').map(Into::into)
}

/// The licences that the sources of a crate hold, wherever in the registry's folders they lie.
fn texts(name: &str, version: &str) -> Option<Vec<String>> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
    let registries = fs::read_dir(home.join("registry/src")).ok()?.flatten();
    let folder = registries.map(|entry| entry.path().join(format!("{name}-{version}"))).find(|path| path.is_dir())?;
    let is_one = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        path.is_file()
            && ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"].iter().any(|one| name.starts_with(one))
    };
    let mut files: Vec<_> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).filter(is_one).collect();
    files.sort();
    Some(
        files.iter().filter_map(|file| fs::read(file).ok()).map(|text| String::from_utf8_lossy(&text).into()).collect(),
    )
}

/// CycloneDX 1.5.
pub fn bill(parts: &[Part]) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    let components = parts.iter().map(|part| {
        let purl = format!("pkg:{}/{}@{}", part.kind, part.name.replace('@', "%40"), part.version);
        let mut component = json!({
            "type": "library", "name": part.name, "version": part.version, "purl": purl, "bom-ref": purl,
        });
        if !part.licence.is_empty() {
            component["licenses"] = json!([{"expression": part.licence}]);
        }
        if let Some(sha256) = &part.sha256 {
            component["hashes"] = json!([{"alg": "SHA-256", "content": sha256}]);
        }
        component
    });
    json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {"type": "application", "name": "zero", "version": version, "bom-ref": "zero"}},
        "components": components.collect::<Vec<_>>(),
    })
}

/// One text that many share, but for who holds the rights.
#[derive(Default)]
struct Shared {
    text: String,
    holders: BTreeMap<String, String>,
}

/// All parts, then each text once.
pub fn licences(parts: &[Part]) -> String {
    let mut body = String::from(
        "<h1>Licences</h1>\n<p>What this binary is made of, and on what terms. A file that needs no libraries also holds \
         the Rust standard library (MIT OR Apache-2.0) and the GNU C Library (LGPL-2.1-or-later).</p>\n\
         <div class=\"wide\"><table><tr><th>Part</th><th>Version</th><th>Licence</th></tr>\n",
    );
    let mut texts: BTreeMap<String, Shared> = BTreeMap::new();
    for part in parts {
        // Writing to a string does not fail.
        let _ = writeln!(
            body,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&part.name),
            escape(&part.version),
            escape(&part.licence)
        );
        for text in &part.texts {
            let (holders, rest): (Vec<_>, Vec<_>) = text.lines().map(str::trim).partition(|line| is_holder(line));
            let key = if is_apache(text) {
                APACHE.into()
            } else {
                rest.iter().flat_map(|line| line.split_whitespace()).collect::<Vec<_>>().join(" ")
            };
            let shared = texts.entry(key.to_lowercase()).or_default();
            if shared.text.is_empty() {
                shared.text = text.lines().filter(|line| !is_holder(line.trim())).collect::<Vec<_>>().join("\n");
            }
            shared.holders.entry(part.name.clone()).or_default().push_str(&holders.join("; "));
        }
    }
    body.push_str("</table></div>\n");
    let mut texts: Vec<_> = texts.into_values().collect();
    texts.sort_by_key(|shared| std::cmp::Reverse(shared.holders.len()));
    for (number, Shared { text, holders }) in texts.iter().enumerate() {
        let _ = write!(body, "<h2 id=\"text-{0}\">Text {0}</h2>\n<p>", number + 1);
        let of = holders.iter().map(|(name, holders)| match holders.is_empty() {
            true => escape(name),
            false => format!("{} ({})", escape(name), escape(holders)),
        });
        body.push_str(&of.collect::<Vec<_>>().join(", "));
        let _ = writeln!(body, "</p>\n<pre>{}</pre>", escape(text.trim_matches('\n')));
    }
    body
}

const APACHE: &str = "Apache License Version 2.0";

/// Whether a text is this licence and nothing else: its copies differ in layout, and in what they fill into its appendix.
fn is_apache(text: &str) -> bool {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.starts_with(APACHE) && words.len() < 11_500 && words.contains("9. Accepting Warranty or Additional Liability")
}

/// Whether a line of a licence only says who holds the rights.
fn is_holder(line: &str) -> bool {
    let is_said =
        line.starts_with("Copyright (c)") || line.starts_with("Copyright (C)") || line.starts_with("Copyright ©");
    let of_year = line.strip_prefix("Copyright ").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    is_said || of_year
}

//! Makes what the binary carries for browsers, each file as it is and compressed: the dashboard, `web/dist` by npm, and
//! the documentation. `ZERO_WEB=skip` puts a page in the dashboard's place that says so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{env, fs, io};

mod docs;
mod parts;

/// What the dashboard is made from, below `web`.
const SOURCES: [&str; 6] = ["src", "public", "index.html", "package.json", "package-lock.json", "vite.config.ts"];

const PLACEHOLDER: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Zero</title>\
    <p>This build has no dashboard: it was made with ZERO_WEB=skip. The API is below /api/v1.";

fn main() {
    println!("cargo::rerun-if-env-changed=ZERO_WEB");
    if let Err(error) = run() {
        println!("cargo::error={error}");
    }
}

fn run() -> Result<(), String> {
    let path = |name| env::var_os(name).map(PathBuf::from).ok_or(format!("{name} is not set: run this by cargo"));
    let (out, root) = (path("OUT_DIR")?, path("CARGO_MANIFEST_DIR")?);
    let (target, web) = (out.join("web"), root.join("web"));
    let _ = fs::remove_dir_all(&target);
    fs::create_dir_all(&target).map_err(|error| at(&target, &error))?;
    let parts = if env::var("ZERO_WEB").is_ok_and(|value| value == "skip") {
        fs::write(target.join("index.html"), PLACEHOLDER).map_err(|error| at(&target, &error))?;
        Vec::new()
    } else {
        dashboard(&web, &target)?
    };
    docs::make(&root, &out, parts)
}

/// Builds the dashboard where it is older than its sources: which packages of npm are in it.
fn dashboard(web: &Path, target: &Path) -> Result<Vec<parts::Part>, String> {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", web.join(source).display());
    }
    let dist = web.join("dist");
    let made = modified(&dist.join("index.html"));
    if made.is_none() || SOURCES.iter().map(|source| newest(&web.join(source))).max().flatten() > made {
        let tools = web.join("node_modules/.package-lock.json");
        if modified(&tools) < modified(&web.join("package-lock.json")) {
            npm(web, &["ci", "--no-audit", "--no-fund"])?;
        }
        npm(web, &["run", "build"])?;
    }
    embed(&dist, target).map_err(|error| at(&dist, &error))?;
    parts::of_npm(&dist)
}

fn at(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

fn npm(web: &Path, arguments: &[&str]) -> Result<(), String> {
    const REMEDY: &str = "install Node.js 20 or newer with npm (https://nodejs.org, or apt install nodejs npm), or \
        build without the dashboard: ZERO_WEB=skip";
    let output = Command::new("npm").args(arguments).current_dir(web).output();
    let output =
        output.map_err(|error| format!("the dashboard is built by npm, which did not start ({error}): {REMEDY}"))?;
    if output.status.success() {
        return Ok(());
    }
    for line in [&output.stdout, &output.stderr].into_iter().flat_map(|text| text.split(|byte| *byte == b'\n')) {
        println!("cargo::warning={}", String::from_utf8_lossy(line));
    }
    Err(format!("npm {} failed in web, as told above. It needs the network once; else {REMEDY}", arguments.join(" ")))
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// When something in there was last changed.
fn newest(path: &Path) -> Option<SystemTime> {
    let below = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| newest(&entry.path()));
    below.max().flatten().max(modified(path))
}

/// Copies the files, and beside each that shrinks by it a compressed one.
fn embed(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            embed(&entry.path(), &place)?;
            continue;
        }
        if entry.file_name() != parts::OF_NPM {
            put(&place, &fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

/// Writes a file, and a compressed one beside it where that is smaller.
fn put(place: &Path, plain: &[u8]) -> io::Result<()> {
    let mut small = Vec::new();
    brotli::BrotliCompress(&mut &*plain, &mut small, &brotli::enc::BrotliEncoderParams::default())?;
    if small.len() < plain.len() {
        let mut name = place.as_os_str().to_owned();
        name.push(".br");
        fs::write(name, small)?;
    }
    fs::write(place, plain)
}

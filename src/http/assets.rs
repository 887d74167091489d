//! The files of the dashboard and the pages of the documentation, embedded in the binary. They are the same for everybody and cost no more than their bytes, so
//! no limit counts them.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, REFERRER_POLICY, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use include_dir::{Dir, include_dir};
use ring::digest;

use super::respond::Reply;

static FILES: Dir<'_> = include_dir!("$OUT_DIR/web");

const PAGE: &str = "index.html";

/// Below it, pages have no ending in their addresses, and it is one itself.
const DOCS: &str = "docs";

/// Below it, a file's name has a hash of its content: what the name once meant, it means forever.
const HASHED: &str = "assets/";

/// Scripts, styles and pictures of the dashboard itself, data from the API beside it, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
    connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types svelte-trusted-html";

/// The file of that path; a page of the dashboard, for whoever reads HTML; `None` for what is neither.
pub fn find(method: &Method, path: &str, headers: &HeaderMap) -> Option<Reply> {
    if *method != Method::GET && *method != Method::HEAD {
        return None;
    }
    let name = path.strip_prefix('/')?;
    if let Some(page) = name.strip_prefix(DOCS).filter(|rest| rest.is_empty() || rest.starts_with('/')) {
        return document(page.trim_start_matches('/'), headers);
    }
    let known = !name.is_empty() && !name.ends_with(".br") && FILES.get_file(name).is_some();
    let reads_html = || has(headers, &ACCEPT, "text/html");
    if known {
        answer(name, headers)
    } else if name.is_empty() || (!name.starts_with(HASHED) && reads_html()) {
        answer(PAGE, headers)
    } else {
        None
    }
}

fn document(page: &str, headers: &HeaderMap) -> Option<Reply> {
    let page = if page.is_empty() { "index" } else { page };
    let mut names = [format!("{DOCS}/{page}.html"), format!("{DOCS}/{page}")].into_iter();
    let name = names.find(|name| !name.ends_with(".br") && FILES.get_file(name).is_some())?;
    answer(&name, headers)
}

/// A page that was made while running, for as long as the process lives.
pub fn made(page: &'static str) -> Reply {
    let mut reply = Reply::content(StatusCode::OK, media_type(PAGE), Bytes::from_static(page.as_bytes()));
    protect(&mut reply.headers, page.as_bytes());
    reply
}

fn answer(name: &str, headers: &HeaderMap) -> Option<Reply> {
    let small = FILES.get_file(format!("{name}.br")).filter(|_| has(headers, &ACCEPT_ENCODING, "br"));
    let content = small.or_else(|| FILES.get_file(name))?.contents();
    let mut reply = Reply::content(StatusCode::OK, media_type(name), Bytes::from_static(content));
    let headers = &mut reply.headers;
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if small.is_some() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("br"));
    }
    protect(headers, content);
    if name.starts_with(HASHED) {
        headers.remove(ETAG);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    }
    Some(reply)
}

/// What a browser may do with it, and until when.
fn protect(headers: &mut HeaderMap, content: &[u8]) {
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
    let hash = digest::digest(&digest::SHA256, content);
    let start: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    if let Ok(tag) = HeaderValue::try_from(format!("\"{start}\"")) {
        headers.insert(ETAG, tag);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
}

/// Whether a header that lists values has this one, whatever its weight, unless that is zero.
fn has(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let named = parts.next().is_some_and(|value| value.eq_ignore_ascii_case(wanted));
        named && !parts.any(|part| part.strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0)))
    })
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json" | "webmanifest") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(accept: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))])
    }

    /// A program that mistypes a path must not be told 200 with a page.
    #[test]
    fn a_page_is_for_who_reads_pages() {
        let page = |path: &str, accept| find(&Method::GET, path, &asked(accept)).is_some();
        assert!(page("/", "*/*"));
        assert!(page("/devices/1", "text/html,application/xhtml+xml,*/*;q=0.8"));
        assert!(!page("/devices/1", "*/*"));
        assert!(!page("/devices/1", "text/html;q=0"));
        assert!(!page("/assets/gone.js", "text/html"));
        assert!(find(&Method::POST, "/", &asked("text/html")).is_none());
    }

    #[test]
    fn a_page_is_asked_for_again_and_runs_nothing_foreign() {
        let reply = find(&Method::GET, "/", &HeaderMap::new()).unwrap();
        assert_eq!(reply.headers[CACHE_CONTROL], "no-cache");
        assert!(reply.headers.contains_key(ETAG));
        let policy = reply.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; ") && !policy.contains("unsafe"));
    }
}

//! The documentation as pages: the repository's own Markdown, the settings, the licences and the bill of materials. The
//! reference of the API is made by the running appliance, from the routes themselves, in a frame that is made here.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

use crate::parts::{self, Part};
use crate::{at, put};

/// A file of the repository, its page below `/docs/`, and what the page is called.
const PAGES: [(&str, &str, &str); 4] = [
    ("README.md", "index", "Overview"),
    ("packaging/raspberry-pi.md", "raspberry-pi", "Raspberry Pi"),
    ("packaging/vm.md", "vm", "Virtual machine"),
    ("config/zero.toml", "settings", "Settings"),
];
const STYLE: &str = "build/docs.css";
const BILL: &str = "sbom.cdx.json";

/// Below `out`: the pages in `web/docs`, and the frame of the API's reference.
pub fn make(root: &Path, out: &Path, of_npm: Vec<Part>) -> Result<(), String> {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=Cargo.lock");
    let folder = out.join("web/docs");
    fs::create_dir_all(&folder).map_err(|error| at(&folder, &error))?;
    let write = |name: &str, content: &str| {
        let place = folder.join(name);
        put(&place, content.as_bytes()).map_err(|error| at(&place, &error))
    };
    for (file, page, title) in PAGES {
        println!("cargo::rerun-if-changed={file}");
        let path = root.join(file);
        let text = fs::read_to_string(&path).map_err(|error| at(&path, &error))?;
        let body = match file.ends_with(".md") {
            true => rendered(&text),
            false => format!("<h1>{title}</h1>\n<pre>{}</pre>\n", escape(&text)),
        };
        write(&format!("{page}.html"), &framed(page, title, &body))?;
    }
    let mut parts = parts::of_cargo(root)?;
    parts.extend(of_npm);
    write("licences.html", &framed("licences", "Licences", &parts::licences(&parts)))?;
    write(BILL, &format!("{}\n", parts::bill(&parts)))?;
    let style = root.join(STYLE);
    write("docs.css", &fs::read_to_string(&style).map_err(|error| at(&style, &error))?)?;
    let frame = out.join("reference.html");
    fs::write(&frame, framed("api", "API", "<!-- reference -->")).map_err(|error| at(&frame, &error))
}

fn framed(page: &str, title: &str, body: &str) -> String {
    let of_files = PAGES.iter().map(|(_, page, title)| (*page, *title));
    let pages = of_files.chain([("api", "API"), ("licences", "Licences"), (BILL, "SBOM")]).map(|(name, title)| {
        let current = if name == page { " aria-current=\"page\"" } else { "" };
        format!("<a href=\"{}\"{current}>{title}</a>", address(name))
    });
    let pages: String = pages.collect::<Vec<_>>().join("\n");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title} - Zero {}</title>\n\
         <link rel=\"icon\" type=\"image/svg+xml\" href=\"/favicon.svg\">\n<link rel=\"stylesheet\" href=\"/docs/docs.css\">\n</head>\n<body>\n\
         <nav class=\"pages\" aria-label=\"Documentation\">\n<a href=\"/\">Dashboard</a>\n{pages}\n</nav>\n\
         <main>\n{body}</main>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn address(page: &str) -> String {
    if page == "index" { "/docs".into() } else { format!("/docs/{page}") }
}

/// The page of a file of the repository, where it has one.
fn page_of(file: &str) -> Option<String> {
    PAGES.iter().find(|(known, ..)| *known == file).map(|(_, page, _)| address(page))
}

/// Markdown as HTML: headings can be linked to, and are listed on top; files that have a page here lead to it.
fn rendered(text: &str) -> String {
    let mut headings: Vec<(String, String)> = Vec::new();
    let mut taken: HashMap<String, usize> = HashMap::new();
    let mut events: Vec<Event> = Vec::new();
    // Links to what is not here are left as their text.
    let mut dropped: Vec<bool> = Vec::new();
    let mut heading: Option<(usize, String)> = None;
    let mut in_image = false;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            // A picture of the dashboard is of no use inside it.
            Event::Start(Tag::Image { .. }) => in_image = true,
            Event::End(TagEnd::Image) => in_image = false,
            _ if in_image => {}
            Event::Start(Tag::Heading { .. }) => {
                heading = Some((events.len(), String::new()));
                events.push(event);
            }
            Event::End(TagEnd::Heading(level)) => {
                if let Some((place, words)) = heading.take() {
                    let mut id = slug(&words);
                    let times = taken.entry(id.clone()).or_default();
                    *times += 1;
                    if *times > 1 {
                        id = format!("{id}-{times}");
                    }
                    if level as usize == 2 {
                        headings.push((id.clone(), words));
                    }
                    if let Some(Event::Start(Tag::Heading { id: of, .. })) = events.get_mut(place) {
                        *of = Some(CowStr::from(id));
                    }
                }
                events.push(event);
            }
            Event::Code(ref code) => {
                if let Some((_, words)) = &mut heading {
                    words.push_str(code);
                }
                match page_of(code).filter(|_| dropped.is_empty()) {
                    Some(page) => {
                        events.push(Event::InlineHtml(format!("<a href=\"{page}\">").into()));
                        events.push(event);
                        events.push(Event::InlineHtml("</a>".into()));
                    }
                    None => events.push(event),
                }
            }
            Event::Text(ref words_here) => {
                if let Some((_, words)) = &mut heading {
                    words.push_str(words_here);
                }
                events.push(event);
            }
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
                let (file, anchor) = dest_url.split_once('#').map_or((&*dest_url, ""), |(file, anchor)| (file, anchor));
                let target = match dest_url.contains("://") || file.is_empty() {
                    true => Some(dest_url.to_string()),
                    false => page_of(file.trim_start_matches("./")).map(|page| match anchor {
                        "" => page,
                        anchor => format!("{page}#{anchor}"),
                    }),
                };
                dropped.push(target.is_none());
                if let Some(target) = target {
                    events.push(Event::Start(Tag::Link { link_type, dest_url: target.into(), title, id }));
                }
            }
            Event::End(TagEnd::Link) => {
                if dropped.pop() == Some(false) {
                    events.push(event);
                }
            }
            Event::Start(Tag::Table(_)) => {
                events.push(Event::Html("<div class=\"wide\">".into()));
                events.push(without_style(event));
            }
            Event::End(TagEnd::Table) => {
                events.push(event);
                events.push(Event::Html("</div>\n".into()));
            }
            other => events.push(other),
        }
    }
    let mut body = String::new();
    html::push_html(&mut body, events.into_iter());
    let links = headings.iter().map(|(id, words)| format!("<a href=\"#{id}\">{}</a>", escape(words)));
    let links = links.collect::<Vec<_>>().join("\n");
    match body.find("</h1>\n").filter(|_| headings.len() > 1) {
        Some(place) => {
            let (top, rest) = body.split_at(place + "</h1>\n".len());
            format!("{top}<nav aria-label=\"On this page\">\n{links}\n</nav>\n{rest}")
        }
        None => body,
    }
}

/// Columns that are aligned would be so by a style, which the Content-Security-Policy refuses.
fn without_style(event: Event) -> Event {
    match event {
        Event::Start(Tag::Table(columns)) => {
            Event::Start(Tag::Table(vec![pulldown_cmark::Alignment::None; columns.len()]))
        }
        other => other,
    }
}

/// As forges make it: words in lower case, joined by hyphens.
fn slug(words: &str) -> String {
    let kept = words
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .collect::<String>();
    kept.replace(' ', "-")
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::users::LinkView;
use crate::domain::Services;
use crate::domain::authz::Permission::UsersEdit;
use crate::domain::op::Op;
use crate::domain::users::import::{ImportOptions, Line, LineResult, MOST, NewLine, Outcome};
use crate::error::Error;
use crate::http::extract::{Csv, Query};
use crate::http::respond::Json;
use crate::http::route::{Access, RateClass, Route};
use crate::ids::UserId;

pub fn routes() -> Vec<Route> {
    vec![Route::post("/users/import", Access::needs(UsersEdit), RateClass::Standard, import)]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ImportQuery {
    /// Says what would happen, and changes nothing.
    #[serde(default)]
    dry_run: bool,
    /// Imports all lines or, when one of them is wrong, none.
    #[serde(default)]
    atomic: bool,
}

#[derive(Serialize, JsonSchema)]
struct ImportView {
    /// One for each line, in their order.
    results: Vec<LineView>,
    created: usize,
    failed: usize,
    dry_run: bool,
}

#[derive(Serialize, JsonSchema)]
struct LineView {
    /// Where it starts in the file; the first is 1.
    line: u64,
    status: LineStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invitation: Option<LinkView>,
}

#[derive(Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum LineStatus {
    Created,
    Failed,
    /// Nothing is wrong with it, but nothing was changed.
    Valid,
}

async fn import(
    services: &Services,
    op: Op,
    Query(ImportQuery { dry_run, atomic }): Query<ImportQuery>,
    Csv(text): Csv,
) -> Result<Json<ImportView>, Error> {
    let results = services.import_users(&op, read(&text)?, ImportOptions { dry_run, atomic }).await?;
    let results: Vec<LineView> = results.into_iter().map(|result| view(services, result)).collect();
    let count = |status| results.iter().filter(|line| line.status == status).count();
    let (created, failed) = (count(LineStatus::Created), count(LineStatus::Failed));
    Ok(Json(ImportView { results, created, failed, dry_run }))
}

fn view(services: &Services, LineResult { number, email, outcome }: LineResult) -> LineView {
    let (status, id, error, invitation) = match outcome {
        Outcome::Created { id, invitation } => (LineStatus::Created, Some(id), None, invitation),
        Outcome::Valid => (LineStatus::Valid, None, None, None),
        Outcome::Failed(error) => (LineStatus::Failed, None, Some(error), None),
    };
    let invitation = invitation.map(|link| LinkView::new(services, link));
    LineView { line: number, status, id, email, error, invitation }
}

/// Where the columns are.
struct Columns {
    name: usize,
    email: usize,
    groups: usize,
    role: Option<usize>,
    count: usize,
}

impl Columns {
    fn of(header: &[String]) -> Result<Self, Error> {
        let names: Vec<String> = header.iter().map(|name| name.trim().to_lowercase()).collect();
        let find = |wanted: &str| names.iter().position(|name| name == wanted);
        let (Some(name), Some(email), Some(groups)) = (find("name"), find("email"), find("groups")) else {
            return Err(header_error("must name the columns name, email and groups, separated by commas"));
        };
        let role = find("role");
        let count = names.len();
        if count != 3 + usize::from(role.is_some()) {
            return Err(header_error("must name nothing but name, email, groups and role, each of them once"));
        }
        Ok(Self { name, email, groups, role, count })
    }

    fn line(&self, fields: &[String]) -> Result<NewLine, String> {
        if fields.len() != self.count {
            return Err(format!("has {} fields where the header has {}", fields.len(), self.count));
        }
        let role = self.role.map_or("", |place| fields[place].trim());
        let groups = fields[self.groups].split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(NewLine {
            name: fields[self.name].clone(),
            email: fields[self.email].trim().into(),
            role: if role.is_empty() { "user" } else { role }.into(),
            groups: groups.map(Into::into).collect(),
        })
    }
}

fn header_error(message: &str) -> Error {
    Error::field("the first line", message)
}

fn read(text: &str) -> Result<Vec<Line>, Error> {
    let mut records = Records { text, offset: 0, line: 1 };
    let header = records.next().ok_or_else(|| header_error("is missing: it names the columns"))?.1;
    let columns = Columns::of(&header.map_err(|error| header_error(&error))?)?;
    let lines = records.take(MOST + 1).map(|(number, fields)| {
        let content = fields.and_then(|fields| columns.line(&fields));
        Line { number, content }
    });
    let lines: Vec<Line> = lines.collect();
    if lines.len() > MOST {
        return Err(Error::field("body", format!("has more than {MOST} lines: import them in parts")));
    }
    Ok(lines)
}

/// The records of a CSV file with the lines that they start on. Empty lines are none.
///
/// The `csv` crate reads anything somehow: a quote that is never closed would swallow all that follows. So each record
/// is first held against RFC 4180; of one that is broken, only its first line is lost.
struct Records<'a> {
    text: &'a str,
    offset: usize,
    line: u64,
}

impl Iterator for Records<'_> {
    type Item = (u64, Result<Vec<String>, String>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = &self.text[self.offset..];
            let first_line = rest.find('\n').map_or(rest.len(), |end| end + 1);
            if first_line == 0 {
                return None;
            }
            let number = self.line;
            if rest[..first_line].trim_end_matches(['\r', '\n']).is_empty() {
                self.advance(first_line);
                continue;
            }
            let end = record_end(rest);
            self.advance(*end.as_ref().unwrap_or(&first_line));
            return Some((number, end.map_err(Into::into).and_then(|end| fields(&rest[..end]))));
        }
    }
}

impl Records<'_> {
    fn advance(&mut self, bytes: usize) {
        let passed = &self.text[self.offset..self.offset + bytes];
        self.line += passed.matches('\n').count() as u64;
        self.offset += bytes;
    }
}

/// Where the first record of `text` ends, its line break included; an error when its quotes break RFC 4180.
fn record_end(text: &str) -> Result<usize, &'static str> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        if bytes.get(at) == Some(&b'"') {
            at += 1;
            loop {
                match (bytes.get(at), bytes.get(at + 1)) {
                    (Some(b'"'), Some(b'"')) => at += 2,
                    (Some(b'"'), _) => break,
                    (Some(_), _) => at += 1,
                    (None, _) => return Err("has a quote that is never closed"),
                }
            }
            at += 1;
        } else {
            while bytes.get(at).is_some_and(|byte| !matches!(byte, b',' | b'\r' | b'\n' | b'"')) {
                at += 1;
            }
        }
        match &bytes[at..] {
            [] => return Ok(at),
            [b',', ..] => at += 1,
            [b'\n', ..] => return Ok(at + 1),
            [b'\r', b'\n', ..] => return Ok(at + 2),
            [b'\r', ..] => return Err("has a carriage return without a line feed"),
            _ => {
                return Err(
                    "has a quote in the wrong place: a field with quotes stands in quotes, and they are doubled",
                );
            }
        }
    }
}

fn fields(record: &str) -> Result<Vec<String>, String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(record.as_bytes());
    let mut fields = csv::StringRecord::new();
    reader.read_record(&mut fields).map_err(|error| error.to_string())?;
    Ok(fields.iter().map(Into::into).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_quote_costs_its_own_line_and_no_other() {
        let text = "email,Groups,name\r\n\
            a@x,\"Sales, \"\"B\"\"\",Ann\r\n\
            \r\n\
            b@x,\"Sales,Bob\r\n\
            c@x,,\"Cy\r\nJr, \"\"C\"\"\"\r\n\
            d@x,Di \"D\",Di\r\n\
            e@x,only two\r\n\
            f@x,\"x\"y,F\r\n\
            g@x,\rlost@x,G\r\n\
            h@x,,Gus";
        let found = read(text).unwrap();
        let numbers: Vec<_> = found.iter().map(|line| (line.number, line.content.is_ok())).collect();
        let expected = [(2, true), (4, false), (5, true), (7, false), (8, false), (9, false), (10, false), (11, true)];
        assert_eq!(numbers, expected);
        let first = found[0].content.as_ref().unwrap();
        assert_eq!((&*first.name, &*first.email), ("Ann", "a@x"));
        assert_eq!(first.groups, ["Sales", "\"B\""]);
        assert_eq!(found[2].content.as_ref().unwrap().name, "Cy\r\nJr, \"C\"");
        assert_eq!(found[4].content.as_ref().unwrap_err(), "has 2 fields where the header has 3");
        assert_eq!(found[7].content.as_ref().unwrap().name, "Gus");
    }

    #[test]
    fn a_header_that_is_not_understood_imports_nothing() {
        for text in
            ["", "\n\n", "name;email;groups\n", "name,email\n", "name,email,groups,phone\n", "name,name,email,groups"]
        {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert!(read("name,email,groups").unwrap().is_empty());
    }
}

//! The lines of a CSV file of users.

use crate::domain::users::import::{Line, MOST, NewLine};
use crate::error::Error;

/// Where the columns are.
struct Columns {
    name: usize,
    email: usize,
    groups: Option<usize>,
    role: Option<usize>,
    count: usize,
}

impl Columns {
    fn of(header: &csv::StringRecord) -> Result<Self, Error> {
        let names: Vec<String> = header.iter().map(|name| name.trim().to_lowercase()).collect();
        let find = |wanted: &str| names.iter().position(|name| name == wanted);
        let (Some(name), Some(email)) = (find("name"), find("email")) else {
            return Err(header_error("must name the columns name and email, and may name groups, separated by commas"));
        };
        let (groups, role) = (find("groups"), find("role"));
        let count = names.len();
        if count != 2 + usize::from(groups.is_some()) + usize::from(role.is_some()) {
            return Err(header_error("must name nothing but name, email, groups and role, each of them once"));
        }
        Ok(Self { name, email, groups, role, count })
    }

    fn line(&self, fields: &csv::StringRecord) -> Result<NewLine, String> {
        if fields.len() != self.count {
            return Err(format!("has {} fields where the header has {}", fields.len(), self.count));
        }
        let optional = |place: Option<usize>| place.map_or("", |place| fields[place].trim());
        let (role, groups) = (optional(self.role), optional(self.groups));
        let groups = groups.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(NewLine {
            name: fields[self.name].into(),
            email: fields[self.email].trim().into(),
            role: if role.is_empty() { "user" } else { role }.into(),
            groups: groups.map(Into::into).collect(),
        })
    }
}

fn header_error(message: &str) -> Error {
    Error::field("the first line", message)
}

/// The `csv` crate reads anything somehow: a quote that is never closed would swallow all that follows. So each record
/// is first held against RFC 4180; of one that is broken, only its first line is lost.
pub fn read(text: &str) -> Result<Vec<Line>, Error> {
    let records: Vec<_> = Records { text, offset: 0, line: 1 }.take(MOST + 2).collect();
    if records.len() > MOST + 1 {
        return Err(Error::field("body", format!("has more than {MOST} lines: import them in parts")));
    }
    let sound: String = records.iter().filter_map(|(_, record)| record.ok()).collect();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(sound.as_bytes());
    let mut parsed = reader.records();
    let mut records = records.into_iter().map(|(number, record)| {
        let fields = record.map_err(Into::into).and_then(|_| match parsed.next() {
            Some(fields) => fields.map_err(|error| error.to_string()),
            None => Err("is empty".into()),
        });
        (number, fields)
    });
    let header = records.next().ok_or_else(|| header_error("is missing: it names the columns"))?.1;
    let columns = Columns::of(&header.map_err(|error| header_error(&error))?)?;
    let line = |(number, fields): (u64, Result<_, _>)| Line { number, content: fields.and_then(|f| columns.line(&f)) };
    Ok(records.map(line).collect())
}

/// The records of a CSV file with the lines that they start on. Empty lines are none.
struct Records<'a> {
    text: &'a str,
    offset: usize,
    line: u64,
}

impl<'a> Iterator for Records<'a> {
    /// A record is the text of its lines, or what is wrong with its first one.
    type Item = (u64, Result<&'a str, &'static str>);

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
            return Some((number, end.map(|end| &rest[..end])));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_written_well_is_read_as_it_was(rows in prop::collection::vec((any::<String>(), "[a ,\"\r\né]*"), 0..20)) {
            let mut file = csv::Writer::from_writer(Vec::new());
            file.write_record(["name", "email", "groups"]).unwrap();
            for (name, groups) in &rows {
                file.write_record([name, "a@x", groups]).unwrap();
            }
            let lines = read(&String::from_utf8(file.into_inner().unwrap()).unwrap()).unwrap();
            prop_assert_eq!(lines.len(), rows.len());
            for (line, (name, groups)) in lines.iter().zip(&rows) {
                let read = line.content.as_ref().unwrap();
                prop_assert_eq!(&read.name, name);
                let groups: Vec<_> = groups.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
                prop_assert_eq!(&read.groups, &groups);
            }
        }

        #[test]
        fn a_good_line_is_read_whatever_comes_before_it(text in "[ab,\"\r\né]{0,60}") {
            let file = format!("name,email,groups\n{text}\nEve,eve@x,\n");
            let lines = read(&file).unwrap();
            prop_assert!(lines.len() <= file.lines().count());
            prop_assert!(lines.windows(2).all(|pair| pair[0].number < pair[1].number));
            let last = lines.last().unwrap().content.as_ref();
            prop_assert_eq!(last.ok().map(|new| &*new.email), Some("eve@x"));
        }
    }

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
            ["", "\n\n", "name;email;groups\n", "name,groups\n", "name,email,groups,phone\n", "name,name,email,groups"]
        {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert!(read("name,email,groups").unwrap().is_empty());
        assert_eq!(read("email,name\nann@x,Ann").unwrap()[0].content.as_ref().unwrap().groups, [""; 0]);
    }
}

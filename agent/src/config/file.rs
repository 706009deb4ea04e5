//! The TOML file: top-level `key = value` lines and nothing else (TOML 1.1).

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use toml_parser::decoder::ScalarKind;
use toml_parser::parser::{Event, EventKind, parse_document};
use toml_parser::{ParseError, Source, Span};

use super::SETTINGS;
use super::setting::Kind;

/// More than any sensible file has; a wrong file is not read into memory.
const MAX_SIZE: u64 = 64 * 1024;

/// One line's worth: a setting and its text, or what is wrong.
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) content: Result<(usize, String), String>,
}

/// The file's text; `None` when there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    if file.take(MAX_SIZE + 1).read_to_string(&mut text)? as u64 > MAX_SIZE {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            format!("more than {MAX_SIZE} bytes; is this the right file?"),
        ));
    }
    Ok(Some(text))
}

/// Reads all entries. After a syntax error nothing that follows can be trusted, so it comes alone.
pub(super) fn parse(text: &str) -> Vec<Entry> {
    let source = Source::new(text);
    let tokens = source.lex().into_vec();
    let mut events = Vec::<Event>::new();
    let mut error: Option<ParseError> = None;
    parse_document(&tokens, &mut events, &mut error);
    if let Some(error) = error {
        return vec![syntax_error(text, &error)];
    }

    let mut entries: Vec<Entry> = Vec::new();
    let mut seen = [None; SETTINGS.len()];
    let mut events = events.iter().filter(|event| {
        !matches!(
            event.kind(),
            EventKind::Whitespace | EventKind::Comment | EventKind::Newline
        )
    });
    while let Some(event) = events.next() {
        let line = line_of(text, event.span());
        let mut entry = |content| entries.push(Entry { line, content });
        let Some(key) = source
            .get(event)
            .filter(|_| event.kind() == EventKind::SimpleKey)
        else {
            entry(Err(
                "only `key = value` lines are known here, no tables".to_owned()
            ));
            break;
        };
        let mut error: Option<ParseError> = None;
        let mut name = Cow::Borrowed("");
        key.decode_key(&mut name, &mut error);
        let separator = events.next().map(Event::kind);
        let value = events
            .next()
            .filter(|value| value.kind() == EventKind::Scalar);
        let (Some(EventKind::KeyValSep), Some(value)) = (separator, value) else {
            entry(Err(format!(
                "{name}: a string, number or boolean must follow, no table or list"
            )));
            break;
        };
        let mut text_of_value = Cow::Borrowed("");
        let scalar = source
            .get(value)
            .map(|raw| raw.decode_scalar(&mut text_of_value, &mut error));
        if let Some(error) = error {
            entries.push(syntax_error(text, &error));
            continue;
        }
        let Some(index) = SETTINGS.iter().position(|setting| setting.name == name) else {
            entry(Err(unknown(&name)));
            continue;
        };
        if let Some(first) = seen[index].replace(line) {
            entry(Err(format!("{name} was set in line {first} already")));
            continue;
        }
        let setting = &SETTINGS[index];
        entry(match (setting.kind, scalar) {
            (Kind::Text, Some(ScalarKind::String))
            | (Kind::Number, Some(ScalarKind::Integer(_)))
            | (Kind::Switch, Some(ScalarKind::Boolean(_))) => {
                Ok((index, text_of_value.into_owned()))
            }
            (Kind::Text, _) => Err(format!("{name} is a string: write it in quotes")),
            (Kind::Number, _) => Err(format!("{name} is a number: write it without quotes")),
            (Kind::Switch, _) => Err(format!("{name} is true or false, without quotes")),
        });
    }
    entries
}

fn syntax_error(text: &str, error: &ParseError) -> Entry {
    let place = error.unexpected().or(error.context());
    Entry {
        line: place.map_or(1, |span| line_of(text, span)),
        content: Err(format!("not TOML: {}", error.description())),
    }
}

fn line_of(text: &str, span: Span) -> usize {
    let before = text.as_bytes().iter().take(span.start());
    1 + before.filter(|byte| **byte == b'\n').count()
}

/// Names the key that was probably meant.
fn unknown(name: &str) -> String {
    let names = SETTINGS.each_ref().map(|setting| setting.name);
    match nearest(name, names.into_iter()) {
        Some(nearest) => format!("unknown key {name:?}; did you mean {nearest:?}?"),
        None => format!("unknown key {name:?}; the keys are {}", names.join(", ")),
    }
}

/// The most similar of `names`, unless there is none that could be meant.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    names
        .map(|other| (other, distance(name, other)))
        .min_by_key(|(_, distance)| *distance)
        .filter(|(other, distance)| *distance <= other.len().max(name.len()) / 2)
        .map(|(other, _)| other)
}

/// Levenshtein's: fewest insertions, deletions and substitutions.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.chars().enumerate() {
            let substituted = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn only_problem(text: &str) -> (usize, String) {
        let entries = parse(text);
        let mut problems = entries
            .into_iter()
            .filter_map(|entry| Some((entry.line, entry.content.err()?)));
        let problem = problems.next().expect("a problem");
        let other = problems.next();
        assert_eq!(other, None, "{text:?}");
        problem
    }

    #[test]
    fn values_come_with_their_lines() {
        let text = "# comment\nverifier = \"a:1\" # more\n\n'pcrs'='sha1:0'\njitter = 1_0\nonce = true\n\
                    verifier_key = \"\"\"\nx\ny\"\"\"\nek = \"r\\u0073a\"";
        let got: Vec<_> = parse(text)
            .into_iter()
            .map(|entry| {
                let (index, text) = entry.content.unwrap();
                (entry.line, SETTINGS[index].name, text)
            })
            .collect();
        let wanted = [
            (2, "verifier", "a:1"),
            (4, "pcrs", "sha1:0"),
            (5, "jitter", "10"),
            (6, "once", "true"),
            (7, "verifier_key", "x\ny"),
            (10, "ek", "rsa"),
        ];
        assert_eq!(
            got,
            wanted.map(|(line, name, text)| (line, name, text.to_owned()))
        );
        assert!(parse("").is_empty());
    }

    #[test]
    fn every_fault_is_named_with_its_line() {
        for (text, line, says) in [
            ("\nverfier = \"a\"", 2, "did you mean \"verifier\""),
            ("verifier-key = \"a\"", 1, "did you mean \"verifier_key\""),
            ("frobnicate = 1", 1, "the keys are verifier, verifier_key"),
            ("tpm = \"a\"\n\ntpm = \"b\"", 3, "line 1 already"),
            ("verifier = 7", 1, "in quotes"),
            ("jitter = \"7\"", 1, "without quotes"),
            ("jitter = 1.5", 1, "is a number"),
            ("once = 1", 1, "true or false"),
            ("\n[agent]\nverifier = \"a\"", 2, "no tables"),
            ("verifier = [\"a\"]", 1, "no table or list"),
            ("verifier.host = \"a\"", 1, "no table or list"),
            ("jitter = 1\nverifier = \"a", 2, "not TOML"),
            ("verifier", 1, "not TOML"),
            ("verifier = a", 1, "not TOML"),
            ("verifier = \"\\q\"", 1, "not TOML"),
            ("= 3", 1, "not TOML"),
        ] {
            let (at, what) = only_problem(text);
            assert!(what.contains(says), "{text:?}: {what}");
            assert_eq!(at, line, "{text:?}: {what}");
        }
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

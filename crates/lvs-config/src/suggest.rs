//! Hints: what the author of a faulty line most probably meant.

use crate::config::BlockKind;
use crate::diagnostic::show;
use crate::fault::{Fault, Problem};
use crate::key::{Key, Kind, Level};
use crate::lex::{Sentence, Words};
use crate::syntax::Line;

/// The words that open a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Block(BlockKind),
    Server,
}

const OPENINGS: &[&str] = &["virtual", "failover", "server"];

/// Longer words are no misspelt keys; the limit also keeps the comparison cheap.
const LONGEST: usize = 40;

/// The candidate that `word` is a likely misspelling of.
pub(crate) fn closest<'c>(
    word: &[u8],
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    let word = std::str::from_utf8(word).ok().filter(|word| word.len() <= LONGEST)?;
    let word = word.to_ascii_lowercase().replace('-', "_");
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (strsim::osa_distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The block that `word` was most probably meant to open.
pub(crate) fn opening(word: &[u8]) -> Option<Opening> {
    match closest(word, OPENINGS.iter().copied())? {
        "virtual" => Some(Opening::Block(BlockKind::Virtual)),
        "failover" => Some(Opening::Block(BlockKind::Failover)),
        _ => Some(Opening::Server),
    }
}

/// The remedy for a line whose shape is wrong.
pub(crate) fn for_line(line: &Line<'_>, problem: Problem) -> Option<String> {
    let body = line.raw.body;
    if line.number == 1 && body.starts_with(b"\xef\xbb\xbf") {
        return Some("the file starts with a byte order mark: save it without".to_owned());
    }
    if body.contains(&b'\r') {
        return Some("lines must end with LF or CR LF; a CR alone ends none".to_owned());
    }
    if body.windows(2).any(|pair| pair == b"\xc2\xa0") {
        return Some(
            "a non-breaking space, as copied from a web page, is no blank: replace it by a space"
                .to_owned(),
        );
    }
    let (sentence, _) = Sentence::read(body);
    match problem.fault {
        Fault::UnknownCommand => for_command(line, &sentence),
        Fault::EqualExpected => for_equal(&sentence),
        Fault::MissingArguments => for_missing(line, &sentence),
        Fault::UnexpectedArguments => for_extra(line, &sentence),
        Fault::QuotationMismatch => Some(
            "close the quote at the end of its word: a quote only closes before a blank or the \
             end of the line"
                .to_owned(),
        ),
        Fault::ListExpected => Some("write it as `dirs = [ A B ]`, with blanks".to_owned()),
        _ => None,
    }
}

fn for_command(line: &Line<'_>, sentence: &Sentence<'_>) -> Option<String> {
    let word = sentence.word(0).text;
    let level = line.level;
    match word {
        b"}" => return Some("no block is open here: remove the brace".to_owned()),
        b"{" => {
            return Some(
                "the brace belongs at the end of the line that opens the block".to_owned(),
            );
        }
        b"virtual" | b"failover" | b"server" if level != Level::Global => {
            return Some(format!(
                "a block cannot stand {}: a `}}` is missing above, for the block opened on line {}",
                level.place(),
                line.opened
            ));
        }
        b"server" => return Some("a server belongs inside a virtual block".to_owned()),
        _ => {}
    }
    glued(word, level).or_else(|| elsewhere(line, word)).or_else(|| misspelt(word, level)).or_else(
        || {
            let trimmed = word.strip_prefix(b"//").or_else(|| word.strip_prefix(b";"));
            trimmed.map(|_| "a comment starts with #".to_owned())
        },
    )
}

/// `key=value`, written without the blanks.
fn glued(word: &[u8], level: Level) -> Option<String> {
    let at = word.iter().position(|&byte| byte == b'=')?;
    let key = Key::parse(level, word.get(..at)?)?;
    Some(format!("the = needs blanks around it: `{} = ...`", key.name()))
}

/// A key of another level.
fn elsewhere(line: &Line<'_>, word: &[u8]) -> Option<String> {
    let home = [Level::Global, Level::Block, Level::Server]
        .into_iter()
        .find(|&level| level != line.level && Key::parse(level, word).is_some())?;
    let word = show(word);
    Some(match (line.level, home) {
        (Level::Global, _) => format!("`{word}` belongs {}", home.place()),
        (_, Level::Global) => format!(
            "`{word}` belongs {}; a `}}` may be missing for the block opened on line {}",
            home.place(),
            line.opened
        ),
        (Level::Server, _) => format!(
            "`{word}` belongs to the virtual block, not to a server; a `}}` may be missing for \
             the server opened on line {}",
            line.opened
        ),
        _ => format!("`{word}` belongs {}", home.place()),
    })
}

fn misspelt(word: &[u8], level: Level) -> Option<String> {
    let openings: &[&str] = match level {
        Level::Global => &["virtual", "failover"],
        Level::Block => &["server"],
        Level::Server => &[],
    };
    if let Some(key) = closest(word, level.keys().chain(openings.iter().copied())) {
        let is_case_alone = word.eq_ignore_ascii_case(key.as_bytes());
        let note = if is_case_alone { " (keys are written in lower case)" } else { "" };
        return Some(format!("did you mean `{key}`?{note}"));
    }
    let others = [Level::Global, Level::Block, Level::Server].into_iter().filter(|&l| l != level);
    others.into_iter().find_map(|other| {
        closest(word, other.keys())
            .map(|key| format!("did you mean `{key}`? It belongs {}", other.place()))
    })
}

fn for_equal(sentence: &Sentence<'_>) -> Option<String> {
    let key = show(sentence.word(0).text);
    if sentence.word(1).text.starts_with(b"=") {
        return Some(format!("the = needs blanks around it: `{key} = ...`"));
    }
    Some(format!("write it as `{key} = VALUE`"))
}

fn for_missing(line: &Line<'_>, sentence: &Sentence<'_>) -> Option<String> {
    let command = sentence.word(0).text;
    if let Some(key) = Key::parse(line.level, command) {
        return Some(match key.kind() {
            Kind::HostDevice => {
                format!("write it as `{} = ADDRESS DEVICE`, e.g. 10.0.0.100 eth0:1", key.name())
            }
            _ => format!(
                "give a value, or remove the line: a key without a value is left out ({})",
                expects(key.kind())
            ),
        });
    }
    let command = show(command);
    Some(if sentence.count == 2 && sentence.word(1).text != b"{" {
        format!("the {{ stands at the end of the line that opens the block: `{command} NAME {{`")
    } else {
        format!("name the block: `{command} NAME {{`")
    })
}

fn for_extra(line: &Line<'_>, sentence: &Sentence<'_>) -> Option<String> {
    let comment =
        Words::new(line.raw.body).flatten().skip(1).any(|word| word.text.starts_with(b"#"));
    if comment {
        return Some("a comment needs a line of its own".to_owned());
    }
    let Some(key) = Key::parse(line.level, sentence.word(0).text) else {
        return Some(
            "a block opens with `KEYWORD NAME {` alone on its line; its settings and its } stand \
             on lines of their own, and a name with blanks stands in quotes"
                .to_owned(),
        );
    };
    let first = line.raw.body.get(sentence.word(2).start).copied();
    match (key.kind(), first) {
        (Kind::Word | Kind::Text, Some(quote @ (b'"' | b'\''))) => {
            let other = if quote == b'"' { "'" } else { "\"" };
            Some(format!(
                "the value ends at the first quote that a blank follows, and no backslash \
                 changes that: put it in {other} instead"
            ))
        }
        (Kind::Word | Kind::Text, _) => {
            Some("a value that contains blanks stands in quotes".to_owned())
        }
        (kind, _) => Some(format!("{} takes {}", key.name(), expects(kind))),
    }
}

/// The remedy for a value that its key does not take.
pub(crate) fn for_value(key: Key, fault: Fault, word: &[u8]) -> Option<String> {
    match (fault, key.kind()) {
        (Fault::BooleanExpected, _) => Some("write 1 for yes, 0 for no".to_owned()),
        (Fault::IntegerExpected, Kind::Boolean) => Some("write 1 for yes, 0 for no".to_owned()),
        (Fault::IntegerExpected, Kind::PortNumber) => Some(
            "a server's port must be a number: names are known in virtual blocks only".to_owned(),
        ),
        (Fault::IntegerExpected, kind) => Some(if is_faulty_octal(word) {
            "a number that starts with 0 is octal: leave the 0 out".to_owned()
        } else if kind == Kind::Interval {
            "write whole seconds, or a time with its unit: 200ms, 1.5s".to_owned()
        } else if word.contains(&b'.') {
            "whole numbers only".to_owned()
        } else {
            "write a whole number, without a unit".to_owned()
        }),
        (_, Kind::OneOf(names)) => {
            let likely = closest(word, names.iter().copied());
            Some(match likely {
                Some(name) => {
                    format!("did you mean `{name}`? {} takes {}", key.name(), any_of(names))
                }
                None => format!("{} takes {}", key.name(), any_of(names)),
            })
        }
        (_, Kind::Port) => Some("neither a port number nor a service of /etc/services".to_owned()),
        (Fault::BadNetmask, _) => Some("write it as 255.255.255.0".to_owned()),
        (Fault::BadHost, Kind::Host) if crate::value::address(word).is_some() => {
            Some(format!("leave {} out where there is no such address", key.name()))
        }
        (Fault::BadHost, _) => {
            Some("give the address in numbers: names are not looked up here".to_owned())
        }
        (_, Kind::Host | Kind::HostDevice) => Some(if word.contains(&b':') {
            "only IPv4 addresses can stand here".to_owned()
        } else if word.contains(&b'/') {
            "give the address without a prefix length".to_owned()
        } else {
            format!("`{}` is no IPv4 address, and no host of that name is found", show(word))
        }),
        _ => None,
    }
}

fn is_faulty_octal(word: &[u8]) -> bool {
    word.starts_with(b"0") && word.iter().all(u8::is_ascii_digit)
}

fn any_of(names: &[&str]) -> String {
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

fn expects(kind: Kind) -> String {
    match kind {
        Kind::Host => "one address or host name".to_owned(),
        Kind::HostDevice => "an address and a device".to_owned(),
        Kind::Address => "one address".to_owned(),
        Kind::Netmask => "one netmask".to_owned(),
        Kind::Boolean => "0 or 1".to_owned(),
        Kind::Integer => "one whole number".to_owned(),
        Kind::Interval => "one number of seconds".to_owned(),
        Kind::Port => "one port number or service name".to_owned(),
        Kind::PortNumber => "one port number".to_owned(),
        Kind::Word | Kind::Text => "one word, in quotes if it contains blanks".to_owned(),
        Kind::OneOf(names) => any_of(names),
        Kind::List => "a list: [ A B ]".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::Reader;

    fn hint(text: &str) -> String {
        let (line, problem) = Reader::new(text.as_bytes())
            .find_map(|line| line.fault.map(|problem| (line, problem)))
            .unwrap();
        for_line(&line, problem).unwrap_or_default()
    }

    #[test]
    fn hints_name_the_likely_mistake() {
        let cases = [
            ("keepalve = 6", "did you mean `keepalive`?"),
            ("Primary = 10.0.0.1", "keys are written in lower case"),
            ("hard-shutdown = 1", "did you mean `hard_shutdown`?"),
            ("virtaul web {", "did you mean `virtual`?"),
            ("primary=10.0.0.1", "blanks around it"),
            ("primary =10.0.0.1", "blanks around it"),
            ("primary 10.0.0.1", "`primary = VALUE`"),
            ("scheduler = wlc", "belongs inside a virtual or failover block"),
            ("weight = 1", "belongs inside a server block"),
            ("shceduler = wlc", "did you mean `scheduler`? It belongs inside a virtual"),
            ("virtual a {\nkeepalive = 6", "belongs among the global settings; a `}` may be"),
            ("virtual a {\nserver b {\ntimeout = 6", "not to a server; a `}` may be missing"),
            ("virtual a {\nserver b {\nserver c {", "opened on line 2"),
            ("virtual a {\nvirtual b {", "opened on line 1"),
            ("\u{a0}keepalive = 6", "a non-breaking space, as copied from a web page"),
            ("virtual a\n{\n}", "the { stands at the end"),
            ("virtual {", "name the block"),
            ("virtual a { active = 1 }", "lines of their own"),
            ("primary = 10.0.0.1 # main", "a comment needs a line of its own"),
            ("primary = 10.0.0.1 10.0.0.2", "primary takes one address"),
            ("active_cmd = /bin/a b", "contains blanks stands in quotes"),
            ("active_cmd = \"a \\\"b\\\" c\"", "put it in ' instead"),
            ("active_cmd = \"x", "close the quote"),
            ("nat_router = 10.0.0.1", "ADDRESS DEVICE"),
            ("keepalive =", "give a value, or remove the line"),
            ("}", "remove the brace"),
            ("// x", "a comment starts with #"),
            ("\u{feff}primary = x", "byte order mark"),
            ("primary = x\rbackup = y", "a CR alone"),
        ];
        for (text, expected) in cases {
            assert!(hint(text).contains(expected), "{text}: {}", hint(text));
        }
        assert_eq!(hint("entirely_else = 1"), "");
    }

    #[test]
    fn giant_words_are_not_compared() {
        assert_eq!(closest(&[b'a'; 1000], ["a"].into_iter()), None);
    }
}

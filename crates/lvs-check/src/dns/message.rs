//! Queries and answers on the wire (RFC 1035, section 4; AAAA: RFC 3596; SRV: RFC 2782).

use std::fmt;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Class IN.
const INTERNET: u16 = 1;
/// Longest name on the wire, in bytes.
const LONGEST_NAME: usize = 255;
/// Longest part of a name, in bytes.
const LONGEST_LABEL: usize = 63;

/// Types of records that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Type {
    name: &'static str,
    number: u16,
    data: Data,
}

/// How the data of a record is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    Address4,
    Address6,
    /// So many 16-bit numbers, then a name.
    Name {
        numbers: usize,
    },
    /// Two names and five 32-bit numbers.
    Soa,
    Texts,
}

const TYPES: [Type; 9] = [
    Type { name: "A", number: 1, data: Data::Address4 },
    Type { name: "NS", number: 2, data: Data::Name { numbers: 0 } },
    Type { name: "CNAME", number: 5, data: Data::Name { numbers: 0 } },
    Type { name: "SOA", number: 6, data: Data::Soa },
    Type { name: "PTR", number: 12, data: Data::Name { numbers: 0 } },
    Type { name: "MX", number: 15, data: Data::Name { numbers: 1 } },
    Type { name: "TXT", number: 16, data: Data::Texts },
    Type { name: "AAAA", number: 28, data: Data::Address6 },
    Type { name: "SRV", number: 33, data: Data::Name { numbers: 3 } },
];

impl Type {
    /// By its name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(name: &str) -> Result<Type, String> {
        TYPES.into_iter().find(|kind| kind.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let all: Vec<&str> = TYPES.iter().map(|kind| kind.name).collect();
            format!("no type of records '{name}': one of {}", all.join(", "))
        })
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name, and as it is on the wire.
    text: String,
    name: Vec<u8>,
    kind: Type,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.kind)
    }
}

impl Question {
    /// Asks for records of a name.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn new(name: &str, kind: Type) -> Result<Question, String> {
        let labels = name.strip_suffix('.').unwrap_or(name);
        let mut wire = Vec::new();
        for label in labels.split('.').filter(|_| !labels.is_empty()) {
            let length = u8::try_from(label.len()).unwrap_or(u8::MAX);
            if length == 0 || usize::from(length) > LONGEST_LABEL {
                return Err(format!("no name: '{name}' (each part has 1 to 63 bytes)"));
            }
            wire.push(length);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        if wire.len() > LONGEST_NAME {
            return Err(format!("no name: '{name}' has more than 253 bytes"));
        }
        Ok(Question { text: name.to_owned(), name: wire, kind })
    }

    /// The query: recursion desired, one question.
    #[must_use]
    pub fn query(&self, id: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [id, 0x0100, 1, 0, 0, 0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.name);
        bytes.extend_from_slice(&self.kind.number.to_be_bytes());
        bytes.extend_from_slice(&INTERNET.to_be_bytes());
        bytes
    }
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// It belongs to another query, or is none.
    Foreign,
    /// It did not fit, and can be had by TCP.
    Truncated,
    /// The server reports an error.
    Error(String),
    /// The records of the type that was asked for, in words.
    Records(Vec<String>),
    /// It cannot be read.
    Malformed,
}

/// Reads an answer to a query.
#[must_use]
pub fn answer(message: &[u8], id: u16, question: &Question) -> Answer {
    let mut reader = Reader { message, at: 0 };
    let Some(head) = Head::read(&mut reader) else { return Answer::Foreign };
    if head.id != id || head.flags & 0x8000 == 0 {
        return Answer::Foreign;
    }
    let code = head.flags & 0x000f;
    // Some servers leave the question out of an error.
    if head.questions == 0 && code != 0 {
        return Answer::Error(code_text(code));
    }
    if head.questions != 1 || !asks(&mut reader, question) {
        return Answer::Foreign;
    }
    if code != 0 {
        return Answer::Error(code_text(code));
    }
    if head.flags & 0x0200 != 0 {
        return Answer::Truncated;
    }
    records(&mut reader, head.answers, question.kind).map_or(Answer::Malformed, Answer::Records)
}

struct Head {
    id: u16,
    flags: u16,
    questions: u16,
    answers: u16,
}

impl Head {
    fn read(reader: &mut Reader<'_>) -> Option<Head> {
        let mut number = || reader.number();
        let head =
            Head { id: number()?, flags: number()?, questions: number()?, answers: number()? };
        reader.take(4)?;
        Some(head)
    }
}

/// Whether the question is the one that was asked; the case of letters is no matter.
fn asks(reader: &mut Reader<'_>, question: &Question) -> bool {
    reader.take(question.name.len()).is_some_and(|name| name.eq_ignore_ascii_case(&question.name))
        && reader.number() == Some(question.kind.number)
        && reader.number() == Some(INTERNET)
}

fn records(reader: &mut Reader<'_>, count: u16, kind: Type) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for _ in 0..count {
        reader.name()?;
        let (number, class) = (reader.number()?, reader.number()?);
        reader.take(4)?;
        let length = usize::from(reader.number()?);
        let end = reader.at.checked_add(length).filter(|end| *end <= reader.message.len())?;
        if number == kind.number && class == INTERNET {
            found.push(data(reader, kind.data, end)?);
        }
        reader.at = end;
    }
    Some(found)
}

/// The data of a record as zone files show it, its words separated by blanks.
fn data(reader: &mut Reader<'_>, data: Data, end: usize) -> Option<String> {
    let text = match data {
        Data::Address4 => Ipv4Addr::from(<[u8; 4]>::try_from(reader.take(4)?).ok()?).to_string(),
        Data::Address6 => Ipv6Addr::from(<[u8; 16]>::try_from(reader.take(16)?).ok()?).to_string(),
        Data::Name { numbers } => {
            let mut text = String::new();
            for _ in 0..numbers {
                write!(text, "{} ", reader.number()?).ok()?;
            }
            text + &reader.name()?
        }
        Data::Soa => {
            let mut text = format!("{} {}", reader.name()?, reader.name()?);
            for _ in 0..5 {
                let number = u32::from(reader.number()?) << 16 | u32::from(reader.number()?);
                write!(text, " {number}").ok()?;
            }
            text
        }
        Data::Texts => {
            let mut text = String::new();
            while reader.at < end {
                let length = usize::from(*reader.take(1)?.first()?);
                text.push_str(&reader.take(length)?.escape_ascii().to_string());
            }
            text
        }
    };
    (reader.at == end).then_some(text)
}

/// Whether a record is the expected one: all of it, or one of its words; names with or without the
/// dot at their end, in any case.
#[must_use]
pub fn is_expected(record: &str, expected: &str) -> bool {
    let plain = |text: &str| text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let expected = plain(expected);
    plain(record) == expected || record.split(' ').any(|word| plain(word) == expected)
}

fn code_text(code: u16) -> String {
    let name = match code {
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        _ => return format!("error {code}"),
    };
    name.to_owned()
}

/// Reads forward in a message.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.message.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A name, with a dot at its end. Pointers lead back only, so that no chain of them is endless.
    fn name(&mut self) -> Option<String> {
        let (mut text, mut length) = (String::new(), 0);
        let (mut at, mut floor, mut after) = (self.at, self.at, None);
        loop {
            let first = *self.message.get(at)?;
            match first >> 6 {
                0 if first == 0 => {
                    self.at = after.unwrap_or(at + 1);
                    return Some(if text.is_empty() { ".".to_owned() } else { text });
                }
                0 => {
                    let label = self.message.get(at + 1..=at + usize::from(first))?;
                    length += label.len() + 1;
                    if length >= LONGEST_NAME {
                        return None;
                    }
                    write!(text, "{}.", label.escape_ascii()).ok()?;
                    at += 1 + label.len();
                }
                3 => {
                    let low = *self.message.get(at + 1)?;
                    after = after.or(Some(at + 2));
                    at = usize::from(first & 0x3f) << 8 | usize::from(low);
                    if at >= floor {
                        return None;
                    }
                    floor = at;
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(name: &str, kind: &str) -> Question {
        Question::new(name, Type::new(kind).unwrap()).unwrap()
    }

    /// An answer to a question with these records: type and data. Their name is a pointer to the
    /// question's.
    fn message(question: &Question, flags: u16, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = question.query(7);
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
        for (kind, data) in records {
            bytes.extend_from_slice(&[0xc0, 12]);
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            bytes.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(data);
        }
        bytes
    }

    #[test]
    fn queries() {
        let bytes = question("www.example.com", "aaaa").query(0x1234);
        assert_eq!(
            bytes,
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x1c\0\x01"
        );
        assert_eq!(question("example.com.", "A").name, question("example.com", "A").name);
        assert_eq!(question(".", "NS").name, [0]);
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        assert!(Question::new(&long, TYPES[0]).is_ok());
        let label = "x".repeat(64);
        for bad in ["a..b", ".a", &label, &format!("{long}d")] {
            assert!(Question::new(bad, TYPES[0]).is_err(), "{bad}");
        }
        assert!(Type::new("ANY").unwrap_err().contains("A, NS, CNAME"));
    }

    #[test]
    fn records_in_words() {
        let cases: [(&str, &[u8], &str); 9] = [
            ("A", &[10, 0, 0, 1], "10.0.0.1"),
            ("AAAA", &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], "2001:db8::1"),
            ("NS", b"\x02ns\xc0\x0c", "ns.example.com."),
            ("CNAME", b"\0", "."),
            ("MX", b"\0\x0a\x02mx\xc0\x0c", "10 mx.example.com."),
            ("SRV", b"\0\x01\0\x02\x14\x66\xc0\x0c", "1 2 5222 example.com."),
            ("TXT", b"\x03a b\x01\xff", "a b\\xff"),
            ("PTR", b"\x01a\x00", "a."),
            (
                "SOA",
                b"\xc0\x0c\x01h\xc0\x0c\x78\xa3\xf1\x75\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04",
                "example.com. h.example.com. 2024010101 1 2 3 4",
            ),
        ];
        for (kind, data, want) in cases {
            let question = question("example.com", kind);
            let bytes = message(&question, 0x8180, &[(question.kind.number, data)]);
            assert_eq!(
                answer(&bytes, 7, &question),
                Answer::Records(vec![want.to_owned()]),
                "{kind}"
            );
        }
    }

    #[test]
    fn what_answers_say() {
        let question = question("example.com", "A");
        let a: &[u8] = &[10, 0, 0, 1];
        let say = |flags, records: &[(u16, &[u8])]| {
            answer(&message(&question, flags, records), 7, &question)
        };
        let records =
            |texts: &[&str]| Answer::Records(texts.iter().map(|t| (*t).to_owned()).collect());
        assert_eq!(say(0x8180, &[]), records(&[]));
        assert_eq!(say(0x8180, &[(5, b"\x01b\xc0\x0c"), (1, a)]), records(&["10.0.0.1"]));
        assert_eq!(say(0x8183, &[]), Answer::Error("NXDOMAIN".to_owned()));
        assert_eq!(say(0x8182, &[]), Answer::Error("SERVFAIL".to_owned()));
        assert_eq!(say(0x8189, &[]), Answer::Error("error 9".to_owned()));
        assert_eq!(say(0x8380, &[]), Answer::Truncated);
        assert_eq!(say(0x0100, &[]), Answer::Foreign);
        assert_eq!(say(0x8180, &[(1, &a[..3])]), Answer::Malformed);
        assert_eq!(say(0x8180, &[(1, b"12345")]), Answer::Malformed);
        let mut bytes = message(&question, 0x8180, &[(1, a)]);
        assert_eq!(answer(&bytes, 8, &question), Answer::Foreign);
        bytes[13] = b'X';
        assert_eq!(answer(&bytes, 7, &question), Answer::Foreign);
        bytes[13] = b'E';
        assert_eq!(answer(&bytes, 7, &question), records(&["10.0.0.1"]));
        bytes.pop();
        assert_eq!(answer(&bytes, 7, &question), Answer::Malformed);
        assert_eq!(answer(b"", 7, &question), Answer::Foreign);
        let refused = b"\0\x07\x81\x05\0\0\0\0\0\0\0\0";
        assert_eq!(answer(refused, 7, &question), Answer::Error("REFUSED".to_owned()));
    }

    #[test]
    fn names_that_do_not_end() {
        // A pointer to itself, forward, to a later pointer; a label that leaves the message.
        for data in [&b"\xc0\x29"[..], b"\xc0\xff", b"\xff\xff", b"\x3fabc", b"\x80", b"\xc0"] {
            let question = question("example.com", "NS");
            let bytes = message(&question, 0x8180, &[(2, data)]);
            assert_eq!(answer(&bytes, 7, &question), Answer::Malformed, "{}", data.escape_ascii());
        }
    }

    #[test]
    fn which_record_is_expected() {
        let cases = [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.11", "10.0.0.1", false),
            ("10 mx.example.com.", "MX.example.com", true),
            ("10 mx.example.com.", "10 mx.example.com", true),
            ("10 mx.example.com.", "example.com", false),
            ("ns. h. 2024010101 1 2 3 4", "2024010101", true),
        ];
        for (record, expected, want) in cases {
            assert_eq!(is_expected(record, expected), want, "{record} {expected}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(tail in proptest::collection::vec(any::<u8>(), 0..120), count in 0u16..9) {
            for kind in TYPES {
                let question = question("a", kind.name);
                let mut bytes = message(&question, 0x8180, &[]);
                bytes[6..8].copy_from_slice(&count.to_be_bytes());
                bytes.extend_from_slice(&tail);
                let _ = answer(&bytes, 7, &question);
                let _ = answer(&tail, 7, &question);
            }
        }
    }
}

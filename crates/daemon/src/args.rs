//! Command lines as popt reads them, because the suite's users, scripts and parents write them so:
//! `--opt=V`, `--opt V`, `-oV`, `-o V`, `-o=V`, grouped flags, `--` ends the options.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt;

/// One option a program takes.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// The name after `--`.
    pub long: &'static str,
    /// The letter after `-`, if it has one.
    pub short: Option<char>,
    /// What its argument is called in the help text; `None` for a flag.
    pub value: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}

/// A flag.
pub const fn flag(long: &'static str, short: Option<char>, help: &'static str) -> Opt {
    Opt { long, short, value: None, help }
}

/// An option with an argument.
pub const fn option(
    long: &'static str,
    short: Option<char>,
    value: &'static str,
    help: &'static str,
) -> Opt {
    Opt { long, short, value: Some(value), help }
}

/// What was found on a command line, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    found: Vec<Found>,
    /// Words that are no options.
    pub operands: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    long: &'static str,
    /// The option as it was written, for messages: `-t`, `--interval`.
    spelled: String,
    value: Vec<u8>,
}

/// Why a command line was not understood. The text is popt's, behind `PROGRAM: `.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad argument {option}: {reason}")]
pub struct Error {
    /// The option as it was written.
    pub option: String,
    /// `unknown option`, `missing argument` or `invalid numeric value`.
    pub reason: &'static str,
}

impl Parsed {
    /// Whether the option was given.
    #[must_use]
    pub fn has(&self, long: &str) -> bool {
        self.found.iter().any(|f| f.long == long)
    }

    /// The last value given to the option, as bytes.
    #[must_use]
    pub fn bytes(&self, long: &str) -> Option<&[u8]> {
        self.found.iter().rev().find(|f| f.long == long).map(|f| f.value.as_slice())
    }

    /// The last value given to the option, as text.
    #[must_use]
    pub fn text(&self, long: &str) -> Option<String> {
        self.bytes(long).map(|b| String::from_utf8_lossy(b).into_owned())
    }

    /// The last value given to the option, as a C integer (`10`, `0x10`, `010`).
    ///
    /// # Errors
    /// `invalid numeric value` when it is none or leaves the range of a 32-bit integer.
    pub fn number(&self, long: &str) -> Result<Option<i32>, Error> {
        let Some(found) = self.found.iter().rev().find(|f| f.long == long) else {
            return Ok(None);
        };
        let number = std::str::from_utf8(&found.value).ok().and_then(c_integer);
        number
            .map(Some)
            .ok_or_else(|| Error { option: found.spelled.clone(), reason: "invalid numeric value" })
    }
}

/// A C integer as strtol(3) with base 0 reads it, whole text, 32 bits.
fn c_integer(text: &str) -> Option<i32> {
    let text = text.trim_start();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let magnitude = if let Some(hex) = lower.strip_prefix("0x") {
        i64::from_str_radix(hex, 16)
    } else if lower.len() > 1 && lower.starts_with('0') {
        i64::from_str_radix(&lower, 8)
    } else {
        lower.parse::<i64>()
    };
    // A second sign would be taken by from_str_radix; strtol does not.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = magnitude.ok()?;
    i32::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// Reads a command line (without the program's own name).
///
/// # Errors
/// An unknown option, or an option at the end that lacks its argument.
pub fn parse(opts: &[Opt], args: impl IntoIterator<Item = OsString>) -> Result<Parsed, Error> {
    let mut parsed = Parsed::default();
    let mut args = args.into_iter().map(OsString::into_vec);
    while let Some(arg) = args.next() {
        if arg == b"--" {
            parsed.operands.extend(args.by_ref().map(|a| lossy(&a)));
        } else if let Some(long) = arg.strip_prefix(b"--") {
            parse_long(opts, long, &mut args, &mut parsed)?;
        } else if arg.len() > 1 && arg[0] == b'-' {
            parse_short(opts, &arg[1..], &mut args, &mut parsed)?;
        } else {
            parsed.operands.push(lossy(&arg));
        }
    }
    Ok(parsed)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn parse_long(
    opts: &[Opt],
    word: &[u8],
    rest: &mut impl Iterator<Item = Vec<u8>>,
    parsed: &mut Parsed,
) -> Result<(), Error> {
    let (name, given) = match word.iter().position(|b| *b == b'=') {
        Some(at) => (&word[..at], Some(word[at + 1..].to_vec())),
        None => (word, None),
    };
    let spelled = format!("--{}", lossy(name));
    let Some(opt) = opts.iter().find(|o| o.long.as_bytes() == name) else {
        return Err(Error { option: spelled, reason: "unknown option" });
    };
    let value = match opt.value {
        None => Vec::new(),
        Some(_) => given
            .or_else(|| rest.next())
            .ok_or_else(|| Error { option: spelled.clone(), reason: "missing argument" })?,
    };
    parsed.found.push(Found { long: opt.long, spelled, value });
    Ok(())
}

fn parse_short(
    opts: &[Opt],
    letters: &[u8],
    rest: &mut impl Iterator<Item = Vec<u8>>,
    parsed: &mut Parsed,
) -> Result<(), Error> {
    for (at, letter) in letters.iter().enumerate() {
        let spelled = format!("-{}", char::from(*letter));
        let Some(opt) = opts.iter().find(|o| o.short == Some(char::from(*letter))) else {
            return Err(Error { option: spelled, reason: "unknown option" });
        };
        if opt.value.is_none() {
            parsed.found.push(Found { long: opt.long, spelled, value: Vec::new() });
            continue;
        }
        let glued = &letters[at + 1..];
        let glued = glued.strip_prefix(b"=").unwrap_or(glued);
        let value = if at + 1 < letters.len() {
            glued.to_vec()
        } else {
            rest.next()
                .ok_or_else(|| Error { option: spelled.clone(), reason: "missing argument" })?
        };
        parsed.found.push(Found { long: opt.long, spelled, value });
        return Ok(());
    }
    Ok(())
}

/// The options every program of the suite has besides its own.
pub const COMMON: [Opt; 3] = [
    flag("version", None, "Display version"),
    flag("help", Some('?'), "Show this help message"),
    flag("usage", None, "Display brief usage message"),
];

/// What a program does once its command line is read.
#[derive(Debug)]
pub enum Start {
    /// Go on, with these options.
    Run(Parsed),
    /// Print this on standard output and exit 0 (`--help`, `--usage`, `--version`).
    Print(String),
    /// Print this on standard error and exit 1.
    Refuse(String),
}

/// Reads the process's command line for a program that takes `own` options and no operands.
/// `name` stands in the messages, `program` in the usage text.
#[must_use]
pub fn start(name: &str, program: &str, own: &[Opt], args: Vec<OsString>) -> Start {
    let opts: Vec<Opt> = own.iter().chain(&COMMON).copied().collect();
    match parse(&opts, args) {
        Err(error) => Start::Refuse(format!("{name}: {error}\n")),
        Ok(parsed) if parsed.has("help") => Start::Print(help(program, &opts)),
        Ok(parsed) if parsed.has("usage") => Start::Print(usage(program, &opts)),
        Ok(parsed) if parsed.has("version") => Start::Print(version()),
        Ok(parsed) if !parsed.operands.is_empty() => {
            Start::Refuse(format!("{name}: unexpected arguments\n"))
        }
        Ok(parsed) => Start::Run(parsed),
    }
}

/// The three lines `--version` prints.
#[must_use]
pub fn version() -> String {
    let built = option_env!("SOURCE_DATE").unwrap_or("from source");
    format!(
        "Program Version:\t{v}\nBuilt:\t\t\t{built}\nA component of:\t\tpiranha-{v}\n",
        v = crate::VERSION
    )
}

/// The text of `--help`.
#[must_use]
pub fn help(program: &str, opts: &[Opt]) -> String {
    let mut text = format!("Usage: {program} [OPTION...]\n");
    let left: Vec<String> = opts.iter().map(left_column).collect();
    let width = left.iter().map(String::len).max().unwrap_or(0);
    for (left, opt) in left.iter().zip(opts) {
        let _ = writeln!(text, "{left:width$}  {}", opt.help);
    }
    text
}

fn left_column(opt: &Opt) -> String {
    let short = opt.short.map_or_else(|| "    ".to_owned(), |c| format!("-{c}, "));
    let value = opt.value.map_or_else(String::new, |v| format!("={v}"));
    format!("  {short}--{}{value}", opt.long)
}

/// The text of `--usage`: every option in brackets, lines of at most 79 columns.
#[must_use]
pub fn usage(program: &str, opts: &[Opt]) -> String {
    let start = format!("Usage: {program}");
    let indent = " ".repeat(start.len().min(16));
    let (mut text, mut column) = (start.clone(), start.len());
    for opt in opts {
        let value = opt.value.map_or_else(String::new, |v| format!("={v}"));
        let short = opt.short.map_or_else(String::new, |c| format!("-{c}|"));
        let item = format!(" [{short}--{}{value}]", opt.long);
        if column + item.len() > 79 {
            text.push('\n');
            text.push_str(&indent);
            column = indent.len();
        }
        column += item.len();
        text.push_str(&item);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTS: [Opt; 4] = [
        option("configfile", Some('c'), "FILE", ""),
        flag("nodaemon", Some('n'), ""),
        flag("verbose", Some('v'), ""),
        option("interval", Some('t'), "N", ""),
    ];

    fn read(words: &[&str]) -> Result<Parsed, Error> {
        parse(&OPTS, words.iter().map(OsString::from))
    }

    #[test]
    fn every_way_to_give_an_argument() {
        for words in [
            &["--configfile=x"][..],
            &["--configfile", "x"],
            &["-cx"],
            &["-c", "x"],
            &["-c=x"],
            &["-nvcx"],
            &["-nvc", "x"],
            &["-c", "y", "-c", "x"],
        ] {
            let parsed = read(words).unwrap();
            assert_eq!(parsed.text("configfile").as_deref(), Some("x"), "{words:?}");
            assert_eq!(parsed.has("nodaemon"), words[0].starts_with("-n"), "{words:?}");
        }
    }

    #[test]
    fn what_is_refused_and_how_it_is_said() {
        let cases = [
            (&["--x"][..], "bad argument --x: unknown option"),
            (&["--x=1"], "bad argument --x: unknown option"),
            (&["-nx"], "bad argument -x: unknown option"),
            (&["-c"], "bad argument -c: missing argument"),
            (&["--configfile"], "bad argument --configfile: missing argument"),
        ];
        for (words, message) in cases {
            assert_eq!(read(words).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn numbers_are_c_integers() {
        let cases = [
            ("10", Some(10)),
            ("0x10", Some(16)),
            ("010", Some(8)),
            ("-3", Some(-3)),
            ("+3", Some(3)),
            ("0", Some(0)),
            ("--3", None),
            ("3s", None),
            ("", None),
            ("09", None),
            ("4294967296", None),
        ];
        for (text, want) in cases {
            let parsed = read(&["-t", text]).unwrap();
            match want {
                Some(n) => assert_eq!(parsed.number("interval"), Ok(Some(n)), "{text}"),
                None => assert_eq!(
                    parsed.number("interval").unwrap_err().to_string(),
                    "bad argument -t: invalid numeric value",
                    "{text}"
                ),
            }
        }
        assert_eq!(read(&[]).unwrap().number("interval"), Ok(None));
    }

    #[test]
    fn operands_and_the_end_of_options() {
        let parsed = read(&["a", "--", "-n", "--x"]).unwrap();
        assert_eq!(parsed.operands, ["a", "-n", "--x"]);
        assert!(!parsed.has("nodaemon"));
    }

    #[test]
    fn start_answers_for_the_program() {
        let go = |words: &[&str]| {
            start("lvs", "lvsd", &OPTS, words.iter().map(OsString::from).collect())
        };
        assert!(matches!(go(&["x"]), Start::Refuse(t) if t == "lvs: unexpected arguments\n"));
        assert!(
            matches!(go(&["--zz"]), Start::Refuse(t) if t == "lvs: bad argument --zz: unknown option\n")
        );
        assert!(matches!(go(&["-?"]), Start::Print(t) if t.contains("-c, --configfile=FILE")));
        assert!(matches!(go(&["--usage"]), Start::Print(t) if t.contains("[-n|--nodaemon]")));
        let Start::Print(version) = go(&["--version"]) else { panic!("no version") };
        let heads: Vec<&str> = version.lines().filter_map(|l| l.split('\t').next()).collect();
        assert_eq!(heads, ["Program Version:", "Built:", "A component of:"]);
    }
}

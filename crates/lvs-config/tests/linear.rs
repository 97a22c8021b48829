//! The time to read a file grows with its size, not with its square.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use lvs_config::{NoResolver, Path, parse, render};

/// A file of about `size` bytes.
type Shape = fn(usize) -> Vec<u8>;

fn repeated(piece: &str, size: usize) -> Vec<u8> {
    piece.repeat(size / piece.len() + 1).into_bytes()
}

const SHAPES: &[(&str, Shape)] = &[
    ("blocks", |size| {
        repeated(
            "virtual web {\n     active = 1\n     address = 10.0.0.9 eth0:1\n     port = 80\n     \
             server a {\n         address = 10.0.0.3\n         active = 1\n     }\n}\n",
            size,
        )
    }),
    ("servers of one block", |size| {
        let servers =
            repeated("server a {\naddress = 10.0.0.3\nactive = 1\nport = 8080\n}\n", size);
        [b"network = direct\nvirtual a {\nactive = 1\n", &servers[..]].concat()
    }),
    ("empty blocks", |size| repeated("virtual a {\n}\n", size)),
    ("repeated keys", |size| repeated("keepalive = 6\n", size)),
    ("unknown keys", |size| repeated("keepalve = 6\n", size)),
    ("comments", |size| repeated("# x\n", size)),
    ("one word", |size| repeated("x", size)),
    ("one line of words", |size| repeated("a ", size)),
    ("one line of words of a key", |size| [b"primary = ", &repeated("a ", size)[..]].concat()),
    ("one list", |size| [b"virtual a {\ndirs = [ ", &repeated("a ", size)[..], b" ]\n"].concat()),
    ("quotes that close nothing", |size| [b"\"", &repeated("x\"'", size)[..]].concat()),
    ("quotes that close", |size| repeated("\" ", size)),
    ("open quotes on many lines", |size| repeated("primary = \"x\n", size)),
    ("one open quote", |size| [b"primary = \"", &repeated("x ", size)[..]].concat()),
    ("braces that open", |size| repeated("x {\n", size)),
    ("blocks that stay open", |size| repeated("virtual a {\nserver b {\n", size)),
    ("braces of one line", |size| repeated("{ ", size)),
    ("braces that close", |size| repeated("}\n", size)),
    ("a number without end", |size| [b"keepalive = ", &repeated("9", size)[..]].concat()),
    ("line ends", |size| repeated("\n", size)),
    ("carriage returns", |size| repeated("\r", size)),
];

fn time(work: impl Fn()) -> Duration {
    (0..5)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .min()
        .unwrap()
}

/// The least of several runs, sixteen times the size: sixteen times the time, where a
/// quadratic step would show 256 times. The limit lies well between the two.
#[test]
fn reading_is_linear() {
    const SMALL: usize = 40_000;
    for (name, shape) in SHAPES {
        let (small, large) = (shape(SMALL), shape(16 * SMALL));
        let measure = |text: &[u8]| {
            time(|| {
                let parsed = parse(text, &NoResolver);
                let _ = render(&parsed.diagnostics, "lvs.cf", text);
            })
        };
        let base = measure(&small).max(Duration::from_millis(1));
        let grown = measure(&large);
        assert!(grown < base * 100, "{name}: {base:?} became {grown:?}");
    }
}

#[test]
fn an_edit_is_linear() {
    let text = |size| repeated("# x\n# y\nkeepalive = 6\nvirtual a {\n}\n", size);
    let (small, large) = (parse(&text(40_000), &NoResolver), parse(&text(640_000), &NoResolver));
    let measure = |document: &lvs_config::Document| {
        time(|| {
            let mut document = document.clone();
            document.set(Path::Global, "primary", &["10.0.0.1"]).unwrap();
            document.unset(Path::Global, "keepalive").unwrap();
        })
    };
    let base = measure(&small.document).max(Duration::from_millis(1));
    let grown = measure(&large.document);
    assert!(grown < base * 100, "{base:?} became {grown:?}");
}

/// `cargo test --release -p lvs-config --test linear -- --ignored --nocapture` shows what
/// ten megabytes take.
#[test]
#[ignore = "prints figures, asserts nothing"]
fn ten_megabytes() {
    for (name, shape) in SHAPES {
        let text = shape(10_000_000);
        println!("{:>8.1?}  {name}", time(|| drop(parse(&text, &NoResolver))));
    }
}

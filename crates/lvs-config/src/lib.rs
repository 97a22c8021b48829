//! lvs.cf(5): the configuration of the suite.
//!
//! [`parse`] turns the bytes of a file into three things: the [`Document`], which keeps
//! every byte and can be edited; the [`Config`], typed and with every default filled in, or
//! the first [`SyntaxError`]; and [`Diagnostic`]s for everything worth saying about the file.
//! The only thing asked of the outside world is name resolution, through a [`Resolver`].
//!
//! ```
//! use lvs_config::{NoResolver, Path, parse};
//!
//! let parsed = parse(b"primary = 10.0.0.1\nkeepalive = 6\n", &NoResolver);
//! assert_eq!(parsed.config.unwrap().keepalive.as_millis(), 6_000);
//!
//! let mut document = parsed.document;
//! document.set(Path::Global, "deadtime", &["18"]).unwrap();
//! assert_eq!(document.as_bytes(), b"primary = 10.0.0.1\nkeepalive = 6\ndeadtime = 18\n");
//! ```

mod check;
mod config;
mod diagnostic;
mod document;
mod edit;
mod fault;
mod interpret;
mod interval;
mod json;
mod key;
mod lex;
mod render;
mod resolve;
mod setting;
mod suggest;
mod syntax;
mod value;

pub use check::check;
pub use config::{
    BlockKind, Config, Forwarding, Host, Protocol, ReservationConflict, Scheduler, Server,
    ServiceKind, Virtual,
};
pub use diagnostic::{Code, Diagnostic, Place, Severity};
pub use document::{Document, Path};
pub use edit::{EditError, check_value};
pub use fault::SyntaxError;
pub use interval::{HeartbeatTimes, Interval};
pub use key::Level;
pub use render::{first_line, open_failure, render};
pub use resolve::{NoResolver, Resolver, SystemResolver};

/// What a file's bytes turn out to be.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The file itself, every byte of it.
    pub document: Document,
    /// What it means, or why it means nothing.
    pub config: Result<Config, SyntaxError>,
    /// All that is worth saying about it, in the file's order. With a configuration the
    /// results of [`check`] are among them.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads lvs.cf. Any input is an answer, never a panic; the time is linear in its size, but
/// for what the resolver takes.
#[must_use]
pub fn parse(input: &[u8], resolver: &dyn Resolver) -> Parsed {
    let mut index = document::Indexer::default();
    let mut interpreter = interpret::Interpreter::new(resolver);
    for line in syntax::Reader::new(input) {
        index.take(&line);
        interpreter.take(&line);
    }
    let document = index.finish(input.to_vec());
    let (mut config, mut findings) = interpreter.finish();
    if input.is_empty() {
        config = Err(interpret::empty(&mut findings));
    }
    if let Ok(config) = &config {
        check::run(config, &document, &mut findings);
    }
    Parsed { document, config, diagnostics: findings.finish() }
}

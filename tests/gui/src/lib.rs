//! The web page under test: started with files of its own, asked over plain sockets, shown in a
//! real browser; with scripted daemons behind it.
//!
//! - [`Gui`]: a piranha_gui that runs; [`Files`]: lvs.cf, password file and so on, for it alone.
//! - [`Ask`], [`Answer`], [`Conversation`]: HTTP as a browser speaks it, and as no browser would.
//! - [`Fake`]: an lvsd or a pulse that answers what a test wants, or does not answer.
//! - [`Browser`]: Chromium, which clicks, types, takes pictures, and is asked what a page lacks.
//! - [`made`]: what such a daemon could say.

#![allow(clippy::panic, reason = "a test whose surroundings fail is to end at once")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the same")]

pub mod browser;
mod fake;
mod gui;
mod http;
pub mod made;
mod show;

pub use browser::{Browser, Look};
pub use fake::{Fake, Reply};
pub use gui::{Files, Gui, PASSWORD, USER};
pub use http::{Answer, Ask, Conversation, basic, encoded};
pub use show::Show;

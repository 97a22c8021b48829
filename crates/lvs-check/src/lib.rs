//! Ready-made checks of real servers, for `send_program`: each prints `OK` or `FAIL`, and why on
//! standard error. Every check ends within its time limit and a bounded memory, whatever the server does.

pub mod command_line;
pub mod deadline;
pub mod dns;
pub mod expected;
pub mod failure;
pub mod http;
pub mod mysql;
pub mod net;
pub mod replies;
pub mod tcp;
pub mod tls;

use deadline::Deadline;
use failure::Verdict;

/// A check, ready to be made.
#[derive(Debug)]
pub enum Check {
    /// A web page.
    Http(Box<http::Order>),
    /// A server that greets.
    Replies(replies::Order),
    /// A name server.
    Dns(dns::Order),
    /// A port.
    Tcp(tcp::Order),
    /// A database.
    Mysql(mysql::Order),
}

impl Check {
    /// Makes the check.
    ///
    /// # Errors
    /// Why it failed.
    pub fn run(&self, deadline: Deadline) -> Verdict {
        match self {
            Check::Http(order) => http::check(order, deadline),
            Check::Replies(order) => replies::check(order, deadline),
            Check::Dns(order) => dns::check(order, deadline),
            Check::Tcp(order) => tcp::check(order, deadline),
            Check::Mysql(order) => mysql::check(order, deadline),
        }
    }
}

//! The test laboratory: directors, real servers and clients in network namespaces, on a real
//! kernel with IPVS.
//!
//! A test in ten lines, in a file `tests/tests/NAME.rs`:
//!
//! ```no_run
//! use lab::{Behaviour, PATIENCE, nat_site};
//!
//! #[test]
//! fn a_dead_server_leaves_the_table() {
//!     let site = nat_site(2); //             client - director d1 - real servers rs1, rs2
//!     site.activate(0); //                   d1 takes the virtual address and the gateway's
//!     let web = site.web(80); //             one programmable server on each real server
//!     let d1 = &site.directors[0];
//!     d1.run("ipvsadm -A -t 172.16.0.100:80 -s rr");
//!     let nanny = d1.spawn("nanny --lvs -c -h 10.0.0.21 -p 80 -V 172.16.0.100 -w 1 -t 1");
//!     d1.wait_table(|t| t.weight("tcp 172.16.0.100:80", "10.0.0.21:80") == Some(1), PATIENCE).unwrap();
//!     web[0].set(Behaviour::Hang); //        it accepts and never answers again
//!     nanny.wait_for("[inactive] shutting down 10.0.0.21:80", PATIENCE).unwrap();
//!     d1.wait_table(|t| t.weight("tcp 172.16.0.100:80", "10.0.0.21:80").is_none(), PATIENCE).unwrap();
//! }
//! ```
//!
//! and in `tests/Cargo.toml` a `[[test]]` with its `name` and `test = false`. `scripts/test` builds
//! every target marked so and runs it where the kernel has IPVS; `scripts/test NAME` runs the tests
//! whose name contains NAME. Such a target can stand in any package; it needs this one as a
//! dev-dependency.
//!
//! # What there is
//!
//! - [`Lab`]: the world of one test. Segments (bridges) and [`Node`]s, whose NICs are plugged into
//!   them. Ready-made: [`nat_site`], [`direct_site`], [`tunnel_site`], and [`Site::new`] for more
//!   than one director.
//! - [`Node::spawn`] starts a program that runs on ([`Running`]: its lines, its end, signals to it);
//!   [`Node::run`], [`Node::output`] and [`Node::shell`] run one to its end; [`Node::enter`] runs a
//!   closure of the test itself on the node. Programs of the suite are found by their bare names.
//! - [`Node::tcp_server`], [`Node::tcp_servers`], [`Node::udp_server`]: servers whose [`Behaviour`] a
//!   test changes as it goes along, and which count what reaches them. [`Node::nginx`]: HTTPS.
//! - [`Node::get`]: a plain HTTP request. [`Site::spread`]: which server answered how often.
//! - [`Node::table`], [`Node::wait_table`]: the kernel's IPVS table. [`Node::syslog`]: what the
//!   programs of a node sent to syslog. [`Node::capture`]: the frames on one of its interfaces.
//! - [`Node::prober`]: a new connection every millisecond, and the longest gap between two answers;
//!   [`Node::flow`]: a connection that lasts. [`Lab::watch_addresses`]: which node had which address,
//!   and whether ever two had the same. [`Node::original`]: a scripted original pulse as partner.
//! - [`Node::unplug`], [`Node::isolate`], [`Node::cut_off`], [`Node::kill_all`]: a cable, a partition, a
//!   power failure as others see it, a crash.
//!
//! # Habits
//!
//! - Tests run side by side in one process, each in its own `Lab`; addresses may repeat. Nothing is
//!   named in the system: namespaces exist as descriptors, so that they cannot outlive the test.
//! - A node has its own network, `/run`, `/sys` and `/dev/log`, so that two directors can use the
//!   same pid files; [`NodeBuilder::private`] gives it more directories of its own, such as
//!   `/etc/sysconfig/ha`. Everything else is shared. The working directory of programs is `/`.
//! - Await, never sleep: everything that happens has a `wait…` with a limit. [`PATIENCE`] is the
//!   limit for what must come; it costs nothing when it comes. The waits return a [`TimedOut`] that
//!   says what was seen instead. What can only fail where the laboratory is broken panics at once.
//! - When a test fails, the output of its programs, the syslog of its nodes and their IPVS tables
//!   are shown.
//! - IPVS statistics lag by about two seconds; and UDP "connections" outlive their last packet by
//!   minutes in the table.

#![allow(clippy::panic, reason = "a laboratory that cannot be set up fails its test at once")]

mod addresses;
mod board;
mod capture;
mod http;
mod https;
mod namespace;
mod node;
mod original;
mod probe;
mod process;
mod site;
mod syslog;
mod table;
mod tcp;
mod udp;
mod world;

use std::time::Duration;

pub use addresses::{AddressEvent, AddressWatch};
pub use board::TimedOut;
pub use capture::{Arp, Capture, Frame, Kind, Udp};
pub use http::Response;
pub use https::Nginx;
pub use node::{Cut, Node, NodeBuilder};
pub use original::{Heard, Original, Rank};
pub use probe::{Counts, Flow, NameServer, Prober};
pub use process::{Line, Program, Running, Stream, programs_first_in};
pub use site::{Method, Site, direct_site, nat_site, tunnel_site};
pub use syslog::{Syslog, SyslogLine};
pub use table::{Server, Service, Table};
pub use tcp::{Behaviour, TcpServer};
pub use udp::{UdpBehaviour, UdpServer};
pub use world::{Lab, require_ipvs};

/// How long to wait for what must come: 30 s. Long enough for the slowest machine, so that only
/// what never comes fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

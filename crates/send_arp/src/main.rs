//! send_arp: tells a segment where an address is from now on, by one ARP reply that nobody has asked
//! for.

mod order;

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::process::ExitCode;

use daemon::args;
use daemon::terminal::{complain, print};
use lvs_net::arp::{self, Socket};
use lvs_net::{Error, ErrorKind};
use order::{Order, Start};

fn main() -> ExitCode {
    match order::read(std::env::args_os().skip(1).collect(), resolve) {
        Start::Help => print(order::HELP),
        Start::Usage => print(order::USAGE),
        Start::Version => print(&args::version()),
        Start::Refuse(text) => {
            complain(&text);
            return ExitCode::FAILURE;
        }
        Start::Send(order) => {
            if let Err(error) = send(&order) {
                complain(&format!("send_arp: {}", explain(&order, &error)));
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn send(order: &Order) -> Result<(), Error> {
    let socket = Socket::open(&order.device)?;
    socket.send(&arp::gratuitous(order.address, order.mac, order.to))
}

/// Who left out `-i` may not know of which interface the message speaks.
fn explain(order: &Order, error: &Error) -> String {
    let missing = error.kind() == ErrorKind::NoInterface;
    let hint = if missing && order.by_default { "; name another with -i" } else { "" };
    format!("{error}{hint}")
}

/// The first IPv4 address of a host, as the C library finds it.
fn resolve(host: &str) -> Option<Ipv4Addr> {
    let found = (host, 0).to_socket_addrs().ok()?;
    found
        .filter_map(|address| match address {
            SocketAddr::V4(address) => Some(*address.ip()),
            SocketAddr::V6(_) => None,
        })
        .next()
}

//! Asking the default gateway for a sign of life: ICMP echo (RFC 792), a few times.

use daemon::poll::{self, Poller};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

/// How often it is asked, and how long each time.
const TIMES: u16 = 4;
const PATIENCE: Duration = Duration::from_millis(500);
/// Most packets read at a time: all ICMP of this machine comes by.
const AT_ONCE: usize = 64;

const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// A question under way.
#[derive(Debug)]
pub struct Probe {
    socket: Socket,
    gateway: Ipv4Addr,
    id: u16,
    asked: u16,
    until: Instant,
}

impl Probe {
    /// Asks for the first time.
    ///
    /// # Errors
    /// When there is no raw socket to be had, or the packet cannot be sent.
    pub fn start(
        gateway: Ipv4Addr,
        poller: &Poller,
        token: u64,
        now: Instant,
    ) -> io::Result<Probe> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.set_nonblocking(true)?;
        poller.add(&socket, token, poll::READ)?;
        let [.., high, low] = std::process::id().to_be_bytes();
        let id = u16::from_be_bytes([high, low]);
        let mut probe = Probe { socket, gateway, id, asked: 0, until: now };
        probe.ask(now)?;
        Ok(probe)
    }

    fn ask(&mut self, now: Instant) -> io::Result<()> {
        self.asked += 1;
        self.until = now + PATIENCE;
        let request = echo_request(self.id, self.asked);
        self.socket.send_to(&request, &SocketAddrV4::new(self.gateway, 0).into()).map(drop)
    }

    /// When [`Probe::on_time`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.until
    }

    /// Asks again, or gives up: false, then.
    pub fn on_time(&mut self, now: Instant) -> Option<bool> {
        if self.until > now {
            return None;
        }
        if self.asked >= TIMES {
            return Some(false);
        }
        // One that cannot be sent is one that is not answered.
        if let Err(error) = self.ask(now) {
            log::debug!("ping {}: {error}", self.gateway);
        }
        None
    }

    /// Reads what has come: true, when the gateway has answered.
    pub fn read(&mut self) -> Option<bool> {
        let mut packet = [0; 256];
        for _ in 0..AT_ONCE {
            let Ok(length) = (&self.socket).read(&mut packet) else { break };
            if is_reply(&packet[..length], self.gateway, self.id) {
                return Some(true);
            }
        }
        None
    }
}

/// An echo request without data.
fn echo_request(id: u16, number: u16) -> [u8; 8] {
    let ([a, b], [c, d]) = (id.to_be_bytes(), number.to_be_bytes());
    let mut packet = [ECHO_REQUEST, 0, 0, 0, a, b, c, d];
    let [high, low] = checksum(&packet).to_be_bytes();
    (packet[2], packet[3]) = (high, low);
    packet
}

/// The checksum of RFC 1071, for an even number of bytes.
fn checksum(packet: &[u8]) -> u16 {
    let words =
        packet.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Whether an IP packet is the gateway's answer to one of our requests.
fn is_reply(packet: &[u8], gateway: Ipv4Addr, id: u16) -> bool {
    let Some(first) = packet.first() else { return false };
    let header = usize::from(first & 0xf) * 4;
    let from = packet.get(12..16);
    let icmp = packet.get(header..header + 8);
    from == Some(&gateway.octets())
        && icmp.is_some_and(|icmp| icmp[0] == ECHO_REPLY && icmp[4..6] == id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_checksum_that_makes_the_sum_zero() {
        let request = echo_request(0x1234, 7);
        assert_eq!(request[0], 8);
        assert_eq!(checksum(&request), 0);
        assert_eq!(checksum(&[0xff; 8]), 0);
    }

    #[test]
    fn only_the_gateways_answer_to_us_counts() {
        let gateway = Ipv4Addr::new(10, 0, 0, 254);
        let mut packet = vec![0x46; 1];
        packet.resize(24, 0);
        packet[12..16].copy_from_slice(&gateway.octets());
        packet.extend([ECHO_REPLY, 0, 0, 0, 0x12, 0x34, 0, 1]);
        assert!(is_reply(&packet, gateway, 0x1234));
        assert!(!is_reply(&packet, gateway, 0x1235));
        assert!(!is_reply(&packet, Ipv4Addr::new(10, 0, 0, 253), 0x1234));
        for length in 0..packet.len() {
            assert!(!is_reply(&packet[..length], gateway, 0x1234));
        }
        packet[24] = ECHO_REQUEST;
        assert!(!is_reply(&packet, gateway, 0x1234));
    }
}

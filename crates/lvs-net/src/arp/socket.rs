//! ARP on the wire, by packet sockets (packet(7)).

use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockAddr, Type};

use super::{FRAME, Packet, parse, request};
use crate::error::{Error, ErrorKind};
use crate::link::Link;

/// How many probes [`conflict`] sends (`PROBE_NUM` of RFC 5227).
pub const PROBES: u32 = 3;
/// More bytes than an ARP packet for IPv4 has; the rest is padding.
const ROOM: usize = 128;
/// How many frames are looked at for the next packet.
const BATCH: u32 = 64;

/// A socket that sends frames on one interface and receives the ARP packets that come in there.
/// Never blocks; closed on exec.
#[derive(Debug)]
pub struct Socket {
    socket: socket2::Socket,
    interface: String,
}

impl Socket {
    /// Opens a socket on the interface of that name, in the network namespace of this thread.
    ///
    /// # Errors
    /// [`ErrorKind::NoInterface`]; [`ErrorKind::NotPermitted`] without `CAP_NET_RAW`.
    pub fn open(interface: &str) -> Result<Socket, Error> {
        let failed =
            |error: io::Error| system(&format!("open a socket for ARP on {interface}"), &error);
        let index = if_nametoindex(interface).map_err(|errno| failed(errno.into()))?;
        // No protocol before it is bound: frames of other interfaces would come in.
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = socket2::Socket::new_raw(Domain::PACKET, kind, None).map_err(failed)?;
        socket.bind(&arp_on(index).map_err(failed)?).map_err(failed)?;
        Ok(Socket { socket, interface: interface.to_owned() })
    }

    /// The name of its interface, when it was opened.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Down`]; [`ErrorKind::NoInterface`] when it has gone; [`ErrorKind::Overrun`] when
    /// the interface has too much to send already.
    pub fn send(&self, frame: &[u8; FRAME]) -> Result<(), Error> {
        loop {
            match self.socket.send(frame) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(system(&format!("send ARP on {}", self.interface), &error));
                }
            }
        }
    }

    /// The next ARP packet that has come in; `None` if there is none at the moment.
    ///
    /// # Errors
    /// [`ErrorKind::Down`], once, when the interface has gone down.
    pub fn receive(&self) -> Result<Option<Packet>, Error> {
        let mut frame = [0; ROOM];
        // No longer than this for a flood of what is no ARP packet.
        for _ in 0..BATCH {
            match (&self.socket).read(&mut frame) {
                Ok(length) => {
                    let packet = frame.get(..length).and_then(parse);
                    if packet.is_some() {
                        return Ok(packet);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => break,
                    _ => return Err(system(&format!("receive ARP on {}", self.interface), &error)),
                },
            }
        }
        Ok(None)
    }

    /// Waits until `deadline` for a packet that contends for the address, and returns its sender.
    fn await_contender(
        &self,
        address: Ipv4Addr,
        own: [u8; 6],
        deadline: Instant,
    ) -> Result<Option<[u8; 6]>, Error> {
        loop {
            // One packet at a time, so that a storm of others does not outlast the deadline.
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            match self.receive()? {
                Some(packet) if packet.contends_for(address, own) => {
                    return Ok(Some(packet.sender_mac));
                }
                Some(_) => {}
                None => self.wait(left)?,
            }
        }
    }

    fn wait(&self, left: Duration) -> Result<(), Error> {
        let milliseconds = u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(milliseconds)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => {
                Err(system(&format!("wait for ARP on {}", self.interface), &errno.into()))
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Asks whether somebody else on the link has an address, by up to [`PROBES`] probes within `limit`
/// (RFC 5227 takes up to 7 s; most answers come within milliseconds), and returns the Ethernet
/// address of the first who says so. A silent segment takes the whole time, so this is for
/// programs that may wait.
///
/// # Errors
/// [`ErrorKind::Invalid`] on an interface without ARP; else as [`Socket::open`], [`Socket::send`]
/// and [`Socket::receive`].
pub fn conflict(link: &Link, address: Ipv4Addr, limit: Duration) -> Result<Option<[u8; 6]>, Error> {
    let Some(mac) = link.mac.filter(|_| link.arp) else {
        let action = format!("ask on {} who has {address}", link.name);
        return Err(Error::new(ErrorKind::Invalid, &action, "there is no ARP on it"));
    };
    let socket = Socket::open(&link.name)?;
    let start = Instant::now();
    for probe in 1..=PROBES {
        socket.send(&request(Ipv4Addr::UNSPECIFIED, mac, address))?;
        let deadline = start + limit.saturating_mul(probe) / PROBES;
        let contender = socket.await_contender(address, mac, deadline)?;
        if contender.is_some() {
            return Ok(contender);
        }
    }
    Ok(None)
}

/// What an errno means for a packet socket.
fn system(action: &str, error: &io::Error) -> Error {
    let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
    let (kind, reason) = match errno {
        Errno::ENODEV | Errno::ENXIO => {
            (ErrorKind::NoInterface, "there is no such network interface")
        }
        Errno::ENETDOWN => {
            (ErrorKind::Down, "the interface is down: switch it on (ip link set … up)")
        }
        Errno::EAGAIN | Errno::ENOBUFS => {
            (ErrorKind::Overrun, "the interface has too much to send already: try again")
        }
        errno => return Error::system(&action, errno),
    };
    Error::new(kind, &action, reason)
}

/// Where ARP comes in on the interface of that number, as bind(2) wants it.
#[allow(unsafe_code)]
fn arp_on(index: u32) -> io::Result<SockAddr> {
    let too_large = || io::Error::from(Errno::ENODEV);
    let address = libc::sockaddr_ll {
        sll_family: libc::sa_family_t::try_from(libc::AF_PACKET).map_err(|_| too_large())?,
        sll_protocol: u16::try_from(libc::ETH_P_ARP).map_err(|_| too_large())?.to_be(),
        sll_ifindex: i32::try_from(index).map_err(|_| too_large())?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(|_| too_large())?;
    // SAFETY: the storage is as large and as aligned as any socket address needs, a sockaddr_ll is
    // written to it whole, and `length` is that address's size and family its own. Needed because
    // neither socket2 nor nix can make an address of this family.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, room| {
            storage.cast::<libc::sockaddr_ll>().write(address);
            *room = length;
            Ok(())
        })
    }?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_interface_and_the_remedy() {
        let down = system("send ARP on eth1", &Errno::ENETDOWN.into());
        assert_eq!(down.kind(), ErrorKind::Down);
        assert_eq!(
            down.to_string(),
            "send ARP on eth1: the interface is down: switch it on (ip link set … up)"
        );
        let missing = Socket::open("no-such-nic0").unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NoInterface);
        assert_eq!(
            missing.to_string(),
            "open a socket for ARP on no-such-nic0: there is no such network interface"
        );
    }

    #[test]
    fn there_is_nobody_to_ask_without_arp() {
        let link = Link {
            index: 1,
            name: "lo".to_owned(),
            mac: Some([0; 6]),
            up: true,
            carrier: true,
            arp: false,
        };
        let error = conflict(&link, Ipv4Addr::LOCALHOST, Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "ask on lo who has 127.0.0.1: there is no ARP on it");
    }

    /// The layout is what the kernel reads.
    #[test]
    fn the_address_is_that_of_the_interface() {
        let address = arp_on(7).unwrap();
        assert_eq!(i32::from(address.family()), libc::AF_PACKET);
        assert_eq!(usize::try_from(address.len()).unwrap(), size_of::<libc::sockaddr_ll>());
        assert!(arp_on(u32::MAX).is_err());
    }
}

//! Questions and changes to the kernel, by rtnetlink.

use std::time::Duration;

use log::{debug, warn};
use neli::consts::nl::NlmF;
use neli::consts::rtnl::Rtm;
use neli::consts::socket::NlFamily;
use netlink::wire::{Malformed, Message, Writer};
use netlink::{Outcome, Socket, Trouble};
use nix::errno::Errno;
use nix::net::if_::if_indextoname;

use crate::address::{Address, AddressChange};
use crate::error::Error;
use crate::link::Link;
use crate::message::{self, ADDRESS_HEADER, AF_INET, LINK_HEADER, ROUTE_HEADER};
use crate::route::Gateway;

/// How long the kernel may take for an answer.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);
/// How often a read is tried that answers were lost of, or that the table changed under.
const READS: u32 = 4;
/// How many changes are sent at a time, at most.
const BATCH: usize = 64;
/// What the kernel charges the receive buffer for the refusal of one change, at most: the change
/// itself, which is in it, a header, and its own bookkeeping.
const REFUSAL: usize = 2048;

/// A change that was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its place among the changes.
    pub index: usize,
    /// Why.
    pub error: Error,
}

/// This machine's interfaces, addresses and routes, by rtnetlink (rtnetlink(7), Linux 2.6.32 and
/// newer).
///
/// One socket for good, closed on exec, in the network namespace it was opened in; the caller must
/// stay there, because the socket is opened anew after errors. Each call waits for the kernel's
/// answer, which comes at once, and for 5 s at most if it does not.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    /// How many changes are sent at a time.
    batch: usize,
}

impl Netlink {
    /// Opens a socket.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the process or the system is out of descriptors
    /// or memory.
    pub fn open() -> Result<Netlink, Error> {
        let open = || -> Result<Netlink, Trouble> {
            let socket = Socket::open(NlFamily::Route, LIMIT)?;
            let batch = (socket.receive_buffer()? / REFUSAL).clamp(1, BATCH);
            Ok(Netlink { socket, batch })
        };
        open().map_err(|trouble| Error::unread(&"open a socket for rtnetlink", &trouble))
    }

    /// All interfaces.
    ///
    /// # Errors
    /// The kernel's refusal, or no complete answer.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        self.read("read the interfaces", Rtm::Getlink, &[0; LINK_HEADER], message::link)
    }

    /// The IPv4 addresses of all interfaces, in the kernel's order: those of an interface together,
    /// each network's first before its secondary ones.
    ///
    /// # Errors
    /// As [`Netlink::links`].
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let mut fixed = [0; ADDRESS_HEADER];
        fixed[0] = AF_INET;
        let mut found = self.read("read the addresses", Rtm::Getaddr, &fixed, message::address)?;
        found.iter_mut().for_each(name_unlabelled);
        Ok(found)
    }

    /// The router of the default route: of several the one with the lowest metric, of equals the
    /// first. Only the main table counts; rules for others (ip-rule(8)) are not looked at.
    ///
    /// The kernel lists all its routes for this, a million of them in about a second.
    ///
    /// # Errors
    /// As [`Netlink::links`].
    pub fn default_gateway(&mut self) -> Result<Option<Gateway>, Error> {
        let mut fixed = [0; ROUTE_HEADER];
        fixed[0] = AF_INET;
        let found = self.read("read the routes", Rtm::Getroute, &fixed, message::default_route)?;
        Ok(found.into_iter().min_by_key(|(metric, _)| *metric).map(|(_, gateway)| gateway))
    }

    /// Makes changes in their order, many at a time, and goes on after failures. What is not among
    /// these has been done.
    #[must_use = "what failed has not been done"]
    pub fn apply(&mut self, changes: &[AddressChange]) -> Vec<Failure> {
        let mut failures = Vec::new();
        let mut sound = Vec::with_capacity(changes.len());
        for (index, change) in changes.iter().enumerate() {
            match change.check() {
                Ok(()) => sound.push((index, change)),
                Err(error) => failures.push(Failure { index, error }),
            }
        }
        for batch in sound.chunks(self.batch) {
            failures.extend(self.apply_batch(batch));
        }
        failures.sort_by_key(|failure| failure.index);
        failures
    }

    fn apply_batch(&mut self, changes: &[(usize, &AddressChange)]) -> Vec<Failure> {
        let mut writer = Writer::default();
        let mut first = None;
        for (place, (_, change)) in changes.iter().enumerate() {
            // The kernel answers to those that fail anyway, and to the last one in any case.
            let last = place + 1 == changes.len();
            let flags = if last { NlmF::ACK } else { NlmF::empty() };
            let sequence = self.socket.next_sequence();
            first.get_or_insert(sequence);
            message::change(&mut writer, change, flags, sequence);
        }
        let outcome = self.socket.batch(&writer, first.unwrap_or_default(), changes.len());
        failures(changes, &outcome)
    }

    /// Everything of a kind, as `decode` reads it. Read again when answers were lost, or when it
    /// changed meanwhile.
    fn read<T>(
        &mut self,
        action: &str,
        kind: Rtm,
        fixed: &[u8],
        decode: impl Fn(&Message<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>, Error> {
        let kind = u16::from(kind);
        let mut tries = 1;
        loop {
            let mut found = Vec::new();
            let read = self.socket.dump(
                kind,
                fixed,
                |_| {},
                |message| {
                    found.extend(decode(message)?);
                    Ok(())
                },
            );
            let trouble = match read {
                Ok(()) => return Ok(found),
                Err(trouble) => trouble,
            };
            debug!("{action}: {trouble:?}");
            if !matches!(trouble, Trouble::Refused(_)) {
                // The dump may go on: leave nothing behind that could be taken for the next answer.
                *self = Netlink::open()?;
            }
            let again = matches!(
                trouble,
                Trouble::Overrun | Trouble::Interrupted | Trouble::Refused(Errno::EBUSY)
            );
            if !again || tries == READS {
                return Err(Error::unread(&action, &trouble));
            }
            tries += 1;
        }
    }
}

/// What the outcome of a batch means for each of its changes.
fn failures(changes: &[(usize, &AddressChange)], outcome: &Outcome) -> Vec<Failure> {
    let mut errors: Vec<Option<Error>> = vec![None; changes.len()];
    if let Err(trouble) = &outcome.settled {
        warn!("{} changes of addresses: {trouble:?}", changes.len());
        for (error, (_, change)) in errors.iter_mut().zip(changes) {
            *error = Some(Error::unknown(change, trouble));
        }
    }
    for (place, errno) in &outcome.refused {
        if let (Some(error), Some((_, change))) = (errors.get_mut(*place), changes.get(*place)) {
            *error = Some(Error::refused(change, *errno));
        }
    }
    let failures = errors.into_iter().zip(changes);
    failures
        .filter_map(|(error, (index, _))| Some(Failure { index: *index, error: error? }))
        .collect()
}

/// Gives an address without a label its interface's name, as ifconfig shows it. Kernels label all
/// addresses by themselves; one whose interface has just gone stays without.
pub(crate) fn name_unlabelled(address: &mut Address) {
    if address.label.is_empty()
        && let Ok(name) = if_indextoname(address.index)
    {
        address.label = name.to_string_lossy().into_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn add(addr: [u8; 4]) -> AddressChange {
        AddressChange::Add(Address {
            index: 2,
            addr: addr.into(),
            prefix: 24,
            broadcast: None,
            label: "eth0:1".to_owned(),
            secondary: false,
        })
    }

    #[test]
    fn a_lost_answer_leaves_the_others_in_doubt_and_the_refused_refused() {
        let (a, b) = (add([10, 0, 0, 1]), add([10, 0, 0, 2]));
        let changes = [(3, &a), (5, &b)];
        let outcome = Outcome { refused: vec![(0, Errno::EEXIST)], settled: Err(Trouble::Overrun) };
        let found = failures(&changes, &outcome);
        let kinds: Vec<_> = found.iter().map(|f| (f.index, f.error.kind())).collect();
        assert_eq!(kinds, [(3, ErrorKind::Exists), (5, ErrorKind::Overrun)]);
        assert!(!found[0].error.is_uncertain() && found[1].error.is_uncertain());

        let outcome = Outcome { refused: vec![(1, Errno::EPERM)], settled: Ok(()) };
        let found = failures(&changes, &outcome);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].index, found[0].error.kind()), (5, ErrorKind::NotPermitted));
    }

    /// Reading takes no privileges, and every machine has a loopback interface.
    #[test]
    fn this_machine_can_be_read() {
        let mut kernel = Netlink::open().unwrap();
        let links = kernel.links().unwrap();
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert!(lo.index > 0 && !lo.arp);
        for address in kernel.addresses().unwrap() {
            let on = links.iter().find(|link| link.index == address.index);
            assert!(address.prefix <= 32 && !address.label.is_empty(), "{address:?} {on:?}");
        }
        kernel.default_gateway().unwrap();
    }
}

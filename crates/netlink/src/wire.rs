//! Messages and attributes (`include/uapi/linux/netlink.h`).
//!
//! neli's own codec is not used for them: it allocates for every attribute, and subtracts lengths
//! before it checks them. Its socket and its constants are.

use neli::consts::nl::NlmF;

/// Bytes of `struct nlmsghdr`.
const MESSAGE_HEADER: usize = 16;
/// Bytes of `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`.
const TYPE_MASK: u16 = !(3 << 14);

/// Messages and attributes are aligned to 4 bytes (`NLMSG_ALIGNTO`, `NLA_ALIGNTO`).
const fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// Something the kernel sent does not follow its own format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's answer has {0}")]
pub struct Malformed(pub &'static str);

/// What a request begins with.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The message type: for rtnetlink, what is asked; for generic netlink, the family.
    pub kind: u16,
    /// `NLM_F_REQUEST` is added.
    pub flags: NlmF,
    /// What the answers are known by.
    pub sequence: u32,
    /// The family's own fixed header, as it is in memory.
    pub fixed: &'a [u8],
}

/// A growing series of requests.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// What has been written so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends a request whose attributes `body` writes.
    pub fn message(&mut self, head: Head<'_>, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&head.kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(head.flags | NlmF::REQUEST).bits().to_ne_bytes());
        self.bytes.extend_from_slice(&head.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(head.fixed);
        self.pad();
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.patch(start, &length.to_ne_bytes());
    }

    /// Appends an attribute. It must stay below 64 KiB.
    pub fn attribute(&mut self, kind: u16, payload: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(payload);
        self.close(start);
    }

    /// Appends an attribute made of those that `body` writes.
    pub fn nested(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.open(kind | NESTED);
        body(self);
        self.close(start);
    }

    /// Appends a number in the machine's byte order.
    pub fn u16(&mut self, kind: u16, value: u16) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Appends a number in the machine's byte order.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Appends a string with its closing NUL.
    pub fn string(&mut self, kind: u16, value: &str) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
    }

    /// The length is filled in by [`Self::close`].
    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.patch(start, &length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    fn patch(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }
}

/// A message of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The message type.
    pub kind: u16,
    /// Its flags.
    pub flags: NlmF,
    /// That of the request it answers; 0 in a notice.
    pub sequence: u32,
    /// What follows the netlink header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The errno, as a positive number, of an `NLMSG_ERROR` or `NLMSG_DONE` message; 0 is success.
    /// Old kernels end a dump without a number: success as well.
    ///
    /// # Errors
    /// A number that is cut off.
    pub fn errno(&self) -> Result<i32, Malformed> {
        match self.payload.first_chunk() {
            Some(code) => Ok(i32::from_ne_bytes(*code).saturating_neg()),
            None if self.payload.is_empty() => Ok(0),
            None => Err(Malformed("a cut error code")),
        }
    }

    /// The family's fixed header of `N` bytes, a multiple of 4, and the attributes behind it.
    ///
    /// # Errors
    /// A shorter message.
    pub fn split<const N: usize>(&self) -> Result<(&'a [u8; N], Attributes<'a>), Malformed> {
        let parts = self.payload.split_first_chunk();
        let (fixed, rest) = parts.ok_or(Malformed("a cut message"))?;
        Ok((fixed, Attributes(rest)))
    }
}

/// Goes through the messages of one datagram. The first that is malformed is the last.
#[derive(Clone, Debug)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let Some((header, _)) = bytes.split_first_chunk::<MESSAGE_HEADER>() else {
            return Some(Err(Malformed("a cut message header")));
        };
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let Some(payload) = bytes.get(MESSAGE_HEADER..length) else {
            return Some(Err(Malformed("a message of an impossible length")));
        };
        self.0 = bytes.get(align(length)..).unwrap_or_default();
        Some(Ok(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: NlmF::from_bits_retain(u16::from_ne_bytes([f0, f1])),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload,
        }))
    }
}

/// Goes through a series of attributes: each has a type, without its flags, and a payload. The
/// first that is malformed is the last.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// The payload of the first attribute of a type.
    ///
    /// # Errors
    /// A malformed one before it.
    pub fn find(self, wanted: u16) -> Result<Option<&'a [u8]>, Malformed> {
        for attribute in self {
            let (kind, payload) = attribute?;
            if kind == wanted {
                return Ok(Some(payload));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let Some(([l0, l1, k0, k1], _)) = bytes.split_first_chunk::<ATTRIBUTE_HEADER>() else {
            return Some(Err(Malformed("a cut attribute header")));
        };
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let Some(payload) = bytes.get(ATTRIBUTE_HEADER..length) else {
            return Some(Err(Malformed("an attribute of an impossible length")));
        };
        self.0 = bytes.get(align(length)..).unwrap_or_default();
        Some(Ok((u16::from_ne_bytes([*k0, *k1]) & TYPE_MASK, payload)))
    }
}

/// A payload of exactly so many bytes.
///
/// # Errors
/// Another length.
pub fn exactly<const N: usize>(payload: &[u8]) -> Result<[u8; N], Malformed> {
    payload.try_into().map_err(|_| Malformed("an attribute of the wrong size"))
}

/// A number in the machine's byte order.
///
/// # Errors
/// Another length than 2.
pub fn u16(payload: &[u8]) -> Result<u16, Malformed> {
    exactly(payload).map(u16::from_ne_bytes)
}

/// A number in the machine's byte order.
///
/// # Errors
/// Another length than 4.
pub fn u32(payload: &[u8]) -> Result<u32, Malformed> {
    exactly(payload).map(u32::from_ne_bytes)
}

/// A counter of 4 or 8 bytes, in the machine's byte order.
///
/// # Errors
/// Another length.
pub fn counter(payload: &[u8]) -> Result<u64, Malformed> {
    if payload.len() == 4 {
        return u32(payload).map(u64::from);
    }
    exactly(payload).map(u64::from_ne_bytes)
}

/// A string, up to its NUL if it has one.
///
/// # Errors
/// Bytes that are not UTF-8.
pub fn string(payload: &[u8]) -> Result<&str, Malformed> {
    let text = payload.split(|byte| *byte == 0).next().unwrap_or_default();
    std::str::from_utf8(text).map_err(|_| Malformed("a name that is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: Head<'static> =
        Head { kind: 30, flags: NlmF::ACK, sequence: 7, fixed: &[5, 1, 0, 0] };

    #[test]
    fn what_was_written_is_read_again() {
        let mut writer = Writer::default();
        writer.message(HEAD, |w| {
            w.nested(1, |w| {
                w.u16(2, 0x1234);
                w.string(3, "wlc");
                w.attribute(4, &[1, 2, 3, 4, 5]);
            });
            w.u32(9, 99);
        });
        // A fixed header of any length: the attributes are aligned all the same.
        writer.message(Head { sequence: 8, fixed: &[2], ..HEAD }, |w| w.u16(2, 6));
        let messages: Result<Vec<_>, _> = Messages(writer.bytes()).collect();
        let messages = messages.unwrap();
        assert_eq!(messages.iter().map(|m| m.sequence).collect::<Vec<_>>(), [7, 8]);
        assert_eq!((messages[0].kind, messages[0].flags), (30, NlmF::ACK | NlmF::REQUEST));
        let (fixed, attributes) = messages[0].split::<4>().unwrap();
        assert_eq!(fixed, &[5, 1, 0, 0]);
        assert_eq!(u32(attributes.clone().find(9).unwrap().unwrap()), Ok(99));
        assert_eq!(attributes.clone().find(8), Ok(None));
        let inner: Vec<_> = Attributes(attributes.find(1).unwrap().unwrap()).flatten().collect();
        assert_eq!((inner[0].0, u16(inner[0].1)), (2, Ok(0x1234)));
        assert_eq!((inner[1].0, string(inner[1].1)), (3, Ok("wlc")));
        assert_eq!(inner[2], (4, &[1, 2, 3, 4, 5][..]));
        let (fixed, attributes) = messages[1].split::<4>().unwrap();
        assert_eq!((fixed, attributes.count()), (&[2, 0, 0, 0], 1));
        assert!(messages[1].split::<16>().is_err());
    }

    /// `struct nlmsghdr` and `nlattr`, byte for byte.
    #[test]
    #[cfg(target_endian = "little")]
    fn the_layout_is_the_kernels() {
        let mut writer = Writer::default();
        let head = Head { sequence: 0x0102_0304, ..HEAD };
        writer.message(head, |w| w.nested(1, |w| w.u16(2, 0x0506)));
        let header = [32, 0, 0, 0, 30, 0, 5, 0, 4, 3, 2, 1, 0, 0, 0, 0, 5, 1, 0, 0];
        let attributes = [12, 0, 1, 0x80, 6, 0, 2, 0, 6, 5, 0, 0];
        assert_eq!(writer.bytes(), [&header[..], &attributes[..]].concat());
    }

    #[test]
    fn impossible_lengths_are_reported() {
        let cut = [40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for bytes in [&cut[..], &cut[..15], &[0; 16], &[15, 0, 0, 0].repeat(4)] {
            assert!(Messages(bytes).next().unwrap().is_err(), "{bytes:?}");
        }
        for bytes in [&[4, 0, 1][..], &[3, 0, 1, 0], &[9, 0, 1, 0, 1, 2, 3, 4]] {
            assert!(Attributes(bytes).next().unwrap().is_err(), "{bytes:?}");
            assert!(Attributes(bytes).find(7).is_err(), "{bytes:?}");
        }
        assert!(u16(&[1]).is_err() && u32(&[0; 8]).is_err() && counter(&[0; 5]).is_err());
        assert_eq!((counter(&[0; 4]), counter(&[0; 8])), (Ok(0), Ok(0)));
        assert!(string(&[0xff]).is_err());
        assert_eq!(string(b"rr"), Ok("rr"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_used_up(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Messages(&bytes).count() <= bytes.len());
            prop_assert!(Attributes(&bytes).count() <= bytes.len());
            for message in Messages(&bytes).flatten() {
                let _ = message.errno();
                let _ = message.split::<8>().map(|(_, attributes)| attributes.count());
            }
        }
    }
}

//! The heartbeat on the wire.
//!
//! A heartbeat is a UDP datagram. Its first four bytes are one of seven numbers, in the sender's
//! byte order: all that an original node sends, and all that it reads. A node of this suite appends
//! an extension, which an original node never sees (it reads four bytes, and the kernel drops the
//! rest of a datagram). All numbers of the extension are big-endian:
//!
//! | offset | bytes | meaning |
//! |---|---|---|
//! | 0 | 4 | the word, see [`Word`] |
//! | 4 | 4 | `pair` in ASCII: here the extension begins |
//! | 8 | 1 | its version, 1 |
//! | 9 | 1 | flags: 1 master, 2 able, 4 handing over, 8 prepared, 16 leaving |
//! | 10 | 2 | length of what follows this field and belongs to the extension |
//! | 12 | 4 | start: a random number of this start of the sender |
//! | 16 | 4 | sequence number, one more with each heartbeat |
//! | 20 | 8 | age of the sender's state, milliseconds |
//! | 28 | 4 | the sender's keepalive, milliseconds |
//! | 32 | 1 | length of the reason, at most 100 |
//! | 33 | … | the reason of the sender's last change, ASCII |
//!
//! Later fields go behind the reason, within the length, and are skipped by who does not know them;
//! so is everything behind the length. Another version, or an extension that is cut off, is as none:
//! the word counts.

use std::borrow::Cow;
use std::fmt;

/// Longest reason, bytes.
pub const REASON_MAX: usize = 100;
/// Longest datagram that [`encode`] makes, bytes. Receive with more room than that: the extension may
/// grow.
pub const LONGEST: usize = REASON_AT + REASON_MAX;

const MAGIC: [u8; 4] = *b"pair";
const VERSION: u8 = 1;
/// Where what the length counts begins.
const BODY_AT: usize = 12;
const REASON_AT: usize = 33;

const MASTER: u8 = 1;
const ABLE: u8 = 2;
const HANDING_OVER: u8 = 4;
const PREPARED: u8 = 8;
const LEAVING: u8 = 16;

/// What lvs.cf makes of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Bears the address `primary`.
    Master,
    /// The other one.
    Backup,
}

impl Role {
    /// `master` or `backup`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Backup => "backup",
        }
    }
}

/// The number that a heartbeat begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// lvs: the sender is active.
    Active,
    /// lvs: the sender is inactive.
    Inactive,
    /// fos: the sender is active.
    FosActive,
    /// fos: the sender is inactive.
    FosInactive,
    /// fos: the sender takes control, the receiver is to go inactive.
    TakeControl,
    /// A sign of life.
    Hold,
    /// A sign of life.
    Held,
}

impl Word {
    /// All of them.
    pub const ALL: [Word; 7] = [
        Word::Active,
        Word::Inactive,
        Word::FosActive,
        Word::FosInactive,
        Word::TakeControl,
        Word::Hold,
        Word::Held,
    ];

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Word::Active => 0xbdad_dbda,
            Word::Inactive => 0xadbd_dabd,
            Word::FosActive => 0xbeef_babe,
            Word::FosInactive => 0xdead_beef,
            Word::TakeControl => 0xdead_dada,
            Word::Hold => 0xdeaf_babe,
            Word::Held => 0xdeaf_dada,
        }
    }

    fn of(number: u32) -> Option<Word> {
        Word::ALL.into_iter().find(|word| word.number() == number)
    }
}

/// One heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What the sender says of itself.
    pub word: Word,
    /// What an original node does not send.
    pub extra: Option<Extra>,
}

/// The extension of a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// Random number of this start of the sender.
    pub start: u32,
    /// Number of this heartbeat; the copies on all paths bear the same.
    pub seq: u32,
    /// Role of the sender.
    pub role: Role,
    /// Nothing keeps the sender from becoming or being active.
    pub able: bool,
    /// With "active": the receiver is to make ready to take over. With "inactive": it is to take over.
    pub handing_over: bool,
    /// The sender is ready to take over.
    pub prepared: bool,
    /// The sender is about to exit.
    pub leaving: bool,
    /// Age of the sender's state (active or inactive), milliseconds.
    pub since_ms: u64,
    /// The sender's keepalive, milliseconds.
    pub keepalive_ms: u32,
    /// Why the sender is what it is: at most [`REASON_MAX`] printable ASCII characters count.
    pub reason: Cow<'static, str>,
}

/// Why a datagram is no heartbeat. Displayed as it is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// Fewer than four bytes.
    Short,
    /// Another number, as this machine reads it.
    Unknown(u32),
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bad::Short => f.write_str("bad heartbeat packet"),
            Bad::Unknown(_) => f.write_str(INCOMPATIBLE),
        }
    }
}

impl std::error::Error for Bad {}

/// Logged for a number, or a word, of another service.
pub(crate) const INCOMPATIBLE: &str =
    "Incompatible heartbeat received -- other system not using identical services";

/// The datagram for a heartbeat, at most [`LONGEST`] bytes.
#[must_use]
pub fn encode(message: &Message) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(LONGEST);
    datagram.extend(message.word.number().to_ne_bytes());
    if let Some(extra) = &message.extra {
        append(&mut datagram, extra);
    }
    datagram
}

fn append(datagram: &mut Vec<u8>, extra: &Extra) {
    let reason = printable(extra.reason.as_bytes());
    let reason_len = u8::try_from(reason.len()).unwrap_or(0);
    let fixed = u16::try_from(REASON_AT - BODY_AT).unwrap_or(0);
    datagram.extend(MAGIC);
    datagram.extend([VERSION, flags(extra)]);
    datagram.extend((fixed + u16::from(reason_len)).to_be_bytes());
    datagram.extend(extra.start.to_be_bytes());
    datagram.extend(extra.seq.to_be_bytes());
    datagram.extend(extra.since_ms.to_be_bytes());
    datagram.extend(extra.keepalive_ms.to_be_bytes());
    datagram.push(reason_len);
    datagram.extend(reason.bytes());
}

fn flags(extra: &Extra) -> u8 {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    flag(extra.role == Role::Master, MASTER)
        | flag(extra.able, ABLE)
        | flag(extra.handing_over, HANDING_OVER)
        | flag(extra.prepared, PREPARED)
        | flag(extra.leaving, LEAVING)
}

/// The heartbeat in a datagram, whatever the sender's byte order.
///
/// # Errors
/// [`Bad`]: the datagram does not begin with one of the seven numbers.
pub fn decode(datagram: &[u8]) -> Result<Message, Bad> {
    let (&word, _) = datagram.split_first_chunk::<4>().ok_or(Bad::Short)?;
    let number = u32::from_ne_bytes(word);
    let word =
        Word::of(number).or_else(|| Word::of(number.swap_bytes())).ok_or(Bad::Unknown(number))?;
    Ok(Message { word, extra: extension(datagram) })
}

fn extension(datagram: &[u8]) -> Option<Extra> {
    if field::<4>(datagram, 4)? != MAGIC || field::<1>(datagram, 8)? != [VERSION] {
        return None;
    }
    let [flags] = field::<1>(datagram, 9)?;
    let body_len = usize::from(u16::from_be_bytes(field(datagram, 10)?));
    let extension = datagram.get(..BODY_AT + body_len)?;
    let [reason_len] = field::<1>(extension, 32)?;
    let reason = extension.get(REASON_AT..REASON_AT + usize::from(reason_len))?;
    Some(Extra {
        start: u32::from_be_bytes(field(extension, 12)?),
        seq: u32::from_be_bytes(field(extension, 16)?),
        role: if flags & MASTER == 0 { Role::Backup } else { Role::Master },
        able: flags & ABLE != 0,
        handing_over: flags & HANDING_OVER != 0,
        prepared: flags & PREPARED != 0,
        leaving: flags & LEAVING != 0,
        since_ms: u64::from_be_bytes(field(extension, 20)?),
        keepalive_ms: u32::from_be_bytes(field(extension, 28)?),
        reason: Cow::Owned(printable(reason)),
    })
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// What may be logged of a reason.
fn printable(reason: &[u8]) -> String {
    let shown = |&byte: &u8| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '?' };
    reason.iter().take(REASON_MAX).map(shown).collect()
}

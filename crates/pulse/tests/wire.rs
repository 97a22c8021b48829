//! Heartbeats as bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;
use pulse::wire::{Bad, Extra, LONGEST, Message, REASON_MAX, Role, Word, decode, encode};

/// The numbers of the original, as its two nodes on x86 send them.
const WORDS: [(Word, [u8; 4]); 7] = [
    (Word::Active, [0xda, 0xdb, 0xad, 0xbd]),
    (Word::Inactive, [0xbd, 0xda, 0xbd, 0xad]),
    (Word::FosActive, [0xbe, 0xba, 0xef, 0xbe]),
    (Word::FosInactive, [0xef, 0xbe, 0xad, 0xde]),
    (Word::TakeControl, [0xda, 0xda, 0xad, 0xde]),
    (Word::Hold, [0xbe, 0xba, 0xaf, 0xde]),
    (Word::Held, [0xda, 0xda, 0xaf, 0xde]),
];

fn extra() -> Extra {
    Extra {
        start: 0x0102_0304,
        seq: 5,
        role: Role::Master,
        able: true,
        handing_over: false,
        prepared: true,
        leaving: false,
        since_ms: 0x1_0000_0002,
        keepalive_ms: 6_000,
        reason: "partner dead".into(),
    }
}

#[test]
fn words_are_read_in_both_byte_orders() {
    for (word, little) in WORDS {
        let mut big = little;
        big.reverse();
        for datagram in [little, big] {
            assert_eq!(decode(&datagram), Ok(Message { word, extra: None }));
        }
    }
}

#[test]
fn a_heartbeat_begins_with_the_word_in_this_machines_order() {
    for (word, little) in WORDS {
        let number = u32::from_le_bytes(little);
        for extra in [None, Some(extra())] {
            assert_eq!(encode(&Message { word, extra })[..4], number.to_ne_bytes());
        }
    }
    assert_eq!(encode(&Message { word: Word::Active, extra: None }).len(), 4);
}

#[test]
fn the_extension_byte_by_byte() {
    let datagram = encode(&Message { word: Word::Active, extra: Some(extra()) });
    let expected = [
        &b"pair"[..],
        &[1, 1 | 2 | 8],
        &[0, 33],
        &[1, 2, 3, 4],
        &[0, 0, 0, 5],
        &[0, 0, 0, 1, 0, 0, 0, 2],
        &[0, 0, 0x17, 0x70],
        &[12],
        b"partner dead",
    ];
    assert_eq!(datagram[4..], expected.concat());
}

#[test]
fn what_is_no_heartbeat_is_told_as_ever() {
    assert_eq!(decode(&[]), Err(Bad::Short));
    assert_eq!(decode(&[0xda, 0xdb, 0xad]).unwrap_err().to_string(), "bad heartbeat packet");
    let bad = decode(&[1, 2, 3, 4]).unwrap_err();
    assert_eq!(bad, Bad::Unknown(u32::from_ne_bytes([1, 2, 3, 4])));
    assert_eq!(
        bad.to_string(),
        "Incompatible heartbeat received -- other system not using identical services"
    );
}

#[test]
fn a_longer_datagram_with_an_unknown_tail_is_its_word() {
    for tail in [&b"x"[..], b"pair", b"pairs of shoes, and more of them", &[0; 2000]] {
        let datagram = [&WORDS[0].1[..], tail].concat();
        assert_eq!(decode(&datagram), Ok(Message { word: Word::Active, extra: None }));
    }
}

#[test]
fn a_later_extension_is_read_as_far_as_it_is_known() {
    let message = Message { word: Word::Inactive, extra: Some(extra()) };
    let mut datagram = encode(&message);
    // New fields behind the reason, counted in the length; and something behind the length.
    datagram.extend([9; 20]);
    datagram[11] += 10;
    assert_eq!(decode(&datagram), Ok(message));
}

#[test]
fn an_unknown_version_or_a_cut_extension_leaves_the_word() {
    let message = Message { word: Word::Active, extra: Some(extra()) };
    let whole = encode(&message);
    let word = Ok(Message { word: Word::Active, extra: None });
    for len in 4..whole.len() {
        assert_eq!(decode(&whole[..len]), word, "{len} bytes");
    }
    let mut other = whole.clone();
    other[8] = 2;
    assert_eq!(decode(&other), word);
    // A reason that ends behind the extension.
    let mut long = whole;
    long[32] = 255;
    assert_eq!(decode(&long), word);
}

#[test]
fn the_reason_is_bounded_and_printable() {
    let reason = format!("\u{1b}[2Jé\n{}", "x".repeat(300));
    let extra = Extra { reason: reason.into(), ..extra() };
    let datagram = encode(&Message { word: Word::Active, extra: Some(extra) });
    assert_eq!(datagram.len(), LONGEST);
    let read = decode(&datagram).unwrap().extra.unwrap().reason;
    assert_eq!(read, format!("?[2J???{}", "x".repeat(REASON_MAX - 7)));

    // A sender that does not keep to that.
    let mut hostile = datagram;
    hostile[33] = 7;
    assert!(decode(&hostile).unwrap().extra.unwrap().reason.starts_with("?[2J"));
}

fn any_extra() -> impl Strategy<Value = Extra> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u64>(), any::<u32>());
    (any::<[bool; 5]>(), numbers, "[ -~]{0,100}").prop_map(
        |(
            [master, able, handing_over, prepared, leaving],
            (start, seq, since_ms, keepalive_ms),
            reason,
        )| {
            Extra {
                start,
                seq,
                role: if master { Role::Master } else { Role::Backup },
                able,
                handing_over,
                prepared,
                leaving,
                since_ms,
                keepalive_ms,
                reason: reason.into(),
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_sent_is_read(
        word in proptest::sample::select(&Word::ALL),
        extra in proptest::option::of(any_extra()),
    ) {
        let message = Message { word, extra };
        let mut datagram = encode(&message);
        prop_assert!(datagram.len() <= LONGEST);
        prop_assert_eq!(decode(&datagram), Ok(message.clone()));
        // The same from a machine of the other byte order.
        datagram[..4].reverse();
        prop_assert_eq!(decode(&datagram), Ok(message));
    }

    #[test]
    fn no_bytes_are_too_much(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = decode(&bytes) {
            prop_assert_eq!(decode(&encode(&message)), Ok(message));
        }
    }

    #[test]
    fn no_extension_is_too_much(
        word in proptest::sample::select(&Word::ALL),
        header in any::<[u8; 3]>(),
        rest in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let [flags, high, low] = header;
        let [version, high] = [1, high & 1];
        let front = [&word.number().to_le_bytes()[..], b"pair", &[version, flags, high, low]];
        let message = decode(&[&front.concat()[..], &rest].concat()).unwrap();
        prop_assert_eq!(message.word, word);
        let reason = message.extra.map(|e| e.reason).unwrap_or_default();
        prop_assert!(reason.len() <= REASON_MAX && reason.bytes().all(|b| (b' '..=b'~').contains(&b)));
    }

    #[test]
    fn a_changed_byte_never_changes_the_word_into_another(
        extra in any_extra(),
        at in 4_usize..LONGEST,
        value in any::<u8>(),
    ) {
        let mut datagram = encode(&Message { word: Word::Active, extra: Some(extra) });
        if let Some(byte) = datagram.get_mut(at) {
            *byte = value;
        }
        prop_assert_eq!(decode(&datagram).map(|message| message.word), Ok(Word::Active));
    }
}

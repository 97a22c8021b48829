//! The command line.

use std::ffi::OsString;
use std::net::Ipv4Addr;

use daemon::args::{self, COMMON, option};
use lvs_net::interface_of;

/// What is said to a wrong command line.
pub(crate) const USAGE: &str = "Usage: send_arp [-i dev] src_ip src_mac targ_ip targ_mac\n";
/// What `--help` says.
pub(crate) const HELP: &str = "\
Usage: send_arp [-i dev] src_ip src_mac targ_ip targ_mac

Sends one ARP reply that nobody has asked for: src_ip is at src_mac from now on.

  -i, --interface=dev  Network interface to send it on (eth0)
  src_ip               Address that has moved, or a host name
  src_mac              Ethernet address where it is now, with or without colons
  targ_ip              Whom it is for: the network's broadcast address, or a host. The
                       frame does not contain it
  targ_mac             Ethernet address to send it to; ffffffffffff is everybody
      --version        Display version
  -?, --help           Show this help message
      --usage          Display brief usage message
";
/// The interface where none is named.
const DEVICE: &str = "eth0";

/// What to send, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The interface.
    pub(crate) device: String,
    /// Whether nobody named that interface.
    pub(crate) by_default: bool,
    /// The address that has moved.
    pub(crate) address: Ipv4Addr,
    /// Where it is now.
    pub(crate) mac: [u8; 6],
    /// Who is told.
    pub(crate) to: [u8; 6],
}

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// To send a frame.
    Send(Order),
    /// `--help`.
    Help,
    /// `--usage`.
    Usage,
    /// `--version`.
    Version,
    /// Nothing that can be done. The text is for standard error, and the exit status is 1.
    Refuse(String),
}

/// Reads a command line without the program's own name. `resolve` finds the address of a host that
/// is given by name.
pub(crate) fn read(words: Vec<OsString>, resolve: impl Fn(&str) -> Option<Ipv4Addr>) -> Start {
    let own = option("interface", Some('i'), "dev", "");
    let [version, help, usage] = COMMON;
    let parsed = match args::parse(&[own, version, help, usage], words) {
        Ok(parsed) => parsed,
        Err(error) => return Start::Refuse(format!("send_arp: {error}\n{USAGE}")),
    };
    for (name, start) in
        [("help", Start::Help), ("usage", Start::Usage), ("version", Start::Version)]
    {
        if parsed.has(name) {
            return start;
        }
    }
    let [source, source_mac, target, target_mac] = parsed.operands.as_slice() else {
        return Start::Refuse(USAGE.to_owned());
    };
    let frame = || -> Result<(Ipv4Addr, [u8; 6], [u8; 6]), String> {
        let address = host(source, &resolve)?;
        let mac = hardware_address(source_mac)?;
        // It is not sent, but has to be somebody.
        host(target, &resolve)?;
        Ok((address, mac, hardware_address(target_mac)?))
    };
    let device = parsed.text("interface");
    match frame() {
        Ok((address, mac, to)) => Start::Send(Order {
            by_default: device.is_none(),
            // lvs.cf speaks of eth0:1 where the address is.
            device: interface_of(device.as_deref().unwrap_or(DEVICE)).to_owned(),
            address,
            mac,
            to,
        }),
        Err(text) => Start::Refuse(text),
    }
}

fn host(word: &str, resolve: impl Fn(&str) -> Option<Ipv4Addr>) -> Result<Ipv4Addr, String> {
    let address = word.parse().ok().or_else(|| resolve(word));
    address.ok_or_else(|| format!("send_arp: unknown host {}\n", word.escape_debug()))
}

fn hardware_address(word: &str) -> Result<[u8; 6], String> {
    mac(word).ok_or_else(|| "Invalid hardware address\n".to_owned())
}

/// An Ethernet address: twelve digits, or six groups of one or two with colons between them.
fn mac(word: &str) -> Option<[u8; 6]> {
    if !word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':') {
        return None;
    }
    let groups: Vec<&str> = if word.contains(':') {
        word.split(':').collect()
    } else {
        // All of it is ASCII.
        (0..word.len()).step_by(2).filter_map(|at| word.get(at..at + 2)).collect()
    };
    let whole = word.contains(':') || word.len() == 12;
    let bytes: Option<Vec<u8>> = groups
        .into_iter()
        .map(|group| u8::from_str_radix(group, 16).ok().filter(|_| group.len() <= 2))
        .collect();
    bytes.filter(|_| whole)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

    fn start(line: &str) -> Start {
        read(line.split_whitespace().map(OsString::from).collect(), |name| {
            (name == "vip.example.com").then_some(VIP)
        })
    }

    fn order(device: &str, by_default: bool) -> Start {
        let mac = [0, 0x0c, 0x29, 0xa1, 0xb2, 0xc3];
        Start::Send(Order {
            device: device.to_owned(),
            by_default,
            address: VIP,
            mac,
            to: [0xff; 6],
        })
    }

    #[test]
    fn ways_to_write_the_same_order() {
        let rest = "10.0.0.100 000c29a1b2c3 10.0.0.255 ffffffffffff";
        // As pulse calls it.
        assert_eq!(start(&format!("-i eth1 {rest}")), order("eth1", false));
        for line in [
            "-i eth1 10.0.0.100 00:0c:29:a1:b2:c3 10.0.0.255 ff:ff:ff:ff:ff:ff",
            "-i eth1 10.0.0.100 0:C:29:A1:B2:C3 10.0.0.255 FFFFFFFFFFFF",
            "-ieth1 vip.example.com 000c29a1b2c3 vip.example.com ffffffffffff",
            "--interface=eth1 vip.example.com 000c29a1b2c3 0.0.0.0 ffffffffffff",
            "10.0.0.100 000c29a1b2c3 10.0.0.255 ffffffffffff -i eth1",
            "-i eth1:1 10.0.0.100 000c29a1b2c3 10.0.0.255 ffffffffffff",
        ] {
            assert_eq!(start(line), order("eth1", false), "{line}");
        }
        assert_eq!(start(rest), order("eth0", true));
    }

    #[test]
    fn what_is_refused_and_how_it_is_said() {
        let good = "10.0.0.100 000c29a1b2c3 10.0.0.255";
        let cases = [
            (String::new(), USAGE.to_owned()),
            (good.to_owned(), USAGE.to_owned()),
            (format!("{good} ffffffffffff more"), USAGE.to_owned()),
            (
                format!("-i eth0 -x {good} ffffffffffff"),
                format!("send_arp: bad argument -x: unknown option\n{USAGE}"),
            ),
            ("-i".to_owned(), format!("send_arp: bad argument -i: missing argument\n{USAGE}")),
            (format!("{good} fffffffffff"), "Invalid hardware address\n".to_owned()),
            (
                "nowhere 000c29a1b2c3 10.0.0.255 ffffffffffff".to_owned(),
                "send_arp: unknown host nowhere\n".to_owned(),
            ),
            (
                "10.0.0.100 000c29a1b2c3 10.0.0.256 ffffffffffff".to_owned(),
                "send_arp: unknown host 10.0.0.256\n".to_owned(),
            ),
        ];
        for (line, text) in cases {
            assert_eq!(start(&line), Start::Refuse(text), "{line}");
        }
    }

    #[test]
    fn the_options_of_every_program() {
        assert_eq!(start("--help"), Start::Help);
        assert_eq!(start("-?"), Start::Help);
        assert_eq!(start("--usage"), Start::Usage);
        assert_eq!(start("--version"), Start::Version);
        assert!(HELP.starts_with(USAGE));
    }

    #[test]
    fn what_is_no_hardware_address() {
        for word in [
            "",
            "ff",
            "fffffffffff",
            "fffffffffffff",
            "ffffffffffffff",
            "gg0000000000",
            "+f+f+f+f+f+f",
            "ff:ff:ff:ff:ff",
            "ff:ff:ff:ff:ff:",
            ":ff:ff:ff:ff:ff",
            "ff:ff:ff:ff:ff:ff:ff",
            "fff:f:ff:ff:ff:ff",
            "ffff:ffff:ffff",
            "ff-ff-ff-ff-ff-ff",
            "ÿÿÿÿÿÿ",
        ] {
            assert_eq!(mac(word), None, "{word}");
        }
    }

    proptest! {
        #[test]
        fn every_hardware_address_is_read(bytes: [u8; 6], short: bool) {
            let group = |byte: &u8| {
                if short { format!("{byte:x}") } else { format!("{byte:02X}") }
            };
            let groups: Vec<String> = bytes.iter().map(group).collect();
            prop_assert_eq!(mac(&groups.join(":")), Some(bytes));
            let plain: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(mac(&plain), Some(bytes));
        }

        #[test]
        fn any_words_are_survived(words in prop::collection::vec(any::<String>(), 0..6)) {
            let _ = read(words.iter().map(OsString::from).collect(), |_| Some(VIP));
            for word in &words {
                let _ = mac(word);
            }
        }
    }
}

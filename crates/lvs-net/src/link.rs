//! Interfaces.

/// An interface: a NIC, or one made of others (bond, VLAN, bridge), or a virtual one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "four independent facts of the kernel")]
pub struct Link {
    /// Its number, never 0.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address, if it has one.
    pub mac: Option<[u8; 6]>,
    /// Whether it is switched on (`IFF_UP`).
    pub up: bool,
    /// Whether it is switched on and there is somebody at the other end of the cable
    /// (`IFF_LOWER_UP`). A bond, VLAN or bridge has one if something below it has one; what has no
    /// cable, such as a dummy interface, always has one.
    pub carrier: bool,
    /// Whether addresses are found and announced by ARP on it: it can broadcast on an Ethernet, and
    /// is neither the loopback interface nor marked `NOARP`.
    pub arp: bool,
}

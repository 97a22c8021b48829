//! The numbers of `include/uapi/linux/ip_vs.h`: generic netlink family "IPVS", version 1.

/// The family's name, with the closing NUL.
pub(super) const FAMILY_NAME: &[u8] = b"IPVS\0";
/// The version of the family's messages.
pub(super) const VERSION: u8 = 1;

/// Commands (`IPVS_CMD_*`).
pub(super) mod cmd {
    pub(in super::super) const NEW_SERVICE: u8 = 1;
    pub(in super::super) const SET_SERVICE: u8 = 2;
    pub(in super::super) const DEL_SERVICE: u8 = 3;
    pub(in super::super) const GET_SERVICE: u8 = 4;
    pub(in super::super) const NEW_DEST: u8 = 5;
    pub(in super::super) const SET_DEST: u8 = 6;
    pub(in super::super) const DEL_DEST: u8 = 7;
    pub(in super::super) const GET_DEST: u8 = 8;
    pub(in super::super) const NEW_DAEMON: u8 = 9;
    pub(in super::super) const DEL_DAEMON: u8 = 10;
    pub(in super::super) const GET_DAEMON: u8 = 11;
    pub(in super::super) const SET_CONFIG: u8 = 12;
    pub(in super::super) const GET_CONFIG: u8 = 13;
    pub(in super::super) const GET_INFO: u8 = 15;
    pub(in super::super) const ZERO: u8 = 16;
    pub(in super::super) const FLUSH: u8 = 17;
}

/// First-level attributes (`IPVS_CMD_ATTR_*`).
pub(super) mod top {
    pub(in super::super) const SERVICE: u16 = 1;
    pub(in super::super) const DEST: u16 = 2;
    pub(in super::super) const DAEMON: u16 = 3;
    pub(in super::super) const TIMEOUT_TCP: u16 = 4;
    pub(in super::super) const TIMEOUT_TCP_FIN: u16 = 5;
    pub(in super::super) const TIMEOUT_UDP: u16 = 6;
}

/// Attributes of a service (`IPVS_SVC_ATTR_*`).
pub(super) mod svc {
    /// u16, AF_INET or AF_INET6.
    pub(in super::super) const AF: u16 = 1;
    /// u16, IP protocol number.
    pub(in super::super) const PROTOCOL: u16 = 2;
    /// 16 bytes; an IPv4 address is the first 4.
    pub(in super::super) const ADDR: u16 = 3;
    /// u16, network byte order.
    pub(in super::super) const PORT: u16 = 4;
    /// u32.
    pub(in super::super) const FWMARK: u16 = 5;
    /// String with NUL, 16 bytes at most.
    pub(in super::super) const SCHED_NAME: u16 = 6;
    /// Two u32: flags, and which of them are meant.
    pub(in super::super) const FLAGS: u16 = 7;
    /// u32, seconds.
    pub(in super::super) const TIMEOUT: u16 = 8;
    /// u32: IPv4, a netmask in network byte order; IPv6, a prefix length in the host's.
    pub(in super::super) const NETMASK: u16 = 9;
    /// Nested, 32-bit counters.
    pub(in super::super) const STATS: u16 = 10;
    /// String with NUL, 16 bytes at most.
    pub(in super::super) const PE_NAME: u16 = 11;
    /// Nested, 64-bit counters; Linux 4.1.
    pub(in super::super) const STATS64: u16 = 12;
}

/// Attributes of a destination (`IPVS_DEST_ATTR_*`).
pub(super) mod dest {
    /// 16 bytes; an IPv4 address is the first 4.
    pub(in super::super) const ADDR: u16 = 1;
    /// u16, network byte order.
    pub(in super::super) const PORT: u16 = 2;
    /// u32, `IP_VS_CONN_F_FWD_MASK` of the connection flags.
    pub(in super::super) const FWD_METHOD: u16 = 3;
    /// u32.
    pub(in super::super) const WEIGHT: u16 = 4;
    /// u32.
    pub(in super::super) const U_THRESH: u16 = 5;
    /// u32.
    pub(in super::super) const L_THRESH: u16 = 6;
    /// u32.
    pub(in super::super) const ACTIVE_CONNS: u16 = 7;
    /// u32.
    pub(in super::super) const INACT_CONNS: u16 = 8;
    /// u32.
    pub(in super::super) const PERSIST_CONNS: u16 = 9;
    /// Nested, 32-bit counters.
    pub(in super::super) const STATS: u16 = 10;
    /// u16; Linux 3.18, the service's before.
    pub(in super::super) const ADDR_FAMILY: u16 = 11;
    /// Nested, 64-bit counters; Linux 4.1.
    pub(in super::super) const STATS64: u16 = 12;
    /// u8; this and the next two: Linux 5.3.
    pub(in super::super) const TUN_TYPE: u16 = 13;
    /// u16, network byte order.
    pub(in super::super) const TUN_PORT: u16 = 14;
    /// u16.
    pub(in super::super) const TUN_FLAGS: u16 = 15;
}

/// Attributes of a sync daemon (`IPVS_DAEMON_ATTR_*`).
pub(super) mod daemon {
    /// u32, 1 master, 2 backup.
    pub(in super::super) const STATE: u16 = 1;
    /// String with NUL, 16 bytes at most.
    pub(in super::super) const MCAST_IFN: u16 = 2;
    /// u32, 0 to 255.
    pub(in super::super) const SYNC_ID: u16 = 3;
    /// u16; this and the next: Linux 4.3.
    pub(in super::super) const SYNC_MAXLEN: u16 = 4;
    /// 4 bytes, network byte order.
    pub(in super::super) const MCAST_GROUP: u16 = 5;
    /// 16 bytes.
    pub(in super::super) const MCAST_GROUP6: u16 = 6;
    /// u16, the host's byte order.
    pub(in super::super) const MCAST_PORT: u16 = 7;
    /// u8.
    pub(in super::super) const MCAST_TTL: u16 = 8;
}

/// Attributes of statistics (`IPVS_STATS_ATTR_*`).
pub(super) mod stats {
    /// This many attributes, from 1 on, are totals, in the order of [`Counters`](crate::Counters);
    /// as many more are rates.
    pub(in super::super) const FIELDS: u16 = 5;
}

/// Attributes of `GET_INFO`'s answer (`IPVS_INFO_ATTR_*`).
pub(super) mod info {
    /// u32, one byte each: 0, major, minor, patch.
    pub(in super::super) const VERSION: u16 = 1;
    /// u32.
    pub(in super::super) const CONN_TAB_SIZE: u16 = 2;
}

/// Service flags (`IP_VS_SVC_F_*`).
pub(super) mod flag {
    pub(in super::super) const PERSISTENT: u32 = 0x01;
    pub(in super::super) const ONE_PACKET: u32 = 0x04;
    pub(in super::super) const SCHED1: u32 = 0x08;
    pub(in super::super) const SCHED2: u32 = 0x10;
    pub(in super::super) const SCHED3: u32 = 0x20;
    /// Those that user space decides. `IP_VS_SVC_F_HASHED` is the kernel's own.
    pub(in super::super) const MASK: u32 = PERSISTENT | ONE_PACKET | SCHED1 | SCHED2 | SCHED3;
}

/// Forwarding methods (`IP_VS_CONN_F_*` under `IP_VS_CONN_F_FWD_MASK`).
pub(super) mod forward {
    pub(in super::super) const MASK: u32 = 7;
    pub(in super::super) const MASQ: u32 = 0;
    pub(in super::super) const LOCALNODE: u32 = 1;
    pub(in super::super) const TUNNEL: u32 = 2;
    pub(in super::super) const DROUTE: u32 = 3;
    pub(in super::super) const BYPASS: u32 = 4;
}

/// Tunnel types (`IP_VS_CONN_F_TUNNEL_TYPE_*`) and their flags (`IP_VS_TUNNEL_ENCAP_FLAG_*`).
pub(super) mod tunnel {
    pub(in super::super) const IPIP: u8 = 0;
    pub(in super::super) const GUE: u8 = 1;
    pub(in super::super) const GRE: u8 = 2;
    pub(in super::super) const CSUM: u16 = 1;
    pub(in super::super) const REMCSUM: u16 = 2;
}

/// Sync daemon states (`IP_VS_STATE_*`).
pub(super) mod state {
    pub(in super::super) const MASTER: u32 = 1;
    pub(in super::super) const BACKUP: u32 = 2;
}

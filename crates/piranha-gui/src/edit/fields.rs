//! Every field of every form, as one table: what it is called, which key of lvs.cf it stands for, what
//! can be entered, and what a change of it does. Rendering, reading and checking go by it.

use lvs_config::{BlockKind, Level};

/// What can be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A word or a line; blanks around it do not count.
    Text,
    /// A text of which every blank counts.
    Exact,
    /// A number or time; the unit is shown.
    Number,
    /// One of these, the value first and what it is called second.
    Choice(&'static [(&'static str, &'static str)]),
    /// A text, for which these are usual.
    Usual(&'static [&'static str]),
}

/// What a change does to the running daemons when it is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The table changes: that is shown as commands.
    Table,
    /// The new check begins.
    Check,
    /// It holds from then on.
    Policy,
    /// lvsd's monitors of the block are ended and begun.
    Monitors,
    /// The pair goes on with it.
    Pair,
    /// The active director raises and takes down addresses.
    Addresses,
    /// It counts the next time it is needed.
    Later,
    /// Only a restart of pulse does it.
    Restart,
    /// Nothing depends on it.
    None,
}

impl Effect {
    /// In a sentence.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::None => "changes nothing that runs",
            Self::Table => "the IPVS table changes as shown below",
            Self::Check => {
                "the servers are checked the new way at once; each keeps its state until the first \
                 verdict"
            }
            Self::Policy => "holds from then on",
            Self::Monitors => "the servers leave the table, and begin anew with their first check",
            Self::Pair => {
                "pulse goes on with it at once, on both directors once both have the file"
            }
            Self::Addresses => "the active director raises or takes down the address at once",
            Self::Later => "counts the next time it is needed",
            Self::Restart => "pulse refuses it until it is stopped and started again",
        }
    }
}

/// One thing to fill in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in the form.
    pub name: &'static str,
    /// The key in lvs.cf; empty: the name of the block or server.
    pub key: &'static str,
    /// Which word of the key's value it is, of those that have two.
    pub word: usize,
    /// What it is called.
    pub label: &'static str,
    /// What can be entered.
    pub kind: Kind,
    /// What it means to leave it out of the file, as it would be entered.
    pub default: &'static str,
    /// Where the file should not be without it: what RESET and ENABLE enter.
    pub usual: &'static str,
    /// A few words of help.
    pub help: &'static str,
    /// What a change does.
    pub effect: Effect,
}

/// Fields that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they are about.
    pub title: &'static str,
    /// Whether they are folded away until somebody wants them.
    pub folded: bool,
    /// The fields.
    pub fields: &'static [Field],
}

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Where its keys stand.
    pub level: Level,
    /// Its groups.
    pub groups: &'static [Group],
}

impl Form {
    /// All its fields.
    pub fn fields(&self) -> impl Iterator<Item = &'static Field> {
        self.groups.iter().flat_map(|group| group.fields)
    }

    /// The field of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields().find(|field| field.name == name)
    }
}

const fn field(name: &'static str, label: &'static str, kind: Kind) -> Field {
    Field {
        name,
        key: name,
        word: 0,
        label,
        kind,
        default: "",
        usual: "",
        help: "",
        effect: Effect::None,
    }
}

impl Field {
    const fn key(self, key: &'static str, word: usize) -> Self {
        Self { key, word, ..self }
    }

    const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn usual(self, usual: &'static str) -> Self {
        Self { usual, ..self }
    }

    const fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    const fn does(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }
}

const YES_NO: Kind = Kind::Choice(&[("0", "No"), ("1", "Yes")]);

const NETWORKS: Kind =
    Kind::Choice(&[("nat", "NAT"), ("direct", "Direct routing"), ("tunnel", "Tunneling")]);

const SERVICES: Kind =
    Kind::Choice(&[("lvs", "Load balancing (lvs)"), ("fos", "Failover services (fos)")]);

const PROTOCOLS: Kind = Kind::Choice(&[("tcp", "tcp"), ("udp", "udp")]);

const SCHEDULERS: Kind = Kind::Choice(&[
    ("rr", "Round robin (rr)"),
    ("wrr", "Weighted round robin (wrr)"),
    ("lc", "Least-connection (lc)"),
    ("wlc", "Weighted least-connections (wlc)"),
    ("lblc", "Locality-based least-connection (lblc)"),
    ("lblcr", "Locality-based least-connection with replication (lblcr)"),
    ("dh", "Destination hash (dh)"),
    ("sh", "Source hash (sh)"),
]);

const CONFLICTS: Kind = Kind::Choice(&[
    ("", "not set"),
    ("nothing", "Leave it to the partner (nothing)"),
    ("preempt", "Take it back (preempt)"),
]);

const MASKS: Kind = Kind::Usual(&[
    "255.255.255.255",
    "255.255.255.252",
    "255.255.255.248",
    "255.255.255.240",
    "255.255.255.224",
    "255.255.255.192",
    "255.255.255.128",
    "255.255.255.0",
    "255.255.254.0",
    "255.255.252.0",
    "255.255.248.0",
    "255.255.240.0",
    "255.255.0.0",
    "255.0.0.0",
]);

const LOAD_TOOLS: Kind = Kind::Usual(&["none", "rup", "ruptime", "uptime"]);

/// GLOBAL SETTINGS.
pub const GLOBAL: Form = Form {
    level: Level::Global,
    groups: &[
        Group {
            title: "Primary director",
            folded: false,
            fields: &[
                field("primary", "Primary server public IP", Kind::Text).does(Effect::Pair),
                field("primary_private", "Primary server private IP", Kind::Text)
                    .help("a second way for heartbeats; may be blank")
                    .does(Effect::Pair),
            ],
        },
        Group {
            title: "Network",
            folded: false,
            fields: &[
                field("network", "Network type", NETWORKS)
                    .default("nat")
                    .help("how packets reach the real servers")
                    .does(Effect::Table),
                field("nat_router", "NAT router IP", Kind::Text)
                    .help("the real servers' default gateway, an address that moves with the active director")
                    .does(Effect::Addresses),
                field("nat_nmask", "NAT router netmask", MASKS).does(Effect::Addresses),
                field("nat_router_device", "NAT router device", Kind::Text)
                    .key("nat_router", 1)
                    .help("as eth1:1")
                    .does(Effect::Addresses),
            ],
        },
        Group {
            title: "Connection sync daemon",
            folded: false,
            fields: &[
                field("syncd_iface", "Sync daemon interface", Kind::Text)
                    .default("eth0")
                    .help("switched on under REDUNDANCY")
                    .does(Effect::Pair),
                field("syncd_id", "Sync daemon id", Kind::Number)
                    .default("0")
                    .help("0 to 255; the same on both directors")
                    .does(Effect::Pair),
            ],
        },
        Group {
            title: "IPVS timeouts, in seconds",
            folded: false,
            fields: &[
                field("tcp_timeout", "TCP timeout", Kind::Number)
                    .default("0")
                    .help("0 leaves the kernel's")
                    .does(Effect::Table),
                field("tcpfin_timeout", "TCP FIN timeout", Kind::Number)
                    .default("0")
                    .help("0 leaves the kernel's")
                    .does(Effect::Table),
                field("udp_timeout", "UDP timeout", Kind::Number)
                    .default("0")
                    .help("0 leaves the kernel's")
                    .does(Effect::Table),
            ],
        },
        Group {
            title: "Advanced",
            folded: true,
            fields: &[
                field("service", "Service", SERVICES)
                    .default("lvs")
                    .help("which kind of block is used: VIRTUAL SERVERS or FAILOVER")
                    .does(Effect::Restart),
                field("hard_shutdown", "Hard shutdown", YES_NO)
                    .default("1")
                    .help("a monitor that dies takes lvsd down, so that the partner takes over")
                    .does(Effect::Policy),
                field("active_cmd", "Active command", Kind::Text)
                    .help("run when a director becomes active; the whole path")
                    .does(Effect::Later),
                field("inactive_cmd", "Inactive command", Kind::Text)
                    .help("run when a director starts inactive or becomes so; the whole path")
                    .does(Effect::Later),
                field("rsh_command", "Remote shell", Kind::Text)
                    .default("rsh")
                    .help("what the load monitoring tool uptime runs, as ssh")
                    .does(Effect::Policy),
                field("ipvsadm", "Path of ipvsadm", Kind::Text)
                    .default("/sbin/ipvsadm")
                    .help("another path means: every change of the table is made by that program")
                    .does(Effect::Policy),
                field("primary_shared", "Primary's shared disk", Kind::Text)
                    .help("failover services only")
                    .does(Effect::Restart),
                field("backup_shared", "Backup's shared disk", Kind::Text)
                    .help("failover services only")
                    .does(Effect::Restart),
                field("reservation_conflict_action", "On a reservation conflict", CONFLICTS)
                    .help("failover services only")
                    .does(Effect::Restart),
            ],
        },
    ],
};

/// REDUNDANCY. Whether there is a backup at all is switched by a button of its own.
pub const REDUNDANCY: Form = Form {
    level: Level::Global,
    groups: &[
        Group {
            title: "Redundant director",
            folded: false,
            fields: &[
                field("backup", "Redundant server public IP", Kind::Text).does(Effect::Pair),
                field("backup_private", "Redundant server private IP", Kind::Text)
                    .help("a second way for heartbeats; needs the primary's, under GLOBAL SETTINGS")
                    .does(Effect::Pair),
            ],
        },
        Group {
            title: "Heartbeat",
            folded: false,
            fields: &[
                field("keepalive", "Heartbeat interval (seconds)", Kind::Number)
                    .default("2")
                    .usual("6")
                    .help("a unit may follow, as 200ms, if both directors run this suite")
                    .does(Effect::Pair),
                field("deadtime", "Assume dead after (seconds)", Kind::Number)
                    .default("5")
                    .usual("18")
                    .help("three times the interval or more")
                    .does(Effect::Pair),
                field("heartbeat_port", "Heartbeat runs on port", Kind::Number)
                    .default("539")
                    .usual("539")
                    .help("UDP; the firewall must let it through")
                    .does(Effect::Pair),
            ],
        },
        Group {
            title: "What moves with it, and when",
            folded: false,
            fields: &[
                field("syncdaemon", "Use sync daemon", YES_NO)
                    .default("0")
                    .help("connections survive a failover; interface and id under GLOBAL SETTINGS")
                    .does(Effect::Pair),
                field("monitor_links", "Monitor NIC links for failures", YES_NO)
                    .default("0")
                    .help("a director whose cable is out hands over")
                    .does(Effect::Pair),
            ],
        },
        Group {
            title: "Advanced",
            folded: true,
            fields: &[
                field("standby_checks", "Check servers on standby too", YES_NO)
                    .default("0")
                    .help("takes over with servers known to be up; the original suite refuses a file with this key")
                    .does(Effect::Pair),
            ],
        },
    ],
};

const NAME: Field = field("name", "Name", Kind::Text).key("", 0).does(Effect::None);

const PORT: Field = field("port", "Application port", Kind::Text)
    .default("80")
    .help("a number or the name of a service")
    .does(Effect::Table);

const PROTOCOL: Field = field("protocol", "Protocol", PROTOCOLS).default("tcp").does(Effect::Table);

const ADDRESS: Field = field("address", "Virtual IP address", Kind::Text).does(Effect::Addresses);

const VIP_NMASK: Field =
    field("vip_nmask", "Virtual IP network mask", MASKS).does(Effect::Addresses);

const DEVICE: Field = field("device", "Device", Kind::Text)
    .key("address", 1)
    .help("the label that bears the address, as eth0:1")
    .does(Effect::Addresses);

const TIMEOUT: Field = field("timeout", "Service timeout (seconds)", Kind::Number)
    .default("10")
    .help("from one check to the next, and the time limit of each")
    .does(Effect::Check);

const SORRY: Field = field("sorry_server", "Sorry server", Kind::Text)
    .help("stands in while no real server is up")
    .does(Effect::Table);

const FWMARK: Field = field("fwmark", "Firewall mark", Kind::Number)
    .default("0")
    .help("0: the service is address and port")
    .does(Effect::Table);

const REENTRY: Field = field("reentry", "Re-entry time (seconds)", Kind::Number)
    .default("180")
    .help("a server that failed must pass its checks for so long")
    .does(Effect::Policy);

const QUIESCE: Field = field("quiesce_server", "Quiesce server", YES_NO)
    .default("0")
    .help("a failed server gets weight 0 instead of being removed")
    .does(Effect::Policy);

const LOAD: Field = field("load_monitor", "Load monitoring tool", LOAD_TOOLS)
    .default("none")
    .help("none, rup, ruptime, uptime, or a command")
    .does(Effect::Policy);

const SCHEDULER: Field =
    field("scheduler", "Scheduling", SCHEDULERS).default("wlc").does(Effect::Table);

const PERSISTENT: Field = field("persistent", "Persistence (seconds)", Kind::Number)
    .default("0")
    .help("a client stays with its server for so long; 0 is off")
    .does(Effect::Table);

const PMASK: Field = field("pmask", "Persistence network mask", MASKS)
    .help("clients of one network stay together")
    .does(Effect::Table);

const CLIENT_MONITOR: Field = field("client_monitor", "Monitor program", Kind::Text)
    .help("blank: one monitor for all servers; a path: one process of that program for each")
    .does(Effect::Monitors);

const START: Field = field("start_cmd", "Start command", Kind::Text)
    .help("starts the service; the whole path")
    .does(Effect::Later);

const STOP: Field = field("stop_cmd", "Stop command", Kind::Text)
    .help("stops the service; the whole path")
    .does(Effect::Later);

/// VIRTUAL SERVER, the first part of a virtual server.
pub const VIRTUAL: Form = Form {
    level: Level::Block,
    groups: &[
        Group {
            title: "Service",
            folded: false,
            fields: &[NAME, PORT, PROTOCOL, ADDRESS, VIP_NMASK, DEVICE, SORRY, FWMARK],
        },
        Group { title: "Servers that fail", folded: false, fields: &[REENTRY, TIMEOUT, QUIESCE] },
        Group { title: "Balance", folded: false, fields: &[LOAD, SCHEDULER, PERSISTENT, PMASK] },
        Group { title: "Advanced", folded: true, fields: &[CLIENT_MONITOR] },
    ],
};

/// The first part of a failover service. It takes the same keys, most of which mean nothing there.
pub const FAILOVER: Form = Form {
    level: Level::Block,
    groups: &[
        Group {
            title: "Service",
            folded: false,
            fields: &[NAME, ADDRESS, VIP_NMASK, DEVICE, PORT, TIMEOUT, START, STOP],
        },
        Group {
            title: "Advanced",
            folded: true,
            fields: &[PROTOCOL, REENTRY, QUIESCE, CLIENT_MONITOR],
        },
    ],
};

/// MONITORING SCRIPTS.
pub const SCRIPTS: Form = Form {
    level: Level::Block,
    groups: &[Group {
        title: "How a server is checked",
        folded: false,
        fields: &[
            field("send_program", "Sending program", Kind::Text)
                .help("its whole path; %h stands for the server's address, %p for its port")
                .does(Effect::Check),
            field("send", "Send", Kind::Exact)
                .help(r"as in lvs.cf, without the quotes: \r \n \t \\ are escapes")
                .does(Effect::Check),
            field("expect", "Expect", Kind::Exact)
                .help("what must come back, or what the program must print")
                .does(Effect::Check),
            field("use_regex", "Treat expect string as a regular expression", YES_NO)
                .default("0")
                .help("POSIX extended")
                .does(Effect::Check),
        ],
    }],
};

/// One real server.
pub const SERVER: Form = Form {
    level: Level::Server,
    groups: &[Group {
        title: "Real server",
        folded: false,
        fields: &[
            NAME,
            field("address", "IP address", Kind::Text).does(Effect::Table),
            field("port", "Port", Kind::Number)
                .help("blank: the virtual server's")
                .does(Effect::Table),
            field("weight", "Weight", Kind::Number)
                .default("1")
                .help("its share of new connections; 0 gets none")
                .does(Effect::Table),
        ],
    }],
};

/// Every form.
pub const ALL: [&Form; 6] = [&GLOBAL, &REDUNDANCY, &VIRTUAL, &FAILOVER, &SCRIPTS, &SERVER];

/// The form of a block's first part.
#[must_use]
pub const fn block(kind: BlockKind) -> &'static Form {
    match kind {
        BlockKind::Virtual => &VIRTUAL,
        BlockKind::Failover => &FAILOVER,
    }
}

/// What a change of a key does, whichever form has it.
#[must_use]
pub fn effect(level: Level, key: &str) -> Effect {
    let switched = match (level, key) {
        (Level::Global, "backup_active") => Some(Effect::Pair),
        (Level::Block | Level::Server, "active") => Some(Effect::Table),
        _ => None,
    };
    let forms = ALL.iter().filter(|form| form.level == level);
    let mut fields = forms.flat_map(|form| form.fields());
    switched
        .or_else(|| fields.find(|field| field.key == key).map(|field| field.effect))
        .unwrap_or(Effect::None)
}

#[cfg(test)]
mod tests;

//! What there is to say about a file: errors, warnings, where, and the remedy.

/// How grave a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The suite, or a part of what the file asks for, cannot work.
    Error,
    /// It works, but probably not as meant.
    Warning,
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

macro_rules! codes {
    ($($variant:ident $name:literal $severity:ident $meaning:literal;)+) => {
        /// The kinds of diagnostic. Their names are stable: scripts and documentation may
        /// rely on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $(#[doc = $meaning] $variant),+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The code's name, as `duplicate-service`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// How grave it is.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity),+ }
            }

            /// What it means, in a sentence or two.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),+ }
            }
        }
    };
}

codes! {
    // The file cannot be read.
    QuotationMismatch "quotation-mismatch" Error
        "A word opens with a quote that is not closed before a blank or the end of its line.";
    UnexpectedArguments "unexpected-arguments" Error
        "There are more words on the line than its key takes.";
    EqualExpected "equal-expected" Error
        "The word behind a key must be an equal sign that stands alone.";
    MissingArguments "missing-arguments" Error
        "The line ends before all that its key needs is said.";
    InvalidAddress "invalid-address" Error
        "The address is none, or is 0.0.0.0 where that cannot be.";
    InvalidArgument "invalid-argument" Error
        "The value is not one of those that the key takes, or a name does not resolve.";
    IntegerExpected "integer-expected" Error
        "The value must be a whole number: decimal, octal (010) or hexadecimal (0x10).";
    BooleanExpected "boolean-expected" Error
        "The value must be 0 or 1.";
    UnknownCommand "unknown-command" Error
        "No such key exists at this place.";
    ListExpected "list-expected" Error
        "The value must be a list: [ A B ], each bracket a word of its own.";
    BadNetmask "bad-netmask" Error
        "The value is not a netmask.";
    EmptyConfiguration "empty-configuration" Error
        "The file has no bytes at all.";

    // The file can be read, but lines of it do not say what they seem to.
    OutOfRange "out-of-range" Error
        "The number is beyond what the setting can hold; the nearest it can hold is used.";
    PortRange "port-range" Error
        "A port is beyond 0 to 65535; only its low 16 bits are used.";
    WeightRange "weight-range" Error
        "A weight is beyond 0 to 65535, which the kernel's tools refuse.";
    TextTooLong "text-too-long" Warning
        "A send or expect text is longer than 255 bytes, more than older versions take.";
    NotUtf8 "not-utf8" Warning
        "The value is not UTF-8; the bytes that are not are replaced.";
    NameLookup "name-lookup" Warning
        "A host is given by name: it is looked up whenever the file is read.";
    UnreadablePmask "unreadable-pmask" Warning
        "The persistence netmask is unreadable and ignored.";
    Extension "extension" Warning
        "The original does not know this and refuses the whole file.";
    RepeatedKey "repeated-key" Warning
        "The key is given more than once: the last one wins.";
    PortBelowServer "port-below-server" Warning
        "The port of a block is set below a server that therefore keeps the port from before.";
    TrailingWords "trailing-words" Warning
        "Words behind a closing brace are ignored.";
    UnclosedBlock "unclosed-block" Warning
        "A block is still open at the end of the file.";

    // The two directors.
    NoPrimary "no-primary" Error
        "The primary director's address is not set: no node can know its role.";
    NoBackup "no-backup" Warning
        "backup_active is 1 but there is no backup address: it is treated as 0.";
    SameDirector "same-director" Error
        "The primary and the backup director have the same address.";
    PrivateIgnored "private-ignored" Warning
        "backup_private has no effect without primary_private.";
    PrivateIncomplete "private-incomplete" Warning
        "primary_private is set but backup_private is not: the second path leads nowhere.";
    KeepaliveZero "keepalive-zero" Error
        "The time between heartbeats must be longer than 0, and at least 10ms.";
    DeadtimeShort "deadtime-short" Error
        "deadtime must be longer than keepalive, or a living partner is taken for dead.";
    DeadtimeTight "deadtime-tight" Warning
        "deadtime is less than three times keepalive: a lost heartbeat or two fails over.";
    HeartbeatIgnored "heartbeat-ignored" Warning
        "heartbeat = 0 does not stop heartbeats: backup_active does.";
    SyncWithoutBackup "sync-without-backup" Warning
        "The connection sync daemon is on but there is no backup to receive anything.";
    NatRouterUnused "nat-router-unused" Warning
        "nat_router is only raised with network = nat.";
    NatNmaskUnused "nat-nmask-unused" Warning
        "nat_nmask has no effect without nat_router.";
    NatNmaskMissing "nat-nmask-missing" Warning
        "nat_router has no netmask of its own.";
    RelativePath "relative-path" Warning
        "A program is given by a relative path; daemons run in the root directory.";
    IgnoredBlocks "ignored-blocks" Warning
        "Blocks of the kind that the chosen service does not use are ignored.";
    NoActiveBlock "no-active-block" Error
        "No block of the chosen service is active: pulse does not start.";

    // One block.
    NoAddress "no-address" Error
        "The block is active but has no virtual address.";
    MarkWithoutAddress "mark-without-address" Warning
        "A firewall mark's block has no virtual address for the director to raise.";
    LabelTooLong "label-too-long" Error
        "An interface label is longer than 15 bytes, the most the kernel takes.";
    NetmaskHoles "netmask-holes" Error
        "The ones of a netmask must all stand before its zeros.";
    PmaskHoles "pmask-holes" Warning
        "The ones of the persistence netmask do not all stand before its zeros.";
    PmaskUnused "pmask-unused" Warning
        "pmask has no effect without persistent.";
    TimeoutTooLong "timeout-too-long" Error
        "IPVS takes timeouts up to 2678400 seconds (31 days).";
    PortZero "port-zero" Error
        "Port 0 stands for all ports, which the kernel's tools take with persistence only.";
    TimeoutZero "timeout-zero" Error
        "The time between checks must be at least a second.";
    NoActiveServer "no-active-server" Warning
        "The block is active but none of its servers is.";
    UdpCheck "udp-check" Warning
        "A UDP check sends nothing that a server would answer.";
    SendIgnored "send-ignored" Warning
        "send has no effect next to send_program.";
    ProgramWithoutExpect "program-without-expect" Warning
        "The output of send_program is compared with expect, which is not set.";
    RegexUnused "regex-unused" Warning
        "use_regex has no effect without expect.";
    UnusedInVirtual "unused-in-virtual" Warning
        "start_cmd and stop_cmd have an effect in failover blocks only.";
    NoStartCommand "no-start-command" Warning
        "An active failover block has no start_cmd: there is nothing to take over.";

    // One server.
    ServerWithoutAddress "server-without-address" Error
        "The server is active but has no address.";
    DuplicateServer "duplicate-server" Error
        "Two active servers of a block have the same address and port.";
    PortMapping "port-mapping" Warning
        "With network = direct or tunnel a server is reached at the virtual port only.";
    ServerIsDirector "server-is-director" Warning
        "A real server's address is one of a director's own.";
    ServerIsVip "server-is-vip" Error
        "A real server's address is a virtual address: the director would send to itself.";
    SorryIsServer "sorry-is-server" Warning
        "The sorry server is one of the servers it stands in for.";

    // Blocks together.
    DuplicateService "duplicate-service" Error
        "Two active blocks are the same service to the kernel.";
    LabelConflict "label-conflict" Error
        "Two addresses share one interface label: only one of them can bear it.";
    TwoLabels "two-labels" Warning
        "One virtual address is given under two interface labels.";
    TwoNetmasks "two-netmasks" Warning
        "One virtual address is given with two netmasks.";
    VipIsDirector "vip-is-director" Error
        "A virtual address is a director's own: taking it down would cut the director off.";

    TooManyDiagnostics "too-many-diagnostics" Warning
        "There is more to say than is worth saying at once.";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing to say about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How grave it is.
    pub severity: Severity,
    /// The kind of diagnostic.
    pub code: Code,
    /// The line, counted from 1; 0 when it is about the file as a whole.
    pub line: usize,
    /// Where on the line, in bytes, counted from 1; 0 when it is about the file as a whole.
    pub column: usize,
    /// How many bytes it concerns; 0 where something is missing.
    pub length: usize,
    /// What is wrong. Printable: words of the file are escaped and shortened.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, counted from 1; 0 for the file as a whole.
    pub line: usize,
    /// Where on the line, in bytes, counted from 1.
    pub column: usize,
    /// How many bytes.
    pub length: usize,
}

impl Place {
    /// Bytes `start..end` of the body of line `line`.
    pub(crate) const fn new(line: usize, start: usize, end: usize) -> Self {
        Self { line, column: start + 1, length: end.saturating_sub(start) }
    }
}

/// Collects diagnostics, of each severity no more than anyone reads.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Findings {
    /// How many errors, and how many warnings, are kept.
    pub(crate) const LIMIT: usize = 1000;

    /// Adds a diagnostic; `say` gives the place, the message and the hint, and is not asked
    /// where the diagnostic is not kept.
    pub(crate) fn add<F>(&mut self, code: Code, say: F)
    where
        F: FnOnce() -> (Place, String, Option<String>),
    {
        let severity = code.severity();
        let count = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= Self::LIMIT {
            let (place, message, hint) = say();
            let Place { line, column, length } = place;
            self.list.push(Diagnostic { severity, code, line, column, length, message, hint });
        }
    }

    /// All that was kept, in the file's order.
    pub(crate) fn finish(self) -> Vec<Diagnostic> {
        let mut list = self.list;
        list.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        let left_out =
            self.errors.saturating_sub(Self::LIMIT) + self.warnings.saturating_sub(Self::LIMIT);
        if left_out > 0 {
            list.push(Diagnostic {
                severity: Code::TooManyDiagnostics.severity(),
                code: Code::TooManyDiagnostics,
                line: 0,
                column: 0,
                length: 0,
                message: format!("{left_out} more errors and warnings are not shown"),
                hint: Some("put these right first".to_owned()),
            });
        }
        list
    }
}

/// `bytes` as a message shows them: control characters escaped, long ones shortened.
pub(crate) fn show(bytes: &[u8]) -> String {
    const LIMIT: usize = 60;
    let head = bytes.get(..LIMIT).unwrap_or(bytes);
    let mut shown = String::with_capacity(head.len());
    escape_into(&mut shown, head);
    if head.len() < bytes.len() {
        shown.push_str("...");
    }
    shown
}

/// Appends `bytes`, with everything that a terminal would not simply print made visible.
pub(crate) fn escape_into(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\'' | '\\' => out.push(character),
                other => out.extend(other.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_plain() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.as_str().bytes().all(|b| b.is_ascii_lowercase() || b"-8".contains(&b)));
            assert!(code.meaning().ends_with('.'), "{code}");
        }
    }

    #[test]
    fn shown_words_are_harmless_and_short() {
        assert_eq!(show(b"caf\xc3\xa9 \"x\" \\"), "caf\u{e9} \"x\" \\");
        assert_eq!(show(b"\x1b[31m\x07\xff\0"), "\\u{1b}[31m\\u{7}\\xff\\0");
        assert_eq!(show("\u{202e}x".as_bytes()), "\\u{202e}x");
        assert_eq!(show(&[b'a'; 1000]).len(), 63);
    }

    #[test]
    fn many_warnings_do_not_hide_an_error() {
        let mut findings = Findings::default();
        for line in 0..2 * Findings::LIMIT {
            findings.add(Code::RepeatedKey, || (Place::new(line, 0, 1), String::new(), None));
        }
        findings.add(Code::NoPrimary, || (Place::default(), String::new(), None));
        let list = findings.finish();
        assert_eq!(list.len(), Findings::LIMIT + 2);
        assert!(list.iter().any(|diagnostic| diagnostic.code == Code::NoPrimary));
        assert!(list.last().unwrap().message.starts_with("1000 more"));
    }
}

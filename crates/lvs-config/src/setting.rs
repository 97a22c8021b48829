//! `KEY = VALUE` to a field of the configuration: one arm per key.

use std::net::Ipv4Addr;

use crate::config::{
    Config, Forwarding, Host, Protocol, ReservationConflict, Scheduler, Server, ServiceKind,
    Virtual,
};
use crate::diagnostic::{Code, Findings, Place, show};
use crate::fault::{Fault, Problem};
use crate::interval::Interval;
use crate::key::{BlockKey, GlobalKey, Key, ServerKey};
use crate::lex::{Sentence, Word};
use crate::resolve::Resolver;
use crate::value;

/// The values of one line, read as whatever its key takes.
pub(crate) struct Values<'l, 'a> {
    pub(crate) line: usize,
    pub(crate) key: Key,
    /// `KEY = VALUE…`, its shape already found right.
    pub(crate) sentence: &'l Sentence<'a>,
    pub(crate) resolver: &'l dyn Resolver,
    pub(crate) findings: &'l mut Findings,
}

impl Config {
    pub(crate) fn set(
        &mut self,
        key: GlobalKey,
        values: &mut Values<'_, '_>,
    ) -> Result<(), Problem> {
        use GlobalKey as K;
        match key {
            K::SerialNo => self.serial_no = values.integer()?,
            K::Primary => self.primary = Some(values.present_host()?),
            K::PrimaryPrivate => self.primary_private = Some(values.present_host()?),
            K::PrimaryShared => self.primary_shared = Some(values.text()),
            K::Service => self.service = values.choice(ServiceKind::parse)?,
            K::RshCommand => self.rsh_command = values.text(),
            K::BackupActive => self.backup_active = values.boolean()?,
            K::Backup => self.backup = Some(values.host()?),
            K::BackupPrivate => self.backup_private = Some(values.present_host()?),
            K::BackupShared => self.backup_shared = Some(values.text()),
            K::Heartbeat => self.heartbeat = values.boolean()?,
            K::HeartbeatPort => self.heartbeat_port = values.port()?,
            K::Keepalive => self.keepalive = values.interval()?,
            K::Deadtime => self.deadtime = values.interval()?,
            K::Network => self.network = values.choice(Forwarding::parse)?,
            K::NatRouter => {
                self.nat_router = values.optional_host()?;
                self.nat_router_device = Some(values.device());
            }
            K::NatNmask => self.nat_nmask = values.netmask()?,
            K::ReservationConflictAction => {
                self.reservation_conflict_action = Some(values.choice(ReservationConflict::parse)?);
            }
            K::DebugLevel => self.debug_level = values.text(),
            K::ActiveCmd => self.active_cmd = Some(values.text()),
            K::InactiveCmd => self.inactive_cmd = Some(values.text()),
            K::MonitorLinks => self.monitor_links = values.integer()? != 0,
            K::StandbyChecks => {
                self.standby_checks = values.boolean()?;
                values.note_extension("standby_checks is", "leave it out");
            }
            K::Syncdaemon => self.syncdaemon = values.boolean()?,
            K::SyncdIface => self.syncd_iface = values.text(),
            K::SyncdId => self.syncd_id = values.byte()?,
            K::TcpTimeout => self.tcp_timeout = values.seconds()?,
            K::TcpfinTimeout => self.tcpfin_timeout = values.seconds()?,
            K::UdpTimeout => self.udp_timeout = values.seconds()?,
            K::HardShutdown => self.hard_shutdown = values.boolean()?,
            K::Ipvsadm => self.ipvsadm = values.text(),
            K::Sync => self.sync = values.boolean()?,
        }
        Ok(())
    }
}

impl Virtual {
    pub(crate) fn set(
        &mut self,
        key: BlockKey,
        values: &mut Values<'_, '_>,
    ) -> Result<(), Problem> {
        use BlockKey as K;
        match key {
            K::Active => self.active = values.boolean()?,
            K::Address => {
                self.address = values.optional_host()?;
                self.device = Some(values.device());
            }
            K::SorryServer => self.sorry_server = values.numeric_address()?,
            K::VipNmask => self.vip_nmask = values.netmask()?,
            K::Fwmark => self.fwmark = values.fwmark()?,
            K::Port => self.port = values.port()?,
            K::Persistent => self.persistent = values.unsigned()?,
            K::Pmask => self.pmask = values.pmask(),
            K::Send => self.send = Some(values.check_text()),
            K::Expect => self.expect = Some(values.check_text()),
            K::UseRegex => self.use_regex = values.boolean()?,
            K::SendProgram => self.send_program = Some(values.bytes()),
            K::LoadMonitor => self.load_monitor = Some(values.text()),
            K::Scheduler => self.scheduler = values.choice(Scheduler::parse)?,
            K::Protocol => self.protocol = values.choice(Protocol::parse)?,
            K::Timeout => self.timeout = values.unsigned()?,
            K::Reentry => self.reentry = values.unsigned()?,
            K::QuiesceServer => self.quiesce_server = values.boolean()?,
            K::ClientMonitor => self.client_monitor = Some(values.text()),
            K::StartCmd => self.start_cmd = Some(values.text()),
            K::StopCmd => self.stop_cmd = Some(values.text()),
            K::Master => drop(values.host()?),
            K::Dirs => {}
        }
        Ok(())
    }
}

impl Server {
    pub(crate) fn set(
        &mut self,
        key: ServerKey,
        values: &mut Values<'_, '_>,
    ) -> Result<(), Problem> {
        match key {
            ServerKey::Address => self.address = values.optional_host()?.map(|host| host.addr),
            ServerKey::Active => self.active = values.boolean()?,
            ServerKey::Port => {
                let number = values.integer()?;
                self.port = values.low_port(number);
            }
            ServerKey::Weight => self.weight = values.weight()?,
        }
        Ok(())
    }
}

impl<'a> Values<'_, 'a> {
    fn first(&self) -> Word<'a> {
        self.sentence.word(2)
    }

    const fn problem(word: Word<'_>, fault: Fault) -> Problem {
        Problem { fault, start: word.start, end: word.end }
    }

    fn refused(&self, fault: Fault) -> Problem {
        Self::problem(self.first(), fault)
    }

    fn note(&mut self, code: Code, message: String, hint: &str) {
        let word = self.first();
        let place = Place::new(self.line, word.start, word.end);
        self.findings.add(code, || (place, message, Some(hint.to_owned())));
    }

    fn integer(&self) -> Result<i64, Problem> {
        value::integer(self.first().text).ok_or_else(|| self.refused(Fault::IntegerExpected))
    }

    fn boolean(&self) -> Result<bool, Problem> {
        match self.integer()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.refused(Fault::BooleanExpected)),
        }
    }

    /// A number brought into `least..=most`, with a diagnostic where that changes it.
    fn within(&mut self, least: i64, most: i64) -> Result<i64, Problem> {
        let number = self.integer()?;
        let used = number.clamp(least, most);
        if used != number {
            let message = format!("{} must be {least} to {most}: {used} is used", self.key.name());
            self.note(Code::OutOfRange, message, "give a number in that range");
        }
        Ok(used)
    }

    /// Whole seconds, or a time with a unit.
    fn interval(&mut self) -> Result<Interval, Problem> {
        let word = self.first().text;
        let written = Interval::parse(word).ok_or_else(|| self.refused(Fault::IntegerExpected))?;
        if !written.is_exact {
            let message = format!("{} is more than can be counted", self.key.name());
            self.note(Code::OutOfRange, message, "2147483647 seconds are the most");
        }
        if written.has_unit {
            let what = format!("a time with a unit (`{}`) is", show(word));
            self.note_extension(&what, "write whole seconds");
        }
        Ok(written.interval)
    }

    /// Something that the original does not know.
    fn note_extension(&mut self, what: &str, remedy: &str) {
        let message =
            format!("{what} understood by this suite only: the original refuses the whole file");
        let hint = format!("{remedy} as long as a partner runs the original (0.8.6 and before)");
        self.note(Code::Extension, message, &hint);
    }

    /// A signed number of seconds for which less than nothing makes no sense.
    fn seconds(&mut self) -> Result<i32, Problem> {
        let number = self.within(0, i64::from(i32::MAX))?;
        Ok(i32::try_from(number).unwrap_or(i32::MAX))
    }

    /// The numbers that fit the C type of old, from 0.
    fn unsigned(&mut self) -> Result<u32, Problem> {
        let number = self.within(0, i64::from(i32::MAX))?;
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    fn fwmark(&mut self) -> Result<u32, Problem> {
        let number = self.within(0, i64::from(u32::MAX))?;
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    fn byte(&mut self) -> Result<u8, Problem> {
        let number = self.within(0, i64::from(u8::MAX))?;
        Ok(u8::try_from(number).unwrap_or(u8::MAX))
    }

    fn weight(&mut self) -> Result<i32, Problem> {
        let number = self.integer()?;
        if !(0..=65535).contains(&number) {
            let message = format!("weight {number} is beyond 0 to 65535");
            self.note(Code::WeightRange, message, "weights are relative: scale them down");
        }
        let fitting = number.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
        Ok(i32::try_from(fitting).unwrap_or(i32::MAX))
    }

    /// The low 16 bits: what ports have always been made of here.
    fn low_port(&mut self, number: i64) -> u16 {
        let [low, high, ..] = number.to_le_bytes();
        let port = u16::from_le_bytes([low, high]);
        if i64::from(port) != number {
            let message = format!("port {number} is beyond 0 to 65535: {port} is used");
            self.note(Code::PortRange, message, "give a port of that range");
        }
        port
    }

    fn port(&mut self) -> Result<u16, Problem> {
        let word = self.first().text;
        if let Some(number) = value::integer(word) {
            return Ok(self.low_port(number));
        }
        std::str::from_utf8(word)
            .ok()
            .and_then(|name| self.resolver.service(name))
            .ok_or_else(|| self.refused(Fault::InvalidArgument))
    }

    fn choice<T>(&self, parse: impl Fn(&[u8]) -> Option<T>) -> Result<T, Problem> {
        parse(self.first().text).ok_or_else(|| self.refused(Fault::InvalidArgument))
    }

    fn host(&mut self) -> Result<Host, Problem> {
        let word = self.first().text;
        let text = String::from_utf8_lossy(word).into_owned();
        if let Some(addr) = value::address(word) {
            return Ok(Host { text, addr });
        }
        let addr = std::str::from_utf8(word).ok().and_then(|name| self.resolver.host(name));
        let addr = addr.ok_or_else(|| self.refused(Fault::InvalidArgument))?;
        let message = format!("`{}` is looked up whenever the file is read", show(word));
        let hint = format!("write {addr}, so that a director starts while name servers are down");
        self.note(Code::NameLookup, message, &hint);
        Ok(Host { text, addr })
    }

    fn optional_host(&mut self) -> Result<Option<Host>, Problem> {
        Ok(Some(self.host()?).filter(|host| !host.addr.is_unspecified()))
    }

    fn present_host(&mut self) -> Result<Host, Problem> {
        self.optional_host()?.ok_or_else(|| self.refused(Fault::BadHost))
    }

    fn numeric_address(&self) -> Result<Option<Ipv4Addr>, Problem> {
        let addr = value::address(self.first().text).ok_or_else(|| self.refused(Fault::BadHost))?;
        Ok(Some(addr).filter(|addr| !addr.is_unspecified()))
    }

    fn netmask(&self) -> Result<Option<Ipv4Addr>, Problem> {
        let mask =
            value::address(self.first().text).ok_or_else(|| self.refused(Fault::BadNetmask))?;
        Ok(Some(mask).filter(|mask| !mask.is_unspecified()))
    }

    fn pmask(&mut self) -> Option<Ipv4Addr> {
        let word = self.first().text;
        let mask = value::address(word);
        if mask.is_none() {
            let message = format!("pmask is unreadable and ignored: `{}`", show(word));
            self.note(Code::UnreadablePmask, message, "write it as 255.255.255.0");
        }
        mask.filter(|mask| !mask.is_unspecified() && !mask.is_broadcast())
    }

    fn text(&mut self) -> String {
        text(self.findings, self.line, self.first())
    }

    fn device(&mut self) -> String {
        text(self.findings, self.line, self.sentence.word(3))
    }

    fn bytes(&self) -> Vec<u8> {
        self.first().text.to_vec()
    }

    fn check_text(&mut self) -> Vec<u8> {
        let bytes = self.bytes();
        if bytes.len() > Virtual::TEXT_LIMIT {
            let (key, length) = (self.key.name(), bytes.len());
            let message = format!("{key} has {length} bytes, more than {}", Virtual::TEXT_LIMIT);
            let hint =
                "older versions of the suite refuse or cut it: shorten it, or use send_program";
            self.note(Code::TextTooLong, message, hint);
        }
        bytes
    }
}

/// A word as text.
pub(crate) fn text(findings: &mut Findings, line: usize, word: Word<'_>) -> String {
    let text = String::from_utf8_lossy(word.text);
    if matches!(text, std::borrow::Cow::Owned(_)) {
        findings.add(Code::NotUtf8, || {
            (
                Place::new(line, word.start, word.end),
                format!("not UTF-8: `{}`", show(word.text)),
                Some("save the file as UTF-8".to_owned()),
            )
        });
    }
    text.into_owned()
}

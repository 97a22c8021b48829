//! What the decision asks for, done; and what the node holds, told to the guard before it is taken.

use super::{GUARD_AGAIN, Key, Mode, Node, PROBE};
use crate::commands::Order;
use crate::decision::{self, Action, Activity, Event};
use crate::guard::{self, Report};
use crate::holdings::{Holdings, STATE_FILE};
use crate::probe::Probe;
use crate::service::Wish;
use crate::status::Answer;
use ipvs::Role;
use lvs_config::ServiceKind;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

impl Node {
    // ------------------------------------------------------------------ the decision

    /// Has the decision hear of an event; what it asks for is done by [`Node::handle_events`].
    pub(super) fn feed(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(super) fn handle_events(&mut self) {
        while let Some(event) = self.events.pop_front() {
            let now = self.millis(Instant::now());
            let Some(state) = self.state.take() else { return };
            let (state, actions) = decision::step(state, event, now);
            self.state = Some(state);
            for action in actions {
                self.act(action);
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send(message) => self.paths.send(&message),
            Action::Activate => self.activate(),
            Action::Deactivate => self.deactivate(),
            Action::Prepare => self.prepare(),
            Action::Unprepare => self.service.wish(self.wish_at_rest()),
            Action::ResendArps => {
                self.run_command(Key::Active);
                let up: Vec<_> = self.addresses.up().cloned().collect();
                self.announcer.announce(&up, self.net.mirror(), Instant::now());
            }
            Action::Restart => self.service.wish(Wish::FosActive),
            Action::StartMonitor => self.service.wish(Wish::FosMonitor),
            Action::StopMonitor => self.service.wish(Wish::Nothing),
            Action::ProbeGateway => self.probe_gateway(),
            Action::Log(level, text) => log::log!(level, "{text}"),
            Action::Answer(asker, Ok(words)) => self.reply(asker, &Answer::Ok(words.into_owned())),
            Action::Answer(asker, Err(words)) => {
                self.reply(asker, &Answer::Error(words.into_owned()));
            }
            Action::Exit(status) => self.exit = Some(status),
        }
    }

    fn is_lvs(&self) -> bool {
        self.setup.service == ServiceKind::Lvs
    }

    /// What runs on an inactive node.
    pub(super) fn wish_at_rest(&self) -> Wish {
        let leaving = self.state.as_ref().is_some_and(|s| s.activity() == Activity::Leaving);
        match self.setup.standby_checks && !leaving {
            true => Wish::Standby { early: self.may_load_early() },
            false => Wish::Nothing,
        }
    }

    /// Whether lvsd's table may be loaded before the addresses are here. One that leads to this very
    /// node could take up traffic before its time: a director may be a real server of the other one.
    fn may_load_early(&self) -> bool {
        let mirror = self.net.mirror();
        !self.setup.servers.iter().any(|server| mirror.bears(*server))
    }

    fn activate(&mut self) {
        self.mode = Mode::Activating;
        self.unsettled = true;
        self.addresses.forgive();
        self.run_command(Key::Active);
        self.service.wish(if self.is_lvs() { Wish::Serve } else { Wish::FosActive });
        // The guard knows before there is anything that it would have to give up.
        self.tell_holdings(Instant::now());
        self.sync_due = true;
        if self.has_new_file() {
            // lvsd is going to read it.
            self.reload();
        }
    }

    /// The addresses go down before anything else is done.
    fn deactivate(&mut self) {
        self.mode = Mode::Deactivating;
        self.announcer.stop();
        self.unsettled = true;
        self.settle_addresses(Instant::now());
        self.service.wish(self.wish_at_rest());
        self.run_command(Key::Inactive);
        self.sync_due = true;
    }

    /// Tells the sync daemon its role; after lvsd was started, which takes longer.
    pub(super) fn follow_sync(&mut self) {
        if std::mem::take(&mut self.sync_due) {
            let role = match self.mode {
                Mode::Activating | Mode::Active => Role::Master,
                Mode::Idle | Mode::Deactivating => Role::Backup,
            };
            self.sync.set(self.setup.sync.as_ref(), role);
        }
    }

    fn prepare(&mut self) {
        let early = self.may_load_early();
        self.service.wish(Wish::Prepare { early });
    }

    pub(super) fn run_command(&mut self, key: Key) {
        let (key, words) = match key {
            Key::Active => ("active_cmd", &self.setup.active_cmd),
            Key::Inactive => ("inactive_cmd", &self.setup.inactive_cmd),
        };
        if let Some(words) = words.as_ref().filter(|_| self.is_lvs()) {
            self.commands.push(Order { key, words: words.clone() });
        }
    }

    /// Says what has been reached, to a decision that waits for it.
    pub(super) fn notice_progress(&mut self) {
        match self.mode {
            Mode::Activating
                if self.commands.idle()
                    && self.service.is_loaded()
                    && self.addresses.all_tried() =>
            {
                self.mode = Mode::Active;
                self.feed(Event::Loaded);
            }
            Mode::Deactivating if self.commands.idle() && self.service.at_rest() => {
                self.mode = Mode::Idle;
                self.feed(Event::Stopped);
            }
            _ => {}
        }
    }

    fn probe_gateway(&mut self) {
        let gateway = match self.net.default_gateway() {
            Ok(Some(gateway)) => gateway.via,
            Ok(None) => {
                log::warn!("there is no default gateway");
                return self.feed(Event::Gateway(false));
            }
            Err(error) => {
                log::error!("{error}");
                return self.feed(Event::Gateway(false));
            }
        };
        match Probe::start(gateway, &self.poller, PROBE, Instant::now()) {
            Ok(probe) => self.probe = Some(probe),
            Err(error) => {
                log::error!("ping {gateway}: {error}");
                self.feed(Event::Gateway(false));
            }
        }
    }

    // ------------------------------------------------------------------ addresses

    /// Whether addresses are to be up at all now.
    pub(super) fn raising(&self) -> bool {
        match self.mode {
            Mode::Active => true,
            // active_cmd may have to make way for them.
            Mode::Activating => self.commands.idle(),
            Mode::Idle | Mode::Deactivating => false,
        }
    }

    /// Whether this address is to be up, if any.
    pub(super) fn is_wanted(&self, addr: Ipv4Addr) -> bool {
        self.mode == Mode::Active || !self.is_lvs() || self.service.has_loaded(addr)
    }

    /// Raises what should be up, and takes down what should not.
    pub(super) fn settle_addresses(&mut self, now: Instant) {
        let raising = self.raising();
        let due = self.addresses.deadline(&|addr| raising && self.is_wanted(addr));
        let waits = self.mode == Mode::Activating && raising;
        if !self.unsettled && !waits && due.is_none_or(|at| at > now) {
            return;
        }
        self.unsettled = false;
        self.net.update();
        if raising && self.guard_has_acted() {
            return;
        }
        let mut addresses = std::mem::take(&mut self.addresses);
        let wanted = |addr| raising && self.is_wanted(addr);
        let plan = addresses.plan(self.net.mirror(), &wanted, now);
        self.addresses = addresses;
        if plan.is_empty() {
            return;
        }
        let failures = self.net.apply(plan.changes());
        let new = self.addresses.settle(plan, &failures, now);
        self.announcer.announce(&new, self.net.mirror(), now);
    }

    // ------------------------------------------------------------------ the guard

    fn holdings(&self) -> Holdings {
        let active = matches!(self.mode, Mode::Activating | Mode::Active);
        Holdings {
            addresses: self.addresses.held(active),
            child: self.service.process(),
            table: self.service.has_table() || (active && self.is_lvs()),
            sync_master: self.sync.is_master(),
        }
    }

    /// How long this node may stand still while it holds these. Where nobody else could serve, as
    /// long as it takes.
    fn silence(&self, holdings: &Holdings) -> Option<Duration> {
        let matters = self.setup.partner && !holdings.addresses.is_empty();
        let (limit, _) = guard::silence(Duration::from_millis(self.setup.deadtime));
        matters.then_some(limit)
    }

    /// Tells the guard, and writes down, what has changed in what the node holds.
    pub(super) fn tell_holdings(&mut self, now: Instant) {
        let holdings = self.holdings();
        let silence = self.silence(&holdings);
        if (&holdings, silence) == (&self.told.0, self.told.1) {
            return;
        }
        self.alive_at = silence.map(|_| now);
        if let Some(guard) = &mut self.guard {
            guard.hold(&holdings, silence, &self.poller);
        }
        if let Err(error) = holdings.write(Path::new(STATE_FILE)) {
            log::error!("{error}");
        }
        self.told = (holdings, silence);
    }

    pub(super) fn give_sign_of_life(&mut self, now: Instant) {
        if self.alive_at.is_none_or(|at| at > now) {
            return;
        }
        let (_, tick) = guard::silence(Duration::from_millis(self.setup.deadtime));
        self.alive_at = Some(now + tick);
        if let Some(guard) = &mut self.guard {
            guard.alive(&self.poller);
        }
    }

    pub(super) fn on_guard(&mut self, now: Instant) {
        let Some(guard) = &mut self.guard else { return };
        guard.flush(&self.poller);
        match guard.read() {
            Report::Nothing => {}
            Report::Acted(why) => {
                self.give_in(&why);
                self.lose_guard(now);
            }
            Report::Gone => {
                log::error!("pulse-guard (pid {}) has ended: starting another", guard.pid());
                self.lose_guard(now);
            }
        }
    }

    /// Whether the guard has given up what this node holds: asked before an address is raised, since
    /// after a standstill its word may come behind the news that the addresses are gone.
    fn guard_has_acted(&mut self) -> bool {
        let Some(guard) = &mut self.guard else { return false };
        match guard.read() {
            Report::Acted(why) => {
                self.give_in(&why);
                self.lose_guard(Instant::now());
                true
            }
            // Seen by the loop as well.
            Report::Nothing | Report::Gone => false,
        }
    }

    fn lose_guard(&mut self, now: Instant) {
        self.guard = None;
        self.guard_at = Some(now + GUARD_AGAIN);
    }

    /// The guard has taken the addresses down and ends the child: this node is not active any more.
    fn give_in(&mut self, why: &str) {
        self.mode = Mode::Idle;
        self.feed(Event::Deposed(format!("pulse-guard has taken the addresses down: {why}")));
    }

    // ------------------------------------------------------------------ the end

    pub(super) fn leave(&mut self) {
        self.commands.kill();
        self.service.kill();
        self.sync.set(None, Role::Backup);
        self.mode = Mode::Idle;
        self.tell_holdings(Instant::now());
        if !self.told.0.addresses.is_empty() {
            // The guard goes on trying when this process is gone.
            return;
        }
        if let Some(guard) = self.guard.take() {
            guard.bye(&self.poller);
        }
        let _ = std::fs::remove_file(STATE_FILE);
    }
}

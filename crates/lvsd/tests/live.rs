//! Histories of a director without a kernel: news, reloads and meddling with the table, against the
//! in-memory table, which refuses what the kernel refuses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use health::wire::{Order, State};
use ipvs::{Change, Destination, Forwarding, Memory, Table, VirtualService};
use lvs_config::NoResolver;
use lvsd::live::{Live, Turnover};
use lvsd::site::{Block, site};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// A director's state and a table.
struct Rig {
    live: Live,
    table: Memory,
    now: Instant,
}

impl Rig {
    fn new(text: &str) -> Rig {
        let mut rig = Rig { live: Live::default(), table: Memory::new(), now: Instant::now() };
        rig.reload(text);
        rig
    }

    fn reload(&mut self, text: &str) -> (Turnover, usize) {
        let turnover = self.live.replace(blocks(text), self.now);
        (turnover, self.settle().len())
    }

    /// Brings the table to what it should be; gives back what was changed.
    fn settle(&mut self) -> Vec<Change> {
        let changes = self.live.changes(self.now);
        let failures = self.table.apply(&changes);
        let failed = failures.iter().map(|f| (&changes[f.index], f.error.to_string()));
        self.live.settle(failed);
        changes
    }

    /// As [`Rig::new`], in standby.
    fn standby(text: &str) -> Rig {
        let mut rig = Rig { live: Live::standby(), table: Memory::new(), now: Instant::now() };
        rig.reload(text);
        rig
    }

    /// Begins to take over the table.
    fn take(&mut self) {
        assert!(self.table.apply(&[Change::Flush]).is_empty());
        self.live.take(self.now);
    }

    /// Takes over what is left, `most` entries at a time; gives back the addresses of each time.
    fn take_rest(&mut self, most: usize) -> Vec<Vec<String>> {
        let mut reports = Vec::new();
        while self.live.is_taking() {
            let addresses = self.live.take_more(most);
            self.settle();
            reports.push(addresses.iter().map(ToString::to_string).collect());
        }
        reports
    }

    fn leave(&mut self) -> Vec<Change> {
        let changes = self.live.release();
        self.table.apply(&changes);
        changes
    }

    fn audit(&mut self) -> Vec<Change> {
        self.live.observe(&self.table.read().unwrap());
        self.settle()
    }

    fn id(&self, label: &str) -> u32 {
        self.live.find(label).unwrap()
    }

    fn news(&mut self, label: &str, up: bool, weight: Option<u32>) -> usize {
        self.live.news(&State { id: self.id(label), up, weight });
        self.settle().len()
    }

    /// The table as text: each service with its servers, sorted.
    fn shown(&mut self) -> String {
        let mut table = self.table.read().unwrap();
        table.sort_by_key(|v| v.service.key);
        let mut text = String::new();
        for service in table {
            let _ = write!(text, "{} {}:", service.service.key, service.service.scheduler.as_str());
            let mut servers = service.destinations;
            servers.sort_by_key(Destination::key);
            for server in servers {
                let _ = write!(text, " {}*{}", server.key(), server.weight);
            }
            text.push('\n');
        }
        text
    }
}

fn blocks(text: &str) -> Vec<Block> {
    // A file of no bytes is an error; one that says nothing is not.
    let text = format!("{text}\n");
    let config = lvs_config::parse(text.as_bytes(), &NoResolver).config.unwrap();
    let (site, problems) = site(&config);
    assert_eq!(problems, []);
    site.blocks
}

/// A virtual server on 10.9.0.`n` with servers 10.0.0.x, each given as (x, weight).
fn block(n: u8, extra: &str, servers: &[(u8, u32)]) -> String {
    let mut text = format!("virtual v{n} {{\nactive = 1\naddress = 10.9.0.{n} eth0:{n}\n{extra}\n");
    for (x, weight) in servers {
        let _ = write!(
            text,
            "server s{x} {{\nactive = 1\naddress = 10.0.0.{x}\nweight = {weight}\n}}\n"
        );
    }
    text + "}\n"
}

#[test]
fn servers_enter_and_leave_one_change_each() {
    let mut rig = Rig::new(&block(1, "", &[(3, 1), (4, 5)]));
    assert_eq!(rig.shown(), "TCP 10.9.0.1:80 wlc:\n", "nobody enters before the first check");
    assert_eq!(rig.news("v1/s3", true, Some(1)), 1);
    assert_eq!(rig.news("v1/s4", true, Some(5)), 1);
    assert_eq!(rig.shown(), "TCP 10.9.0.1:80 wlc: 10.0.0.3:80*1 10.0.0.4:80*5\n");
    assert_eq!(rig.news("v1/s4", true, Some(5)), 0, "the same news again");
    assert_eq!(rig.news("v1/s4", false, Some(0)), 1, "quiesced");
    assert_eq!(rig.news("v1/s3", false, None), 1);
    assert_eq!(rig.shown(), "TCP 10.9.0.1:80 wlc: 10.0.0.4:80*0\n");
}

#[test]
fn the_sorry_server_stands_in_when_all_are_known_to_be_down() {
    let mut rig = Rig::new(&block(1, "sorry_server = 10.0.0.99", &[(3, 1), (4, 1)]));
    assert_eq!(rig.news("v1/s3", false, None), 0, "the other one may be up");
    assert_eq!(rig.news("v1/s4", false, None), 1);
    assert_eq!(rig.shown(), "TCP 10.9.0.1:80 wlc: 10.0.0.99:80*1\n");
    assert_eq!(rig.news("v1/s3", true, Some(1)), 2);
    assert_eq!(rig.shown(), "TCP 10.9.0.1:80 wlc: 10.0.0.3:80*1\n");
}

#[test]
fn the_sorry_server_does_not_wait_for_ever_for_first_checks() {
    let mut rig = Rig::new(&block(1, "sorry_server = 10.0.0.99", &[(3, 1)]));
    let due = rig.live.deadline().unwrap();
    assert!(due <= rig.now + Duration::from_secs(1));
    rig.now = due;
    assert_eq!(rig.settle().len(), 1);
    assert_eq!(rig.shown(), "TCP 10.9.0.1:80 wlc: 10.0.0.99:80*1\n");
    assert_eq!(rig.live.deadline(), None);
}

#[test]
fn a_reload_changes_what_changed_and_keeps_the_rest() {
    let before = block(1, "", &[(3, 1), (4, 1)]) + &block(2, "", &[(3, 1)]);
    let mut rig = Rig::new(&before);
    for label in ["v1/s3", "v1/s4", "v2/s3"] {
        rig.news(label, true, Some(1));
    }
    let (turnover, changes) = rig.reload(&before);
    assert_eq!((turnover, changes), (Turnover::default(), 0), "an unchanged file");

    let id = rig.id("v1/s4");
    let heavier = block(1, "", &[(3, 1), (4, 9)]) + &block(2, "", &[(3, 1)]);
    let (turnover, changes) = rig.reload(&heavier);
    assert_eq!(changes, 0, "the monitor has the say about weights");
    let [Order::Server(order)] = turnover.orders.as_slice() else { panic!("{turnover:?}") };
    assert_eq!((order.id, order.weight), (id, 9));
    assert_eq!(rig.news("v1/s4", true, Some(9)), 1);

    let scheduler = block(1, "scheduler = rr", &[(3, 1), (4, 9)]) + &block(2, "", &[(3, 1)]);
    let (turnover, changes) = rig.reload(&scheduler);
    assert_eq!((turnover.orders.len(), changes), (0, 1));

    let slower =
        block(1, "scheduler = rr\ntimeout = 3", &[(3, 1), (4, 9)]) + &block(2, "", &[(3, 1)]);
    let (turnover, changes) = rig.reload(&slower);
    assert!(matches!(turnover.orders.as_slice(), [Order::Group(_)]), "{turnover:?}");
    assert_eq!(changes, 0);

    let fewer = block(1, "scheduler = rr\ntimeout = 3", &[(4, 9), (5, 1)]);
    let gone = rig.id("v1/s3");
    let (turnover, changes) = rig.reload(&fewer);
    assert_eq!(changes, 2, "a server and a service go; the new server waits for its check");
    assert!(turnover.orders.contains(&Order::Forget(gone)));
    assert_eq!(rig.shown(), "TCP 10.9.0.1:80 rr: 10.0.0.4:80*9\n");
    assert_eq!(rig.id("v1/s4"), id, "who stays keeps number and state");
    assert_eq!(rig.audit(), []);
}

#[test]
fn another_forwarding_method_reaches_the_table() {
    let text = block(1, "port = 8080", &[(3, 1)]).replace("server s3 {", "server s3 {\nport = 80");
    let mut rig = Rig::new(&text);
    rig.news("v1/s3", true, Some(1));
    assert_eq!(rig.shown(), "TCP 10.9.0.1:8080 wlc: 10.0.0.3:80*1\n");
    rig.reload(&format!("network = direct\n{text}"));
    assert_eq!(rig.shown(), "TCP 10.9.0.1:8080 wlc: 10.0.0.3:8080*1\n");
    let table = rig.table.read().unwrap();
    assert_eq!(table[0].destinations[0].forwarding, Forwarding::DirectRoute);
    assert_eq!(rig.audit(), []);
}

#[test]
fn a_sorry_server_that_is_replaced_while_it_stands_in() {
    let mut rig = Rig::new(&block(1, "sorry_server = 10.0.0.98", &[(3, 1)]));
    rig.news("v1/s3", false, None);
    rig.reload(&block(1, "sorry_server = 10.0.0.99", &[(3, 1)]));
    assert_eq!(rig.shown(), "TCP 10.9.0.1:80 wlc: 10.0.0.99:80*1\n");
    rig.reload(&block(1, "", &[(3, 1)]));
    assert_eq!(rig.shown(), "TCP 10.9.0.1:80 wlc:\n");
}

#[test]
fn classic_monitors_keep_their_servers_entries() {
    let text = block(1, "client_monitor = /bin/x\nsorry_server = 10.0.0.99", &[(3, 1), (4, 1)]);
    let mut rig = Rig::new("");
    let (turnover, _) = rig.reload(&text);
    let ids = [rig.id("v1/s3"), rig.id("v1/s4")];
    assert_eq!((turnover.start.as_slice(), turnover.orders.len()), (&ids[..], 0));
    let key = rig.live.blocks()[0].block.service.key;
    let entry = Destination::new("10.0.0.3".parse().unwrap(), 80, Forwarding::Masquerade, 7);
    assert!(rig.table.apply(&[Change::AddDestination(key, entry)]).is_empty());
    rig.live.classic_news(ids[0], true);
    assert_eq!(rig.audit(), [], "the monitor's own entry is left alone");
    rig.live.classic_news(ids[0], false);
    rig.live.classic_news(ids[1], false);
    assert_eq!(rig.settle().len(), 1);
    assert!(rig.shown().contains("10.0.0.3:80*7 10.0.0.99:80*1"), "{}", rig.shown());

    let (turnover, _) = rig.reload(&text.replace("/bin/x", "/bin/y"));
    assert_eq!(turnover.start, ids, "another program: all begin anew");
    let (turnover, _) = rig.reload(&block(1, "sorry_server = 10.0.0.99", &[(3, 1), (4, 1)]));
    assert_eq!(turnover.stop, ids);
    assert_eq!(turnover.orders.len(), 3, "{turnover:?}");
}

#[test]
fn a_monitor_that_begins_anew_is_told_what_is_known() {
    let mut rig = Rig::new(&block(1, "", &[(3, 40), (4, 1)]));
    rig.news("v1/s3", true, Some(5));
    rig.news("v1/s4", false, None);
    let orders = rig.live.all_orders();
    let known: Vec<_> = orders
        .iter()
        .filter_map(|o| match o {
            Order::Server(s) => Some(s.known.map(|k| (k.up, k.weight))),
            _ => None,
        })
        .collect();
    assert_eq!(known, [Some((true, Some(5))), Some((false, None))]);
}

#[test]
fn meddling_is_mended_and_other_peoples_services_stay() {
    let mut rig = Rig::new(&block(1, "", &[(3, 1), (4, 1)]));
    rig.news("v1/s3", true, Some(1));
    rig.news("v1/s4", true, Some(1));
    let good = rig.shown();
    let key = rig.live.blocks()[0].block.service.key;
    let at =
        |x: u8, weight| Destination::new([10, 0, 0, x].into(), 80, Forwarding::Masquerade, weight);
    let meddling: [&[Change]; 4] = [
        &[Change::DeleteDestination(key, at(3, 1).key())],
        &[Change::EditDestination(key, at(3, 9))],
        &[Change::AddDestination(key, at(77, 1))],
        &[Change::DeleteService(key)],
    ];
    for changes in meddling {
        assert!(rig.table.apply(changes).is_empty());
        assert_ne!(rig.audit(), []);
        assert_eq!(rig.shown(), good, "{changes:?}");
        assert_eq!(rig.audit(), []);
    }
    let other = blocks(&block(2, "", &[]))[0].service;
    assert!(rig.table.apply(&[Change::AddService(other)]).is_empty());
    assert_eq!(rig.audit(), []);
    rig.reload("");
    assert!(rig.shown().starts_with("TCP 10.9.0.2:80"), "{}", rig.shown());
}

#[test]
fn what_the_kernel_refuses_is_a_problem_of_its_block_only() {
    let mut rig = Rig::new("");
    let taken = blocks(&block(1, "", &[]))[0].service;
    assert!(rig.table.apply(&[Change::AddService(taken)]).is_empty());
    let text = block(1, "", &[(3, 1)]) + &block(2, "", &[(4, 1)]);
    rig.reload(&text);
    let problems: Vec<bool> = rig.live.blocks().iter().map(|b| b.problem.is_some()).collect();
    assert_eq!(problems, [true, false]);
    assert_eq!(rig.settle(), [], "nothing is tried again before the table is read");
    rig.news("v2/s4", true, Some(1));
    rig.news("v1/s3", true, Some(1));
    rig.audit();
    rig.audit();
    assert!(rig.live.blocks().iter().all(|b| b.problem.is_none()));
    assert_eq!(
        rig.shown(),
        "TCP 10.9.0.1:80 wlc: 10.0.0.3:80*1\nTCP 10.9.0.2:80 wlc: 10.0.0.4:80*1\n"
    );
}

#[test]
fn a_standby_touches_nothing_and_takes_over_with_what_it_knows() {
    let text = block(1, "sorry_server = 10.0.0.99", &[(3, 1), (4, 5)]) + &block(2, "", &[(3, 1)]);
    let mut rig = Rig::standby(&text);
    let foreign = blocks(&block(9, "", &[]))[0].service;
    assert!(rig.table.apply(&[Change::AddService(foreign)]).is_empty());
    assert!(rig.live.is_standby() && !rig.live.is_known());
    for (label, weight) in [("v1/s3", None), ("v1/s4", Some(5)), ("v2/s3", None)] {
        assert_eq!(rig.news(label, weight.is_some(), weight), 0);
    }
    assert!(rig.live.is_known());
    rig.now += Duration::from_secs(9);
    assert_eq!((rig.live.deadline(), rig.settle()), (None, vec![]), "no sorry server either");
    assert_eq!(rig.shown(), "TCP 10.9.0.9:80 wlc:\n");

    rig.take();
    assert_eq!(rig.take_rest(usize::MAX), [["10.9.0.1", "10.9.0.2"]]);
    assert_eq!(rig.shown(), "TCP 10.9.0.1:80 wlc: 10.0.0.4:80*5\nTCP 10.9.0.2:80 wlc:\n");
    assert!(rig.live.is_holding());
    assert_eq!(rig.audit(), []);
    assert_eq!(rig.news("v1/s4", false, None), 2, "out, and the sorry server in");

    // The sorry server is no state of a server's: the next take-over finds out by itself.
    assert_eq!(rig.leave().len(), 2);
    assert_eq!(rig.shown(), "");
    assert!(rig.live.is_known() && !rig.live.blocks()[0].sorry_active());
    assert_eq!(rig.news("v2/s3", true, Some(1)), 0);
    assert_eq!(rig.leave(), [], "nothing is left to leave");
    rig.take();
    rig.take_rest(usize::MAX);
    assert_eq!(
        rig.shown(),
        "TCP 10.9.0.1:80 wlc: 10.0.0.99:80*1\nTCP 10.9.0.2:80 wlc: 10.0.0.3:80*1\n"
    );
    assert_eq!(rig.audit(), []);
}

#[test]
fn a_reload_in_standby_is_for_the_next_take_over() {
    let mut rig = Rig::standby(&block(1, "", &[(3, 1), (4, 1)]));
    rig.news("v1/s3", true, Some(1));
    rig.news("v1/s4", true, Some(1));
    let (turnover, changes) =
        rig.reload(&(block(1, "scheduler = rr", &[(4, 1), (5, 1)]) + &block(2, "", &[(6, 1)])));
    assert_eq!((turnover.orders.len(), changes), (4, 0), "two come, a group comes, one goes");
    rig.news("v1/s5", true, Some(1));
    rig.take();
    rig.take_rest(1);
    assert_eq!(
        rig.shown(),
        "TCP 10.9.0.1:80 rr: 10.0.0.4:80*1 10.0.0.5:80*1\nTCP 10.9.0.2:80 wlc:\n"
    );
    rig.leave();
    let (_, changes) = rig.reload("");
    assert_eq!((changes, rig.shown().as_str()), (0, ""), "nothing of ours was there to remove");
    rig.take();
    assert_eq!(rig.take_rest(1), [Vec::<String>::new()], "an empty table is taken over too");
    assert!(rig.live.is_holding());
}

#[test]
fn addresses_are_taken_over_whole_and_in_the_files_order() {
    let text = block(7, "port = 80", &[(3, 1), (4, 1)])
        + &block(5, "", &[(3, 1)])
        + "virtual mark {\nactive = 1\nfwmark = 3\nserver s9 {\nactive = 1\naddress = 10.0.0.9\n}\n}\n"
        + &block(7, "port = 443", &[(3, 1)])
        + &block(6, "fwmark = 4", &[(3, 1)]);
    let mut rig = Rig::standby(&text);
    let ids: Vec<u32> =
        rig.live.blocks().iter().flat_map(|b| b.servers.iter().map(|s| s.id)).collect();
    for id in ids {
        rig.live.news(&State { id, up: true, weight: Some(1) });
    }
    let addresses: Vec<String> = rig.live.addresses().iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.9.0.7", "10.9.0.5", "10.9.0.6"]);

    rig.take();
    let first = rig.live.take_more(1);
    assert_eq!(first.len(), 1);
    let commands = |changes: Vec<Change>| -> Vec<String> {
        changes.iter().map(|c| c.ipvsadm_args()[1..].join(" ")).collect()
    };
    assert_eq!(
        commands(rig.settle()),
        [
            "-t 10.9.0.7:80 -s wlc",
            "-t 10.9.0.7:80 -r 10.0.0.3:80 -m -w 1",
            "-t 10.9.0.7:80 -r 10.0.0.4:80 -m -w 1",
            "-t 10.9.0.7:443 -s wlc",
            "-t 10.9.0.7:443 -r 10.0.0.3:443 -m -w 1",
        ]
    );
    let rest: [&[&str]; 3] = [&["10.9.0.5"], &[], &["10.9.0.6"]];
    assert_eq!(rig.take_rest(1), rest);
    let order = ["-t 10.9.0.7:80", "-t 10.9.0.7:443", "-t 10.9.0.5:80", "-f 3", "-f 4"];
    // The other way round: so the kernel finds the removed servers at once when they come back.
    assert!(commands(rig.leave()).iter().rev().eq(order.iter()));
    rig.take();
    let two: [&[&str]; 2] = [&["10.9.0.7", "10.9.0.5"], &["10.9.0.6"]];
    assert_eq!(rig.take_rest(6), two, "as many as it takes for six entries");
}

#[test]
fn what_happens_while_a_table_is_taken_over() {
    let text = block(1, "", &[(3, 1)]) + &block(2, "", &[(3, 1)]) + &block(3, "", &[(3, 1)]);
    let mut rig = Rig::standby(&text);
    rig.take();
    rig.live.take_more(1);
    rig.settle();
    assert_eq!(rig.news("v1/s3", true, Some(1)), 1);
    assert_eq!(rig.news("v3/s3", true, Some(1)), 0, "not its turn yet");
    // 1 goes, 4 comes: at the end, when it is its turn.
    let (_, changes) = rig
        .reload(&(block(2, "", &[(3, 1)]) + &block(3, "", &[(3, 1)]) + &block(4, "", &[(3, 1)])));
    assert_eq!(changes, 1);
    let rest: [&[&str]; 3] = [&["10.9.0.2"], &["10.9.0.3"], &["10.9.0.4"]];
    assert_eq!(rig.take_rest(1), rest);
    assert_eq!(
        rig.shown(),
        "TCP 10.9.0.2:80 wlc:\nTCP 10.9.0.3:80 wlc: 10.0.0.3:80*1\nTCP 10.9.0.4:80 wlc:\n"
    );
    rig.leave();
    rig.take();
    rig.live.take_more(1);
    rig.settle();
    assert_eq!(rig.leave().len(), 1, "no more than it had come to");
    assert_eq!((rig.live.is_standby(), rig.shown().as_str()), (true, ""));
}

#[test]
fn classic_monitors_begin_anew_with_the_table() {
    let text = block(1, "client_monitor = /bin/x\nsorry_server = 10.0.0.99", &[(3, 1)]);
    let mut rig = Rig::standby(&text);
    assert!(rig.live.is_known(), "nobody checks it, nobody waits for it");
    rig.now += Duration::from_secs(60);
    rig.take();
    rig.take_rest(1);
    assert_eq!(rig.shown(), "TCP 10.9.0.1:80 wlc:\n", "its monitor has a second to say something");
    let id = rig.id("v1/s3");
    rig.live.classic_news(id, true);
    assert_eq!(rig.settle(), []);
    rig.leave();
    assert_eq!(rig.live.blocks()[0].servers[0].up, None);
    assert_eq!(rig.live.blocks()[0].up(), 0);
    rig.take();
    rig.take_rest(1);
    rig.now += Duration::from_secs(1);
    assert_eq!(rig.settle().len(), 1);
    assert_eq!(rig.shown(), "TCP 10.9.0.1:80 wlc: 10.0.0.99:80*1\n");
}

/// One thing that happens to a director.
#[derive(Debug, Clone)]
enum Event {
    News { pick: usize, up: bool, weight: u32 },
    Reload(usize),
    Meddle(usize),
    Audit,
    Wait,
    Take,
    TakeMore(usize),
    Leave,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (0usize..64, any::<bool>(), 0u32..4)
            .prop_map(|(pick, up, weight)| Event::News { pick, up, weight }),
        2 => (0usize..5).prop_map(Event::Reload),
        2 => (0usize..64).prop_map(Event::Meddle),
        1 => Just(Event::Audit),
        1 => Just(Event::Wait),
        1 => Just(Event::Take),
        2 => (0usize..9).prop_map(Event::TakeMore),
        1 => Just(Event::Leave),
    ]
}

fn files() -> Vec<String> {
    let two = block(2, "scheduler = rr", &[(3, 1), (5, 2)]);
    vec![
        String::new(),
        block(1, "", &[(3, 1), (4, 2)]) + &two,
        block(1, "sorry_server = 10.0.0.99\nscheduler = sh", &[(4, 7), (5, 1)]),
        block(1, "persistent = 60\nquiesce_server = 1", &[(3, 1)])
            + &two
            + &block(3, "", &[(9, 1)]),
        String::from("network = tunnel\n") + &two + &block(1, "port = 81", &[(3, 1), (4, 2)]),
    ]
}

/// What the table should hold, from the director's own account of its servers.
fn should_be(live: &Live) -> Vec<VirtualService> {
    let mut table: Vec<VirtualService> = live
        .blocks()
        .iter()
        .map(|b| {
            let servers = b.servers.iter();
            let mut destinations: Vec<Destination> = servers
                .filter_map(|s| s.weight.map(|w| b.block.destination(&s.member, w)))
                .chain(b.block.sorry.filter(|_| b.sorry_active()))
                .collect();
            destinations.sort_by_key(Destination::key);
            VirtualService { service: b.block.service, destinations }
        })
        .collect();
    table.sort_by_key(|v| v.service.key);
    table
}

proptest! {
    /// Whatever happens, two readings of the table later it is as it should be, and a third finds
    /// nothing to do. In standby nothing of the table changes; and what is taken over is known.
    #[test]
    fn every_history_ends_in_order(
        standby in any::<bool>(),
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let files = files();
        let mut rig = if standby { Rig::standby(&files[1]) } else { Rig::new(&files[1]) };
        let mut meddled = false;
        for event in events {
            let before = rig.live.is_standby().then(|| rig.shown());
            // Until the table has been read, a change of somebody else's is not known.
            meddled |= matches!(event, Event::Meddle(_));
            let is_ours = !matches!(event, Event::Meddle(_) | Event::Take);
            match event {
                Event::News { pick, up, weight } => {
                    let ids: Vec<u32> =
                        rig.live.blocks().iter().flat_map(|b| b.servers.iter().map(|s| s.id)).collect();
                    if let Some(id) = ids.get(pick % ids.len().max(1)) {
                        let weight = if up { Some(weight) } else { (weight == 0).then_some(0) };
                        rig.live.news(&State { id: *id, up, weight });
                        rig.settle();
                    }
                }
                Event::Reload(which) => {
                    rig.reload(&files[which]);
                }
                Event::Meddle(pick) => {
                    let table = rig.table.read().unwrap();
                    let all: Vec<Change> = table.iter().flat_map(|v| {
                        let key = v.service.key;
                        let entries = v.destinations.iter().flat_map(move |d| [
                            Change::DeleteDestination(key, d.key()),
                            Change::EditDestination(key, Destination { weight: 77, ..*d }),
                        ]);
                        std::iter::once(Change::DeleteService(key)).chain(entries)
                    }).collect();
                    if !all.is_empty() {
                        rig.table.apply(&all[pick % all.len()..][..1]);
                    }
                }
                Event::Audit => {
                    // Others' tables are not looked at, nor is one that is not whole.
                    if rig.live.is_holding() {
                        rig.audit();
                    }
                }
                Event::Take => {
                    if rig.live.is_standby() {
                        rig.take();
                        meddled = false;
                    }
                }
                Event::TakeMore(most) => {
                    let addresses = rig.live.take_more(most);
                    rig.settle();
                    for address in addresses {
                        let table = rig.table.read().unwrap();
                        let blocks = rig.live.blocks().iter().map(|b| &b.block);
                        for block in blocks.filter(|b| !meddled && b.vip == Some(address)) {
                            prop_assert!(table.iter().any(|v| v.service == block.service));
                        }
                    }
                }
                Event::Leave => {
                    rig.leave();
                    prop_assert!(rig.live.is_standby());
                }
                Event::Wait => {
                    rig.now += Duration::from_secs(1);
                    rig.settle();
                }
            }
            if let Some(before) = before.filter(|_| is_ours) {
                prop_assert_eq!(rig.shown(), before);
            }
        }
        if rig.live.is_standby() {
            rig.take();
        }
        rig.take_rest(3);
        rig.audit();
        rig.audit();
        let mut table = rig.table.read().unwrap();
        table.sort_by_key(|v| v.service.key);
        for service in &mut table {
            service.destinations.sort_by_key(Destination::key);
        }
        prop_assert_eq!(table, should_be(&rig.live));
        prop_assert_eq!(rig.audit(), vec![]);
    }
}

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

/// One thing that happens to a director.
#[derive(Debug, Clone)]
enum Event {
    News { pick: usize, up: bool, weight: u32 },
    Reload(usize),
    Meddle(usize),
    Audit,
    Wait,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (0usize..64, any::<bool>(), 0u32..4)
            .prop_map(|(pick, up, weight)| Event::News { pick, up, weight }),
        2 => (0usize..5).prop_map(Event::Reload),
        2 => (0usize..64).prop_map(Event::Meddle),
        1 => Just(Event::Audit),
        1 => Just(Event::Wait),
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
    /// nothing to do.
    #[test]
    fn every_history_ends_in_order(events in proptest::collection::vec(event(), 0..60)) {
        let files = files();
        let mut rig = Rig::new(&files[1]);
        for event in events {
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
                    rig.audit();
                }
                Event::Wait => {
                    rig.now += Duration::from_secs(1);
                    rig.settle();
                }
            }
        }
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

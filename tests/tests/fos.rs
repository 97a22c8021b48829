//! Failover services: two nodes that run a web server themselves, one at a time, with pulse and fos.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;
mod pair;

use std::time::Duration;

use director::{CONFIG, command_lines, logged, wait, wait_logged};
use lab::{AddressWatch, Lab, Node, PATIENCE};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pair::{assert_clean, kill_pulse, start, state, stop, wait_state, wait_status};

const VIP: &str = "192.168.1.100";
const URL: &str = "http://192.168.1.100:8080/";

/// The service: a web server whose page is the node's name. Everything is noted in /run/journal.
const SERVICE: &str = r#"
mkdir -p /run/www
echo "$1" >>/run/journal
case $1 in
  start)
    [ ! -e /run/broken ] || exit 1
    busybox httpd -f -p 8080 -h /run/www </dev/null >/dev/null 2>&1 &
    echo $! >/run/httpd.pid
    # Up when it answers, as a good init script says.
    until wget -q -O /dev/null http://127.0.0.1:8080/; do kill -0 $! || exit 1; sleep 0.02; done ;;
  stop)
    [ -e /run/httpd.pid ] || exit 0
    kill "$(cat /run/httpd.pid)" 2>/dev/null
    rm /run/httpd.pid ;;
esac
"#;

/// Two nodes, a client, and the gateway of them all; a second segment between the nodes.
struct Site {
    lab: Lab,
    nodes: Vec<Node>,
    client: Node,
    /// Which node has had which address.
    watch: AddressWatch,
}

impl Site {
    #[track_caller]
    fn new() -> Self {
        let lab = Lab::new("fos");
        let nodes: Vec<Node> = (1..=2).map(|number| node(&lab, number)).collect();
        let _gateway = lab.node("gateway").nic("eth0", "lan", &["192.168.1.1/24"]).build();
        let client = lab.node("client").nic("eth0", "lan", &["192.168.1.50/24"]).build();
        let watch = lab.watch_addresses(&nodes);
        Self { lab, nodes, client, watch }
    }

    /// Writes lvs.cf on both nodes: one service, and these global lines.
    fn write(&self, globals: &[&str]) {
        let script = self.lab.dir().join("service");
        std::fs::write(&script, SERVICE).unwrap();
        let script = script.display();
        let globals = globals.join("\n");
        let text = format!(
            "service = fos\nprimary = 192.168.1.11\nbackup = 192.168.1.12\nheartbeat = 1\n{globals}\n\
             failover web {{\n active = 1\n address = {VIP} eth0:1\n vip_nmask = 255.255.255.0\n\
             port = 8080\n send = \"GET / HTTP/1.0\\r\\n\\r\\n\"\n expect = \"HTTP\"\n timeout = 1\n\
             start_cmd = \"/bin/sh {script} start\"\n stop_cmd = \"/bin/sh {script} stop\"\n}}\n"
        );
        for node in &self.nodes {
            node.write(CONFIG, &text);
        }
    }

    /// The pair at work: the first node serves, the second one watches it and has seen the service.
    #[track_caller]
    fn start(&self, globals: &[&str]) {
        self.write(&[&["backup_active = 1"], globals].concat());
        start(&self.nodes[0]);
        start(&self.nodes[1]);
        self.wait_serves(0);
        self.wait_watched(1, 1);
    }

    /// Waits until this node serves and the client notices.
    #[track_caller]
    fn wait_serves(&self, index: usize) {
        let node = &self.nodes[index];
        wait_state(node, "active");
        wait(&format!("{} answers", node.name()), || {
            (self.client.get(URL).ok()?.body.trim() == node.name()).then_some(())
        });
        assert_eq!(self.bearers(), [node.name()]);
    }

    /// Waits until this node's monitor has seen the service, for the so many-th time.
    #[track_caller]
    fn wait_watched(&self, index: usize, times: usize) {
        let available = format!("Remote service {VIP}:8080 is available");
        wait_logged(&self.nodes[index], &[&available], times);
        assert_eq!(state(&self.nodes[index]), "inactive");
    }

    /// The nodes with the virtual address.
    fn bearers(&self) -> Vec<&str> {
        let bears = |node: &&Node| node.has_address("eth0", VIP);
        self.nodes.iter().filter(bears).map(Node::name).collect()
    }

    /// Never have both nodes had the virtual address at once.
    #[track_caller]
    fn assert_never_both(&self) {
        let overlaps = self.watch.overlaps(VIP);
        assert!(overlaps.is_empty(), "{overlaps:?}:\n{}", self.watch.shown());
    }

    /// Ends pulse on a node, which leaves nothing behind.
    #[track_caller]
    fn stop(&self, index: usize) {
        stop(&self.nodes[index]);
        assert_clean(&self.nodes[index], VIP);
        assert!(!self.nodes[index].path("/run/fos.pid").exists());
    }
}

fn node(lab: &Lab, number: usize) -> Node {
    let node = lab
        .node(&format!("n{number}"))
        .private("/etc/sysconfig/ha")
        .private("/dev/shm")
        .nic("eth0", "lan", &[&format!("192.168.1.1{number}/24")])
        .nic("eth1", "between", &[&format!("10.9.9.1{number}/24")])
        .route("default via 192.168.1.1")
        .build();
    node.write("/run/www/index.html", format!("n{number}\n"));
    node
}

/// What the service's script has been called for.
fn journal(node: &Node) -> String {
    let text = std::fs::read_to_string(node.path("/run/journal")).unwrap_or_default();
    text.lines().collect::<Vec<_>>().join(" ")
}

/// Lets the service on a node die.
#[track_caller]
fn kill_service(node: &Node) {
    let pid = std::fs::read_to_string(node.path("/run/httpd.pid")).unwrap();
    kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
}

/// The pid of fos, by its file.
#[track_caller]
fn fos(node: &Node) -> i32 {
    let read = || std::fs::read_to_string(node.path("/run/fos.pid")).ok()?.trim().parse().ok();
    wait("fos.pid", read)
}

const FAST: &[&str] = &["keepalive = 200ms", "deadtime = 800ms"];

#[test]
fn the_service_runs_on_one_node_and_follows_pulse() {
    let site = Site::new();
    let [first, second] = site.nodes.as_slice() else { panic!() };
    let arps = first.capture("eth0");
    site.start(FAST);
    assert_eq!(journal(first).rsplit(' ').next(), Some("start"));
    assert!(!journal(second).contains("start"), "{}", journal(second));
    wait_logged(first, &["gratuitous fos arps finished"], 1);
    let mac = first.mac("eth0");
    let announced = |arp: &lab::Arp| arp.sender.to_string() == VIP && arp.sender_mac == mac;
    let count = arps.frames().iter().filter_map(lab::Frame::arp).filter(announced).count();
    assert!(count >= 5, "{count} gratuitous ARPs");
    let monitor = |line: &String| line.contains("nanny") && line.contains(" --fos");
    let watched = command_lines(second).into_iter().find(monitor).unwrap();
    let options = format!(" -h {VIP} -p 8080 ");
    assert!(watched.contains(&options) && watched.contains(" -V 192.168.1.11 "), "{watched}");

    // It goes over as soon as it is stopped here, not only when a deadtime has passed.
    site.stop(0);
    assert!(journal(first).ends_with("start stop"), "{}", journal(first));
    site.wait_serves(1);
    site.assert_never_both();
    // The one that comes back leaves it there, and watches.
    start(first);
    site.wait_watched(0, 1);
    assert_eq!(site.bearers(), ["n2"]);
    assert!(journal(first).ends_with("stop"), "{}", journal(first));
    site.stop(0);
    site.stop(1);
    assert_eq!(site.bearers(), [""; 0]);
}

#[test]
fn without_a_backup_the_services_start_at_once_and_again_when_fos_ends() {
    let site = Site::new();
    let first = &site.nodes[0];
    // A deadtime nobody could wait for.
    site.write(&["backup_active = 0", "keepalive = 100", "deadtime = 1000"]);
    start(first);
    site.wait_serves(0);
    let before = fos(first);
    kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
    wait_logged(first, &["fos process exited -- restarting it"], 1);
    wait("another fos", || (fos(first) != before).then_some(()));
    wait("a second start", || (journal(first).matches("start").count() == 2).then_some(()));
    site.wait_serves(0);

    // A service that does not start: it is tried again and again, with pauses, until it does.
    first.write("/run/broken", "");
    kill(Pid::from_raw(fos(first)), Signal::SIGKILL).unwrap();
    let died = format!("Service web {VIP}:8080 died. This is a restart condition!");
    wait_logged(first, &[&died], 2);
    wait_logged(first, &["fos process exited -- restarting it"], 3);
    std::fs::remove_file(first.path("/run/broken")).unwrap();
    site.wait_serves(0);
    site.stop(0);
}

#[test]
fn a_dead_partner() {
    let site = Site::new();
    let [first, second] = site.nodes.as_slice() else { panic!() };
    // Its monitor would notice first, and ask the gateway.
    site.start(FAST);
    first.cut_off();
    site.watch.wait(second, VIP, true, PATIENCE).unwrap();
    wait(&format!("{} answers", second.name()), || {
        (site.client.get(URL).ok()?.body.trim() == second.name()).then_some(())
    });
    first.kill_all();
}

#[test]
fn a_killed_pulse_leaves_nothing_running() {
    let site = Site::new();
    let first = &site.nodes[0];
    site.start(FAST);
    kill_pulse(first);
    site.wait_serves(1);
    wait("the service on n1 is stopped", || journal(first).ends_with("start stop").then_some(()));
    director::wait_empty(first);
    site.assert_never_both();
    site.stop(1);
}

#[test]
fn a_service_that_dies_on_the_partner_is_taken_over() {
    let site = Site::new();
    let [first, second] = site.nodes.as_slice() else { panic!() };
    site.start(FAST);
    for (active, other, node, partner) in [(0, 1, first, second), (1, 0, second, first)] {
        kill_service(node);
        let exited =
            format!("Monitor for service {VIP}:8080 exited. This is a failover condition!");
        wait_logged(partner, &[&exited], 1);
        wait_logged(partner, &["remote service unavailable but we can see the gateway"], 1);
        let words = "seems like a remote network fault; performing service failover";
        wait_logged(partner, &[words], 1);
        wait_logged(node, &["PARTNER HAS TOLD US TO GO INACTIVE!"], 1);
        site.wait_serves(other);
        site.assert_never_both();
        wait_state(node, "inactive");
        // The second node has watched before.
        site.wait_watched(active, active + 1);
        assert_eq!(logged(node, &["restarting it"]), 0);
    }
    // Both have served, both have been told once.
    site.stop(1);
    site.stop(0);
}

#[test]
fn a_node_that_is_cut_off_does_not_take_the_service() {
    let site = Site::new();
    let second = &site.nodes[1];
    // The heartbeat goes on between the nodes: only the service and the gateway are out of reach.
    let globals = [
        "keepalive = 1",
        "deadtime = 4",
        "primary_private = 10.9.9.11",
        "backup_private = 10.9.9.12",
    ];
    site.start(&globals);
    second.isolate("eth0");
    wait_logged(second, &["remote service unavailable; gateway unavailable"], 1);
    wait_logged(second, &["Network fault seems to be fixed"], 1);
    site.wait_serves(0);
    second.rejoin("eth0");
    site.wait_watched(1, 2);

    // Cut off altogether: nobody tells it that the partner is dead, for its own network is.
    second.cut_off();
    wait_logged(second, &["remote service unavailable; gateway unavailable"], 2);
    wait_status(second, "the partner is not heard", |status| {
        status["partner"]["state"] == "unreachable"
    });
    // Time enough for what it must not do.
    let quiet = site.watch.wait(second, VIP, true, Duration::from_secs(3));
    assert!(quiet.is_err(), "taken: {}", site.watch.shown());
    site.wait_serves(0);
    second.reconnect();
    site.wait_watched(1, 3);
    site.wait_serves(0);
    site.assert_never_both();
    site.stop(1);
    site.stop(0);
}

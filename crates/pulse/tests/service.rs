//! lvsd as pulse leads it: started, on standby, serving, back, killed, and of an older make.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use daemon::poll::{self, Poller};
use daemon::process;
use daemon::ready::notify;
use daemon::signals::{SIGTERM, SIGUSR1, SIGUSR2, Signals};
use daemon::waiting::Inbox;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pulse::service::{News, Programs, Service, Wish};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What must come comes within this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Says to this program that it is an lvsd: `new`, or `old`, which does not know `--standby`.
const KIND: &str = "PULSE_TEST_LVSD";

/// A directory of a test's own, removed at its end.
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        // What stays is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Not a test of its own: with the variable it is what lvsd is to pulse.
#[test]
fn as_lvsd() {
    let Ok(kind) = std::env::var(KIND) else { return };
    let standby = std::env::var("PULSE_TEST_ARGUMENTS").unwrap().contains("--standby");
    if standby && kind == "old" {
        std::process::exit(1);
    }
    // Slow to come so far that it handles its signals.
    std::thread::sleep(Duration::from_millis(100));
    let mut signals = Signals::new(&[SIGTERM, SIGUSR1, SIGUSR2]).unwrap();
    let poller = Poller::new().unwrap();
    poller.add(&signals, 0, poll::READ).unwrap();
    let loaded = || notify("X_PIRANHA_ADDRESS=10.0.0.100\nREADY=1").unwrap();
    let waits = || notify("X_PIRANHA_STANDBY=1").unwrap();
    if standby {
        waits();
    } else {
        loaded();
    }
    let mut events = Vec::new();
    loop {
        for signal in signals.pending() {
            match signal {
                SIGUSR1 => loaded(),
                SIGUSR2 => waits(),
                _ => std::process::exit(0),
            }
        }
        poller.wait(None, &mut events).unwrap();
    }
}

struct Rig {
    poller: Poller,
    service: Service,
    news: Vec<News>,
}

impl Rig {
    fn new(dir: &Path, lvsd: &str) -> Rig {
        let poller = Poller::new().unwrap();
        let inbox = Inbox::bind(&dir.join("inbox")).unwrap();
        poller.add(&inbox, 0, poll::READ).unwrap();
        let programs = Programs {
            lvsd: lvsd.to_owned(),
            fos: "/no/such/fos".to_owned(),
            file: dir.join("lvs.cf"),
            verbose: false,
            nodaemon: false,
        };
        Rig { poller, service: Service::new(programs, inbox), news: Vec::new() }
    }

    /// Goes on until something is so.
    #[track_caller]
    fn until(&mut self, what: &str, done: impl Fn(&Rig) -> bool) {
        let limit = Instant::now() + PATIENCE;
        let mut events = Vec::new();
        loop {
            let now = Instant::now();
            while let Some((pid, how)) = process::next_ended() {
                process::collect(pid);
                self.service.ended(pid, how, now);
            }
            self.service.on_inbox();
            self.service.advance(&self.poller, 1, now);
            self.news.extend(self.service.news());
            if done(self) {
                return;
            }
            assert!(now < limit, "{what}: {:?} {:?}", self.news, self.service.status());
            // Ends of children come without an event here.
            let soon = now + Duration::from_millis(10);
            self.poller.wait(Some(soon), &mut events).unwrap();
            for event in &events {
                self.service.on_output(event.token);
            }
        }
    }

    /// Wishes for something and waits for the news of it.
    #[track_caller]
    fn wish(&mut self, wish: Wish, news: &News) {
        self.news.clear();
        self.service.wish(wish);
        self.until("the news", |rig| !rig.news.is_empty());
        assert_eq!(self.news, std::slice::from_ref(news));
    }

    fn pid(&self) -> i32 {
        self.service.status().unwrap().pid
    }

    fn state(&self) -> String {
        self.service.status().map_or_else(String::new, |child| child.state)
    }
}

fn script(dir: &Path, kind: &str) -> String {
    let path = dir.join(kind);
    let this = std::env::current_exe().unwrap();
    let text = format!(
        "#!/bin/sh\nexport {KIND}={kind} PULSE_TEST_ARGUMENTS=\"$*\"\nexec {} --exact as_lvsd\n",
        this.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

// One test: two would collect each other's children.
#[test]
fn lvsd_is_led_through_all_it_can_be() {
    if std::env::var_os(KIND).is_some() {
        return;
    }
    // The table of a killed lvsd is emptied: not this machine's. (Who may not leave its network may not
    // change its table either.)
    let _ = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET);
    let dir = Dir(std::env::temp_dir().join(format!("pulse-service-{}", std::process::id())));
    fs::create_dir_all(&dir.0).unwrap();

    let mut rig = Rig::new(&dir.0, "/no/such/lvsd");
    rig.service.wish(Wish::Serve);
    rig.until("it fails", |rig| !rig.news.is_empty());
    assert!(matches!(&rig.news[..], [News::Failed(words)] if words.contains("/no/such/lvsd")));
    assert!(rig.service.at_rest());
    drop(rig);

    let mut rig = Rig::new(&dir.0, &script(&dir.0, "new"));
    let vip = "10.0.0.100".parse().unwrap();
    // From nothing, and with a process that is asked to take over before it has come to itself.
    rig.wish(Wish::Serve, &News::Loaded);
    assert!(rig.service.has_loaded(vip) && rig.service.has_table() && !rig.service.at_rest());
    rig.service.wish(Wish::Nothing);
    rig.until("it ends", |rig| rig.service.at_rest());
    assert!(!rig.service.has_loaded(vip));
    rig.service.wish(Wish::Standby { early: false });
    rig.until("it runs", |rig| rig.service.status().is_some());
    let standby = rig.pid();
    rig.wish(Wish::Serve, &News::Loaded);
    assert_eq!((rig.pid(), rig.state().as_str()), (standby, "running"));
    // Back, and forth again while it is on its way back.
    rig.service.wish(Wish::Standby { early: false });
    rig.until("it is back", |rig| rig.service.at_rest());
    assert!(!rig.service.has_table() && !rig.service.has_loaded(vip));
    rig.wish(Wish::Serve, &News::Loaded);
    rig.service.wish(Wish::Standby { early: false });
    rig.service.advance(&rig.poller, 1, Instant::now());
    rig.wish(Wish::Serve, &News::Loaded);
    rig.service.wish(Wish::Standby { early: false });
    rig.until("it is back", |rig| rig.service.at_rest());
    // Prepared without the table, with it, and then serving at once.
    rig.wish(Wish::Prepare { early: false }, &News::Prepared);
    assert!(!rig.service.has_table());
    rig.wish(Wish::Prepare { early: true }, &News::Prepared);
    assert!(rig.service.has_table() && rig.state() == "prepared");
    rig.wish(Wish::Serve, &News::Loaded);
    // A standby that may have its table keeps it, and gets it when it has none.
    rig.service.wish(Wish::Standby { early: true });
    assert!(rig.service.at_rest() && rig.service.has_table() && rig.state() == "prepared");
    rig.service.wish(Wish::Standby { early: false });
    rig.until("it is back", |rig| rig.service.at_rest());
    rig.service.wish(Wish::Standby { early: true });
    rig.until("it has its table", |rig| rig.service.is_loaded() && rig.service.at_rest());
    rig.wish(Wish::Serve, &News::Loaded);
    assert_eq!(rig.pid(), standby, "all of it one process");
    kill(Pid::from_raw(standby), Signal::SIGKILL).unwrap();
    rig.until("it fails", |rig| rig.news.len() == 2);
    let words = format!("Child process {standby} terminated with signal 9");
    assert_eq!(rig.news[1], News::Failed(words));
    // A standby that dies is started again, without a failure of the node.
    rig.service.wish(Wish::Standby { early: true });
    rig.until("it waits", |rig| rig.service.status().is_some());
    let (first, before) = (rig.pid(), rig.news.len());
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    rig.until("another one", |rig| rig.service.status().is_some_and(|c| c.pid != first));
    assert_eq!(rig.news.len(), before);
    rig.service.wish(Wish::Nothing);
    rig.until("it ends", |rig| rig.service.status().is_none());
    drop(rig);

    let mut rig = Rig::new(&dir.0, &script(&dir.0, "old"));
    rig.wish(Wish::Prepare { early: true }, &News::Prepared);
    rig.wish(Wish::Serve, &News::Loaded);
    rig.service.wish(Wish::Standby { early: false });
    rig.until("it is asked to end, and no standby comes", |rig| {
        rig.service.at_rest() && rig.service.status().is_none()
    });
    rig.service.reload();
    rig.wish(Wish::Serve, &News::Loaded);
    rig.service.wish(Wish::Nothing);
    rig.until("it ends", |rig| rig.service.status().is_none());
}

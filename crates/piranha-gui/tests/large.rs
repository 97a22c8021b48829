//! Ten thousand real servers: what the page holds in memory, and how soon it is there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail so")]

use std::time::{Duration, Instant};

use gui_lab::{Fake, Files, Gui, Reply, made};
use lab::PATIENCE;

const PROGRAM: &str = env!("CARGO_BIN_EXE_piranha_gui");
/// Resident, in KiB.
const MOST: u64 = 20 * 1024;

/// Ten requests as the script makes them, and whole pages; the quickest of each.
fn measure(virtuals: usize, servers: usize) {
    let files = Files::new();
    files.write("lvs.cf", made::file(virtuals, servers));
    let lvsd = Fake::on(&files.path("lvsd.sock"), Reply::status(&made::table(virtuals, servers)));
    let _pulse = Fake::on(&files.path("pulse.sock"), Reply::status(&made::pair()));
    let gui = Gui::with(files, PROGRAM, &[]);
    gui.wait("/secure/control", "table", |page| page.texts("tr.vs").len() == virtuals);
    let quickest = |path: &str| {
        let times = (0..10).map(|_| {
            let begin = Instant::now();
            let answer = gui.get(path);
            assert_eq!(answer.status, 200);
            (begin.elapsed(), answer.body.len())
        });
        times.min().unwrap()
    };
    let (page, bytes) = quickest("/secure/control");
    let (fragment, _) = quickest("/secure/control?fragment=1");
    let (list, _) = quickest("/secure/virtual");
    let (form, _) = quickest("/secure/virtual/1/servers/1");
    let (json, _) = quickest("/secure/status.json");
    let (metrics, _) = quickest("/secure/metrics");
    // While the daemons are asked there are two tables for a moment, the old and the new.
    let end = Instant::now() + PATIENCE;
    let mut resident = gui.resident_kib();
    while resident >= MOST && Instant::now() < end {
        lvsd.wait_asked();
        let _ = gui.get("/secure/control");
        resident = gui.resident_kib();
    }
    println!(
        "{virtuals} x {servers}: page {page:?} ({bytes} bytes), fragment {fragment:?}, \
         list {list:?}, form {form:?}, JSON {json:?}, metrics {metrics:?}; {resident} KiB resident"
    );
    assert!(resident < MOST, "{resident} KiB resident");
    // No time is asserted that a slow machine would break; a page that takes this long is broken.
    assert!(page < Duration::from_secs(5), "{page:?}");
}

#[test]
fn ten_thousand_servers_in_a_hundred_blocks_fit() {
    measure(100, 100);
}

#[test]
fn ten_thousand_servers_in_one_block_fit() {
    measure(1, 10_000);
}

#[test]
fn a_thousand_blocks_of_ten_servers_fit() {
    measure(1_000, 10);
}

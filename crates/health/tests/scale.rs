//! Thousands of servers in one process. Alone in its program: it measures this process's memory.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{LIMITS, LONG, Monitor, connect, group, listen, loopback, report, resident, server};
use health::recipe::Target;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SERVERS: u32 = 5_000;
/// What a monitored server may take of this process's memory, in bytes.
const PROMISED: usize = 700;

/// One listener for every address of the loopback network; it counts.
fn serve() -> (u16, Arc<AtomicUsize>) {
    let listener = listen(Ipv4Addr::UNSPECIFIED, 4096);
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    std::thread::spawn(move || {
        while listener.accept().is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, seen)
}

#[test]
fn five_thousand_servers_are_found_up_in_little_memory() {
    let (port, seen) = serve();
    let mut monitor = Monitor::new(LIMITS);
    // One check first, so that what every program needs once is there already.
    monitor.group(group(1, connect(LONG)));
    let target = |n| Target { addr: loopback(n), port, udp: false };
    monitor.server(&server(0, 1, target(0)));
    monitor.news(1);
    let before = resident();
    let began = std::time::Instant::now();
    for id in 1..=SERVERS {
        monitor.server(&server(id, 1, target(id)));
    }
    let news = monitor.news(SERVERS as usize);
    let took = began.elapsed();
    let used = resident().saturating_sub(before);
    let each = used / SERVERS as usize;
    report(&format!("{SERVERS} servers found up in {took:?}; {each} bytes of memory a server"));
    assert_eq!(news.len(), SERVERS as usize, "each once");
    assert!(news.iter().all(|s| s.up));
    assert_eq!(monitor.pool.details(began).len(), SERVERS as usize + 1);
    monitor.until(|_| seen.load(Ordering::SeqCst) > SERVERS as usize);
    assert!(each < PROMISED, "{each} bytes a server, {PROMISED} promised");
}

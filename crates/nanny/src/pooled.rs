//! A nanny for all of a director's servers: orders come from lvsd over standard input, which is a
//! socket, and news go back over it.

use daemon::lines::{Lines, Reading};
use daemon::logging;
use daemon::poll::{self, Poller};
use daemon::signals::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals};
use health::engine::Limits;
use health::pool::{Pool, SCALE};
use health::wire::{self, News, Order};
use std::error::Error;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

const SIGNALS: u64 = 0;
const CHECKS: u64 = 1;
const DIRECTOR: u64 = 2;

/// Watches until lvsd goes or says so; the exit status.
pub(crate) fn run(verbose: bool, nodaemon: bool) -> Result<u8, Box<dyn Error>> {
    let terminal = nodaemon.then_some("nanny");
    logging::init(&logging::Options { ident: "nanny", terminal, verbose });
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    // Nothing that this process starts shall be able to speak to lvsd.
    let null = std::fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    let lines = Lines::new(UnixStream::from(input), wire::LONGEST)
        .map_err(|e| format!("--pool is for lvsd, which gives a socket as standard input: {e}"))?;
    Watch::new(lines)?.run()
}

struct Watch {
    poller: Poller,
    signals: Signals,
    pool: Pool,
    lines: Lines,
    over: bool,
}

impl Watch {
    fn new(lines: Lines) -> Result<Watch, Box<dyn Error>> {
        let poller = Poller::new()?;
        let signals = Signals::new(&[SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD])?;
        let pool = Pool::new(Limits::of_this_process(), SCALE)?;
        poller.add(&signals, SIGNALS, poll::READ)?;
        poller.add(&pool, CHECKS, poll::READ)?;
        poller.add(&lines, DIRECTOR, poll::READ).map_err(|e| {
            format!("--pool is for lvsd, which gives a socket as standard input: {e}")
        })?;
        Ok(Watch { poller, signals, pool, lines, over: false })
    }

    fn run(mut self) -> Result<u8, Box<dyn Error>> {
        self.tell(&News::Hello);
        let mut events = Vec::new();
        while !self.over {
            self.flush();
            let until =
                if self.pool.has_news() { Some(Instant::now()) } else { self.pool.deadline() };
            self.poller.wait(until, &mut events)?;
            let now = Instant::now();
            for event in &events {
                match event.token {
                    SIGNALS => self.on_signals(now),
                    DIRECTOR => self.on_orders(now),
                    _ => {}
                }
            }
            let checks = events.iter().any(|event| event.token == CHECKS);
            let news = if checks { self.pool.run(now) } else { self.pool.tick(now) };
            for state in news {
                self.tell(&News::State(state));
            }
        }
        Ok(0)
    }

    fn tell(&mut self, news: &News) {
        self.lines.push(&wire::line(news));
    }

    fn flush(&mut self) {
        // A director that is gone is seen when its orders are read.
        let _ = self.lines.flush_in(&self.poller, DIRECTOR);
    }

    fn on_signals(&mut self, now: Instant) {
        for signal in self.signals.pending() {
            match signal {
                SIGCHLD => crate::reap(&mut self.pool, now),
                SIGTERM | SIGINT => {
                    log::info!("Terminating due to signal {signal}");
                    self.over = true;
                }
                _ => log::warn!(
                    "signal {signal} ignored: this nanny watches many servers, use piranhactl \
                     up, down or auto BLOCK/SERVER"
                ),
            }
        }
    }

    fn on_orders(&mut self, now: Instant) {
        let reading = self.lines.fill();
        while let Some(line) = self.lines.next_line() {
            match wire::message(&line) {
                Ok(order) => self.obey(order, now),
                Err(error) => log::error!("lvsd says what nanny does not understand: {error}"),
            }
        }
        if !matches!(reading, Ok(Reading::Open)) {
            log::info!("lvsd is gone; ending");
            self.over = true;
        }
    }

    fn obey(&mut self, order: Order, now: Instant) {
        match order {
            Order::Group(group) => self.pool.set_group(group, now),
            Order::Server(server) => self.pool.set_server(&server, now),
            Order::Forget(id) => self.pool.remove_server(id),
            Order::Ungroup(id) => self.pool.remove_group(id),
            Order::Force(id, force) => self.pool.force(id, force, now),
            Order::Query(tag) => {
                for detail in self.pool.details(now) {
                    self.tell(&News::Detail(detail));
                }
                self.tell(&News::End(tag));
            }
        }
    }
}

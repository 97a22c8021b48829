use super::*;
use crate::recipe::Expect;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

const LIMITS: Limits = Limits { sockets: 1000, programs: 4 };
const INTERVAL: Duration = Duration::from_secs(10);

fn recipe(expect: Option<Expect>) -> Recipe {
    Recipe { action: Action::Exchange { send: None, expect }, interval_ms: 10_000 }
}

fn ready() -> Recipe {
    recipe(Some(Expect::Prefix(b"ready".to_vec())))
}

/// The n-th target on which nobody listens, which the kernel says at once.
fn nobody(n: u32) -> Target {
    Target { addr: Ipv4Addr::from(0x7f02_0001 + n).into(), port: 9, udp: false }
}

/// A server that does nothing by itself. Connections queue up in the kernel.
struct Server {
    listener: TcpListener,
    target: Target,
}

impl Server {
    fn new() -> Server {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).unwrap();
        socket.listen(1024).unwrap();
        let listener = TcpListener::from(socket);
        let port = listener.local_addr().unwrap().port();
        Server { listener, target: Target { port, ..nobody(0) } }
    }

    /// It has every address of the loopback network.
    fn at(&self, n: u32) -> Target {
        Target { port: self.target.port, ..nobody(n) }
    }

    fn answer(&self) -> TcpStream {
        let mut stream = self.listener.accept().unwrap().0;
        stream.write_all(b"ready").unwrap();
        stream
    }
}

/// Waits until the engine's descriptor has something to say.
fn await_events(engine: &Engine) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(engine.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(60_000u16)).unwrap(), 1, "stuck");
}

/// Runs at `now` until every queued job has begun.
fn begin_all(engine: &mut Engine, now: Instant) {
    while !engine.sockets.queue.is_empty() {
        engine.run(now);
    }
}

/// Runs at `now` until every check that has begun or is to begin has ended.
fn end_all(engine: &mut Engine, now: Instant) {
    engine.run(now);
    while engine.sockets.running > 0 || !engine.sockets.queue.is_empty() {
        if engine.sockets.queue.is_empty() {
            await_events(engine);
        }
        engine.run(now);
    }
}

/// How many checks end in each tenth of the interval that begins at `start`.
fn tenths(engine: &mut Engine, start: Instant) -> [usize; 10] {
    let mut counts = [0; 10];
    for (at, count) in (1..).zip(&mut counts) {
        let now = start + INTERVAL * at / 10;
        end_all(engine, now);
        *count = engine.outcomes().len();
    }
    counts
}

#[test]
fn places_in_the_interval_are_even() {
    for start in [0, 77, 100_000, 2_000_000_000] {
        let mut tenths = [0; 10];
        for id in start..start + 1000 {
            let place = phase_of(id);
            assert!(place > 0.0 && place <= 1.0, "{id}: {place}");
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let tenth = (place * 10.0).ceil() as usize - 1;
            tenths[tenth] += 1;
        }
        assert!(tenths.iter().all(|n| (98..=102).contains(n)), "{tenths:?} from {start}");
    }
}

#[test]
fn tokens_are_what_they_were_made_of() {
    for (job, generation) in [(0, 0), (1, 2), (u32::MAX, 0), (0, u32::MAX), (u32::MAX, u32::MAX)] {
        assert_eq!(split_token(token(TimerKey { job, generation })), (job, generation));
    }
}

#[test]
fn checks_added_together_do_not_stay_together() {
    let mut engine = Engine::new(LIMITS).unwrap();
    let start = Instant::now();
    for n in 0..1000 {
        engine.add(nobody(n), &recipe(None), start);
    }
    end_all(&mut engine, start);
    assert_eq!(engine.outcomes().len(), 1000, "the first ones at once");
    let first = tenths(&mut engine, start);
    assert!(first.iter().all(|n| (90..=110).contains(n)), "{first:?}");
    let later = tenths(&mut engine, start + INTERVAL);
    assert!(later.iter().all(|n| (90..=110).contains(n)), "{later:?}");
}

#[test]
fn after_a_pause_of_the_machine_checks_part_again() {
    let mut engine = Engine::new(LIMITS).unwrap();
    let start = Instant::now();
    for n in 0..200 {
        engine.add(nobody(n), &recipe(None), start);
    }
    end_all(&mut engine, start);
    let back = start + 5 * INTERVAL;
    end_all(&mut engine, back);
    engine.outcomes();
    // From half an interval to one and a half after the last, that is from then on as before.
    let tenths = tenths(&mut engine, back + INTERVAL / 2);
    assert!(tenths.iter().all(|n| (15..=25).contains(n)), "{tenths:?}");
}

#[test]
fn a_time_limit_counts_from_the_begin() {
    let server = Server::new();
    let mut engine = Engine::new(LIMITS).unwrap();
    let start = Instant::now();
    let job = engine.add(server.target, &ready(), start);
    let begun = start + INTERVAL * 3;
    engine.run(begun);
    await_events(&engine);
    engine.run(begun + INTERVAL - Duration::from_millis(1));
    assert!(engine.outcomes().is_empty(), "time spent in the queue is not the server's");
    engine.run(begun + INTERVAL);
    let outcomes = engine.outcomes();
    assert_eq!(outcomes[0].result, Err(Failure::ReadTimeout));
    assert_eq!((outcomes[0].job, outcomes[0].took), (job, INTERVAL));
}

#[test]
fn what_a_held_up_loop_missed_is_given_back_once() {
    let server = Server::new();
    let mut engine = Engine::new(LIMITS).unwrap();
    let start = Instant::now();
    engine.add(server.target, &ready(), start);
    engine.run(start);
    let late = Duration::from_secs(3);
    let back = start + INTERVAL + late;
    engine.run(back);
    assert!(engine.outcomes().is_empty(), "it may have answered while nobody could look");
    engine.run(back + late - Duration::from_millis(1));
    assert!(engine.outcomes().is_empty());
    let again = back + late + 5 * INTERVAL;
    engine.run(again);
    assert_eq!(engine.outcomes()[0].result, Err(Failure::ReadTimeout), "once only");
    // The next check began in the same run. It has an answer.
    drop(server.listener.accept().unwrap());
    engine.run(again + 2 * INTERVAL);
    assert!(engine.outcomes().is_empty());
    let _open = server.answer();
    await_events(&engine);
    engine.run(again + 2 * INTERVAL);
    assert_eq!(engine.outcomes()[0].result, Ok(()));
}

#[test]
fn answers_that_have_come_are_looked_at_before_time_limits() {
    // More than are taken from the kernel at once.
    const CHECKS: u32 = 300;
    assert!(CHECKS as usize > poll::BATCH);
    let server = Server::new();
    let mut engine = Engine::new(LIMITS).unwrap();
    let start = Instant::now();
    for n in 0..CHECKS {
        engine.add(server.at(n), &ready(), start);
    }
    begin_all(&mut engine, start);
    let _open: Vec<TcpStream> = (0..CHECKS).map(|_| server.answer()).collect();
    engine.run(start + INTERVAL);
    let outcomes = engine.outcomes();
    assert_eq!(outcomes.len(), CHECKS as usize);
    assert!(outcomes.iter().all(|o| o.result.is_ok()), "none is called too late");
}

#[test]
fn never_more_sockets_than_allowed_and_each_job_has_its_turn() {
    let server = Server::new();
    let mut engine = Engine::new(Limits { sockets: 10, programs: 1 }).unwrap();
    let start = Instant::now();
    for n in 0..100 {
        engine.add(server.at(n), &ready(), start);
    }
    let mut order = Vec::new();
    let mut now = start;
    while order.len() < 250 {
        engine.run(now);
        assert!(engine.sockets.running <= 10);
        if engine.sockets.running == 0 {
            now = engine.deadline().unwrap().max(now);
            continue;
        }
        let _open: Vec<TcpStream> = (0..engine.sockets.running).map(|_| server.answer()).collect();
        while engine.sockets.running > 0 {
            await_events(&engine);
            engine.take_events(now);
        }
        for outcome in engine.outcomes() {
            assert_eq!(outcome.result, Ok(()));
            order.push(outcome.job);
        }
    }
    let distinct = |jobs: &[JobId]| jobs.iter().collect::<HashSet<_>>().len();
    assert_eq!(distinct(&order[..100]), 100, "no second check before every first one");
    assert_eq!(distinct(&order[100..200]), 100, "and so on");
}

#[test]
fn a_job_that_got_anothers_number_hears_nothing_of_it() {
    let server = Server::new();
    let mut engine = Engine::new(LIMITS).unwrap();
    let start = Instant::now();
    let old = engine.add(server.target, &ready(), start);
    engine.run(start);
    let stale = token(TimerKey { job: old, generation: engine.job(old).unwrap().generation });
    // Its answer has come and waits in the kernel.
    let _open = server.answer();
    await_events(&engine);
    engine.remove(old);
    assert_eq!(engine.sockets.running, 0);
    let new = engine.add(server.at(1), &ready(), start);
    assert_eq!(new, old, "the number is used again");
    engine.run(start + INTERVAL / 2);
    let flags = Flags::EPOLLIN | Flags::EPOLLOUT | Flags::EPOLLERR | Flags::EPOLLHUP;
    engine.on_event(Event { token: stale, flags }, start);
    // The time of the old one's limit.
    engine.run(start + INTERVAL);
    assert!(engine.outcomes().is_empty());
    assert!(matches!(engine.job(new).unwrap().phase, Phase::Socket(_)));
    // An outcome that was not fetched before the number changed hands.
    let refused = engine.add(nobody(0), &recipe(None), start);
    while engine.outcomes.is_empty() {
        engine.run(start + INTERVAL);
    }
    engine.remove(refused);
    assert_eq!(engine.add(nobody(1), &recipe(None), start), refused);
    assert!(engine.outcomes().is_empty());
}

#[test]
fn timers_stay_in_bounds_whatever_comes_and_goes() {
    let bound = |engine: &Engine| engine.len() + engine.len() / 4 + 64;
    let mut engine = Engine::new(LIMITS).unwrap();
    let start = Instant::now();
    for n in 0..500 {
        engine.add(nobody(n), &recipe(None), start);
    }
    let mut now = start;
    for turn in 0..2000 {
        // One that is replaced again and again, each time with a timer far in the future.
        let job = engine.add(nobody(1000), &recipe(Some(Expect::Any)), now);
        engine.run(now);
        engine.remove(job);
        assert!(engine.timers.len() <= bound(&engine), "{} in turn {turn}", engine.timers.len());
        now += INTERVAL / 100;
    }
    for id in 0..500 {
        engine.remove(id);
    }
    assert!(engine.is_empty() && engine.timers.len() <= 64);
}

/// What a test does with an engine.
#[derive(Debug, Clone)]
enum Step {
    Add(u32),
    Remove(usize),
    Run(u16),
    Answer,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u32..6).prop_map(Step::Add),
        (0usize..8).prop_map(Step::Remove),
        (0u16..25_000).prop_map(Step::Run),
        Just(Step::Answer),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The books are right after every step: users, places taken, queues, numbers.
    #[test]
    fn the_books_are_right(steps in proptest::collection::vec(step(), 0..60)) {
        let server = Server::new();
        server.listener.set_nonblocking(true).unwrap();
        let mut engine = Engine::new(Limits { sockets: 3, programs: 1 }).unwrap();
        let mut now = Instant::now();
        let mut users: Vec<JobId> = Vec::new();
        let mut open = Vec::new();
        for step in steps {
            match step {
                // Odd ones are refused, even ones wait for an answer; each twice the same.
                Step::Add(n) if n % 2 == 1 => users.push(engine.add(nobody(n), &recipe(None), now)),
                Step::Add(n) => users.push(engine.add(server.at(n), &ready(), now)),
                Step::Remove(at) if at < users.len() => engine.remove(users.swap_remove(at)),
                Step::Remove(_) => {}
                Step::Run(ms) => {
                    now += Duration::from_millis(u64::from(ms));
                    engine.run(now);
                    for outcome in engine.outcomes() {
                        prop_assert!(users.contains(&outcome.job));
                    }
                }
                Step::Answer => {
                    if let Ok((mut stream, _)) = server.listener.accept() {
                        // One that was removed has gone.
                        let _ = stream.write_all(b"ready");
                        open.push(stream);
                    }
                }
            }
            let mut counted: HashMap<JobId, u32> = HashMap::new();
            for id in &users {
                *counted.entry(*id).or_default() += 1;
            }
            prop_assert_eq!(counted.len(), engine.len());
            let phase = |wanted: fn(&Phase) -> bool| {
                engine.jobs.iter().flatten().filter(|j| wanted(&j.phase)).count()
            };
            for (id, count) in &counted {
                prop_assert_eq!(engine.job(*id).map(|j| j.users), Some(*count));
            }
            prop_assert_eq!(engine.sockets.running, phase(|p| matches!(p, Phase::Socket(_))));
            prop_assert!(engine.sockets.running <= 3);
            prop_assert_eq!(engine.sockets.queue.len(), phase(|p| matches!(p, Phase::Queued)));
            // A job that waits has a timer, a queue, or a server to wait for.
            prop_assert!(engine.is_empty() || engine.deadline().is_some());
        }
    }
}

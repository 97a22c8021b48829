//! In which order services are started, watched and stopped. Pure: what has happened goes in, what is
//! to be done comes out.

use std::collections::VecDeque;

/// What fos is for on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The services run here.
    Active,
    /// They run on the partner and are watched from here.
    Monitor,
}

/// A command of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Its start_cmd.
    Start,
    /// Its stop_cmd.
    Stop,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Run this command of the service with this number, and tell when it has ended. There is never
    /// more than one.
    Run(usize, Command),
    /// End the command that runs, and tell when it has ended.
    Abort,
    /// Start a monitor for every service.
    Watch,
    /// End all monitors, and tell when the last one has ended.
    EndMonitors,
    /// Nothing is left to do.
    Exit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Commands are run, one after the other.
    Preparing,
    /// All of them have; the services run, or are watched.
    Serving,
    /// On the way out.
    Ending,
    /// Gone.
    Over,
}

/// Where fos is on its way from its start to its end.
#[derive(Debug)]
pub struct Sequence {
    mode: Mode,
    services: usize,
    stage: Stage,
    todo: VecDeque<(usize, Command)>,
    running: Option<(usize, Command)>,
    /// Monitors have been started and not all have ended.
    watching: bool,
}

impl Sequence {
    /// For services with the numbers 0 to `services` - 1, in the order in which they are started.
    #[must_use]
    pub fn new(mode: Mode, services: usize) -> Sequence {
        let todo = match mode {
            // What runs already, left behind by somebody, is started anew.
            Mode::Active => {
                (0..services).flat_map(|n| [(n, Command::Stop), (n, Command::Start)]).collect()
            }
            Mode::Monitor => stop_all(services),
        };
        let stage = Stage::Preparing;
        Sequence { mode, services, stage, todo, running: None, watching: false }
    }

    /// Begins.
    pub fn begin(&mut self) -> Vec<Action> {
        self.go_on()
    }

    /// The command that ran has ended, or could not be started. True if that is the death of its
    /// service.
    pub fn command_ended(&mut self, success: bool) -> (bool, Vec<Action>) {
        let ended = self.running.take();
        let died = matches!(ended, Some((_, Command::Start)))
            && !success
            && self.stage == Stage::Preparing;
        (died, if died { self.end() } else { self.go_on() })
    }

    /// All monitors have ended.
    pub fn monitors_ended(&mut self) -> Vec<Action> {
        self.watching = false;
        self.go_on()
    }

    /// Ends: what was started is stopped, the last one first. Once is enough.
    pub fn end(&mut self) -> Vec<Action> {
        if self.is_ending() {
            return Vec::new();
        }
        self.stage = Stage::Ending;
        self.todo = match self.mode {
            // Those whose turn had not come too: somebody may have started them by hand.
            Mode::Active => stop_all(self.services),
            Mode::Monitor => VecDeque::new(),
        };
        let mut actions = Vec::new();
        // What it does will be undone, or matters no longer.
        actions.extend(self.running.map(|_| Action::Abort));
        actions.extend(self.watching.then_some(Action::EndMonitors));
        actions.extend(self.go_on());
        actions
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Ending | Stage::Over)
    }

    fn go_on(&mut self) -> Vec<Action> {
        if self.running.is_some() {
            return Vec::new();
        }
        if let Some((service, command)) = self.todo.pop_front() {
            self.running = Some((service, command));
            return vec![Action::Run(service, command)];
        }
        match self.stage {
            Stage::Preparing => {
                self.stage = Stage::Serving;
                self.watching = self.mode == Mode::Monitor;
                self.watching.then_some(Action::Watch).into_iter().collect()
            }
            Stage::Ending if !self.watching => {
                self.stage = Stage::Over;
                vec![Action::Exit]
            }
            _ => Vec::new(),
        }
    }
}

/// The last one first: a service may need one that was started before it.
fn stop_all(services: usize) -> VecDeque<(usize, Command)> {
    (0..services).rev().map(|n| (n, Command::Stop)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::{Abort, EndMonitors, Exit, Run, Watch};
    use Command::{Start, Stop};
    use proptest::prelude::*;

    /// Runs commands, all of which succeed, until nothing more comes.
    fn through(sequence: &mut Sequence, first: Vec<Action>) -> Vec<Action> {
        let mut all = first;
        while let Some(Run(..)) = all.last() {
            let (died, actions) = sequence.command_ended(true);
            assert!(!died);
            if actions.is_empty() {
                break;
            }
            all.extend(actions);
        }
        all
    }

    #[test]
    fn active_starts_in_order_and_stops_in_reverse() {
        let mut sequence = Sequence::new(Mode::Active, 2);
        let first = sequence.begin();
        let started = through(&mut sequence, first);
        assert_eq!(started, [Run(0, Stop), Run(0, Start), Run(1, Stop), Run(1, Start)]);
        assert!(!sequence.is_ending());
        let first = sequence.end();
        assert_eq!(through(&mut sequence, first), [Run(1, Stop), Run(0, Stop), Exit]);
        assert_eq!(sequence.end(), []);
    }

    #[test]
    fn a_start_that_fails_stops_everything() {
        let mut sequence = Sequence::new(Mode::Active, 2);
        assert_eq!(sequence.begin(), [Run(0, Stop)]);
        // It did not run: no failure.
        assert_eq!(sequence.command_ended(false), (false, vec![Run(0, Start)]));
        let (died, first) = sequence.command_ended(false);
        assert!(died);
        assert_eq!(through(&mut sequence, first), [Run(1, Stop), Run(0, Stop), Exit]);
    }

    #[test]
    fn the_end_does_not_wait_for_a_start() {
        let mut sequence = Sequence::new(Mode::Active, 1);
        assert_eq!(through_one(&mut sequence), [Run(0, Start)]);
        assert_eq!(sequence.end(), [Abort]);
        // Aborted, which is no death of a service.
        assert_eq!(sequence.command_ended(false), (false, vec![Run(0, Stop)]));
        assert_eq!(sequence.command_ended(false), (false, vec![Exit]));
    }

    fn through_one(sequence: &mut Sequence) -> Vec<Action> {
        sequence.begin();
        sequence.command_ended(true).1
    }

    #[test]
    fn monitors_are_started_when_nothing_runs_here_and_stop_nothing() {
        let mut sequence = Sequence::new(Mode::Monitor, 2);
        let first = sequence.begin();
        assert_eq!(through(&mut sequence, first), [Run(1, Stop), Run(0, Stop), Watch]);
        assert_eq!(sequence.end(), [EndMonitors]);
        assert_eq!(sequence.monitors_ended(), [Exit]);

        // Told to end before: pulse wants to start the services here.
        let mut sequence = Sequence::new(Mode::Monitor, 2);
        assert_eq!(sequence.begin(), [Run(1, Stop)]);
        assert_eq!(sequence.end(), [Abort]);
        assert_eq!(sequence.command_ended(false), (false, vec![Exit]));
    }

    #[derive(Debug, Clone, Copy)]
    enum Happens {
        CommandEnds(bool),
        End,
    }

    proptest! {
        /// Whatever happens when: one command at a time, an end that comes, and after it nothing; and an
        /// active node has stopped every service since it last began to start one.
        #[test]
        fn every_history_ends_in_order(
            active: bool,
            services in 1_usize..4,
            history in proptest::collection::vec(
                prop_oneof![
                    4 => any::<bool>().prop_map(Happens::CommandEnds),
                    1 => Just(Happens::End),
                ],
                0..40,
            ),
        ) {
            let mode = if active { Mode::Active } else { Mode::Monitor };
            let mut sequence = Sequence::new(mode, services);
            let mut actions = sequence.begin();
            let mut running = None;
            let mut watched = false;
            let mut exited = false;
            let mut stopped = vec![false; services];
            // In the end it is told to end, and every command does.
            let last = std::iter::once(Happens::End)
                .chain(std::iter::repeat_n(Happens::CommandEnds(true), 2 * services + 2));
            for happens in history.into_iter().chain(last) {
                for action in actions.drain(..) {
                    prop_assert!(!exited, "{action:?} after the end");
                    match action {
                        Run(service, command) => {
                            prop_assert!(running.is_none());
                            running = Some(());
                            stopped[service] = command == Stop;
                        }
                        Abort => prop_assert!(running.is_some()),
                        Watch => {
                            prop_assert!(!watched && !active && stopped.iter().all(|s| *s));
                            watched = true;
                        }
                        EndMonitors => prop_assert!(watched),
                        Exit => {
                            prop_assert!(running.is_none());
                            prop_assert!(!active || stopped.iter().all(|s| *s));
                            exited = true;
                        }
                    }
                }
                actions = match happens {
                    Happens::CommandEnds(success) if running.take().is_some() => {
                        sequence.command_ended(success).1
                    }
                    Happens::CommandEnds(_) => Vec::new(),
                    Happens::End => sequence.end(),
                };
                if actions.contains(&EndMonitors) {
                    actions.extend(sequence.monitors_ended());
                }
            }
            exited |= actions.contains(&Exit);
            prop_assert!(exited);
        }
    }
}

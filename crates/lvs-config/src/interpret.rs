//! Lines to configuration: the state that runs through the file.

use crate::config::{BlockKind, Config, Server, Virtual};
use crate::diagnostic::{Code, Findings, Place, show};
use crate::fault::{Fault, Problem, SyntaxError};
use crate::key::{BlockKey, GlobalKey, Key, Level, ServerKey};
use crate::lex::{Sentence, Word};
use crate::resolve::Resolver;
use crate::setting::Values;
use crate::suggest;
use crate::syntax::{Event, Line};

/// On which line each key of a level was last set; 0: not yet.
type Seen<const KEYS: usize> = [usize; KEYS];

const GLOBAL_KEYS: usize = GlobalKey::ALL.len();
const BLOCK_KEYS: usize = BlockKey::ALL.len();
const SERVER_KEYS: usize = ServerKey::ALL.len();

/// Builds the configuration while the lines go by.
pub(crate) struct Interpreter<'r> {
    resolver: &'r dyn Resolver,
    config: Config,
    findings: Findings,
    error: Option<SyntaxError>,
    /// The block and the server that are open.
    block: Option<(BlockKind, Place)>,
    server: Option<Place>,
    seen_global: Seen<GLOBAL_KEYS>,
    seen_block: Seen<BLOCK_KEYS>,
    seen_server: Seen<SERVER_KEYS>,
    /// The line and the port of the block's first server that has no port of its own.
    port_inherited: Option<(u32, u16)>,
}

impl<'r> Interpreter<'r> {
    pub(crate) fn new(resolver: &'r dyn Resolver) -> Self {
        Self {
            resolver,
            config: Config::default(),
            findings: Findings::default(),
            error: None,
            block: None,
            server: None,
            seen_global: [0; GLOBAL_KEYS],
            seen_block: [0; BLOCK_KEYS],
            seen_server: [0; SERVER_KEYS],
            port_inherited: None,
        }
    }

    pub(crate) fn take(&mut self, line: &Line<'_>) {
        if let Some(problem) = line.fault {
            self.refuse(line, problem, || suggest::for_line(line, problem));
        }
        match line.event {
            Event::Blank | Event::Comment | Event::Ignored => {}
            Event::Setting(key, sentence) if line.fault.is_none() => {
                self.setting(line, key, &sentence);
            }
            Event::Setting(..) => {}
            Event::OpenBlock(kind, name) => self.open_block(line, kind, name),
            Event::OpenServer(name) => self.open_server(line, name),
            Event::Close(trailing) => self.close(line, trailing),
        }
    }

    /// Records a fault; the first one is the reason why there is no configuration.
    fn refuse<H>(&mut self, line: &Line<'_>, problem: Problem, hint: H)
    where
        H: Fn() -> Option<String>,
    {
        let Problem { fault, start, end } = problem;
        let place = Place::new(line.number, start, end);
        if self.error.is_none() {
            self.error = Some(SyntaxError {
                line: place.line,
                column: place.column,
                length: place.length,
                message: fault.message(),
                code: fault.code(),
                hint: hint(),
            });
        }
        self.findings.add(fault.code(), || {
            let words = line.raw.body.get(start..end).filter(|words| !words.is_empty());
            let message = match words {
                Some(words) => format!("{}: `{}`", fault.message(), show(words)),
                None => fault.message().to_owned(),
            };
            (place, message, hint())
        });
    }

    fn setting(&mut self, line: &Line<'_>, key: Key, sentence: &Sentence<'_>) {
        self.note_repetition(line, key, sentence);
        let mut values = Values {
            line: line.number,
            key,
            sentence,
            resolver: self.resolver,
            findings: &mut self.findings,
        };
        let config = &mut self.config;
        let block = self.block.and_then(|(kind, _)| config.blocks_mut(kind).last_mut());
        let outcome = match (key, block) {
            (Key::Global(key), _) => config.set(key, &mut values),
            (Key::Block(key), Some(block)) => block.set(key, &mut values),
            (Key::Server(key), Some(block)) => match block.servers.last_mut() {
                Some(server) => server.set(key, &mut values),
                None => Ok(()),
            },
            (Key::Block(_) | Key::Server(_), None) => Ok(()),
        };
        match outcome {
            Ok(()) if key == Key::Block(BlockKey::Port) => {
                self.check_inherited_port(line, sentence);
            }
            Ok(()) => {}
            Err(Problem { fault, start, end }) => {
                let word = line.raw.body.get(start..end).unwrap_or_default();
                let text = Sentence::read(word).0.word(0).text;
                let problem = Problem { fault, start, end };
                self.refuse(line, problem, || suggest::for_value(key, fault, text));
            }
        }
    }

    fn note_repetition(&mut self, line: &Line<'_>, key: Key, sentence: &Sentence<'_>) {
        let seen: &mut [usize] = match key.level() {
            Level::Global => &mut self.seen_global,
            Level::Block => &mut self.seen_block,
            Level::Server => &mut self.seen_server,
        };
        let Some(last) = seen.get_mut(key.rank()) else { return };
        let before = std::mem::replace(last, line.number);
        if before != 0 {
            let word = sentence.word(0);
            self.findings.add(Code::RepeatedKey, || {
                (
                    Place::new(line.number, word.start, word.end),
                    format!("{} is set again: this one wins over line {before}", key.name()),
                    Some(format!("remove line {before} or this one")),
                )
            });
        }
    }

    /// A server without a port of its own keeps the block's port as read so far.
    fn check_inherited_port(&mut self, line: &Line<'_>, sentence: &Sentence<'_>) {
        let Some((server, inherited)) = self.port_inherited else { return };
        let block = self.block.and_then(|(kind, _)| self.config.blocks(kind).last());
        if block.is_none_or(|block| block.port == inherited) {
            return;
        }
        self.findings.add(Code::PortBelowServer, || {
            (
                Place::new(line.number, sentence.word(0).start, sentence.last.end),
                format!(
                    "this port does not reach the server on line {server}, which keeps port \
                     {inherited}"
                ),
                Some("move the line above the first server".to_owned()),
            )
        });
    }

    fn open_block(&mut self, line: &Line<'_>, kind: BlockKind, name: Word<'_>) {
        self.close_server();
        let name = self.name(line, name);
        self.config.blocks_mut(kind).push(Virtual::new(name, line_number(line)));
        self.block = Some((kind, heading(line)));
        self.seen_block = [0; BLOCK_KEYS];
        self.port_inherited = None;
    }

    fn open_server(&mut self, line: &Line<'_>, name: Word<'_>) {
        self.close_server();
        let name = self.name(line, name);
        let block = self.block.and_then(|(kind, _)| self.config.blocks_mut(kind).last_mut());
        if let Some(block) = block {
            block.servers.push(Server::new(name, block.port, line_number(line)));
            self.server = Some(heading(line));
            self.seen_server = [0; SERVER_KEYS];
        }
    }

    fn name(&mut self, line: &Line<'_>, name: Word<'_>) -> String {
        crate::setting::text(&mut self.findings, line.number, name)
    }

    fn close(&mut self, line: &Line<'_>, trailing: Option<(usize, usize)>) {
        if let Some((start, end)) = trailing {
            self.findings.add(Code::TrailingWords, || {
                (
                    Place::new(line.number, start, end),
                    "words behind a closing brace are ignored".to_owned(),
                    Some("put them on a line of their own, or remove them".to_owned()),
                )
            });
        }
        if self.server.is_some() {
            self.close_server();
        } else {
            self.block = None;
        }
    }

    fn close_server(&mut self) {
        if self.server.take().is_none()
            || self.seen_server.get(ServerKey::Port as usize) != Some(&0)
        {
            return;
        }
        let block = self.block.and_then(|(kind, _)| self.config.blocks(kind).last());
        if let (None, Some(server)) = (self.port_inherited, block.and_then(|b| b.servers.last())) {
            self.port_inherited = Some((server.line, server.port));
        }
    }

    /// The end of the file: the configuration or the first fault, and what else was found.
    pub(crate) fn finish(mut self) -> (Result<Config, SyntaxError>, Findings) {
        let block = self.block.map(|(_, place)| place);
        for place in [block, self.server].into_iter().flatten() {
            self.findings.add(Code::UnclosedBlock, || {
                (
                    place,
                    format!("the block opened on line {} is not closed", place.line),
                    Some("add the missing } at its end".to_owned()),
                )
            });
        }
        match self.error {
            Some(error) => (Err(error), self.findings),
            None => {
                self.config.settle_private_addresses();
                self.config.release_slack();
                (Ok(self.config), self.findings)
            }
        }
    }
}

impl Config {
    /// Without a `primary_private` there is one heartbeat path, over the public addresses.
    fn settle_private_addresses(&mut self) {
        if self.primary.is_some() && self.primary_private.is_none() {
            self.primary_private.clone_from(&self.primary);
            self.backup_private.clone_from(&self.backup);
        }
    }

    /// Daemons keep a configuration for life: what growing left over goes back.
    fn release_slack(&mut self) {
        for kind in [BlockKind::Virtual, BlockKind::Failover] {
            let blocks = self.blocks_mut(kind);
            blocks.shrink_to_fit();
            for block in blocks {
                block.servers.shrink_to_fit();
            }
        }
    }
}

/// The fault of a file without a single byte.
pub(crate) fn empty(findings: &mut Findings) -> SyntaxError {
    let fault = Fault::Empty;
    let hint = Some("write at least the primary's address: `primary = ADDRESS`".to_owned());
    findings.add(fault.code(), || (Place::default(), fault.message().to_owned(), hint.clone()));
    SyntaxError {
        line: 0,
        column: 0,
        length: 0,
        message: fault.message(),
        code: fault.code(),
        hint,
    }
}

/// The words of a line that opens a block.
fn heading(line: &Line<'_>) -> Place {
    let (sentence, _) = Sentence::read(line.raw.body);
    Place::new(line.number, sentence.word(0).start, sentence.last.end)
}

fn line_number(line: &Line<'_>) -> u32 {
    u32::try_from(line.number).unwrap_or(u32::MAX)
}

//! What a firewall does to a packet: its rules, however they were made, and the walk through them.
//!
//! Not every rule can be judged from here: some look at marks, at rates, at what other packets did.
//! Such a rule may apply or not, and both are followed. So the answer is a set: all that may become
//! of the packet.

mod iptables;
mod nft;

pub(crate) use iptables::parse as parse_iptables;
pub(crate) use nft::parse as parse_nft;

use std::collections::HashMap;
use std::net::Ipv4Addr;

/// Protocol numbers (IANA).
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// Where in a packet's way through the kernel a chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

impl Hook {
    fn parse(name: &str) -> Option<Hook> {
        Some(match name.to_ascii_lowercase().as_str() {
            "prerouting" => Hook::Prerouting,
            "input" => Hook::Input,
            "forward" => Hook::Forward,
            "output" => Hook::Output,
            "postrouting" => Hook::Postrouting,
            _ => return None,
        })
    }
}

/// Which program shows and changes a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tool {
    /// nft(8), for a table of this family.
    Nft { family: String },
    /// iptables(8) or one of its variants, by this name.
    Iptables { program: String },
}

/// A chain of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) tool: Tool,
    pub(crate) table: String,
    pub(crate) name: String,
    /// `None`: only other chains lead here.
    pub(crate) hook: Option<Hook>,
    /// What becomes of a packet at the end of a chain with a hook.
    pub(crate) policy: Action,
    pub(crate) rules: Vec<Rule>,
}

/// A rule: all of its matches must hold for its action to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) matches: Vec<Match>,
    pub(crate) action: Action,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Accept,
    /// Drops or rejects.
    Drop,
    /// Accepts with another source address: masquerade, SNAT.
    Source,
    Jump(String),
    Goto(String),
    Return,
    /// Counts, logs, marks: the next rule follows.
    Continue,
    /// Something that could end in any way.
    Unknown,
}

/// A part of a packet that rules look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Protocol,
    Source,
    Destination,
    SourcePort,
    DestinationPort,
    Input,
    Output,
    State,
    /// 4 or 6.
    Version,
}

/// A condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// The field has one of these values, or, negated, none of them.
    Field { field: Field, values: Values, negated: bool },
    /// Something that cannot be judged from here.
    Unknown,
}

/// Values of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// Numbers and addresses, first to last.
    Ranges(Vec<(u32, u32)>),
    /// Names of interfaces, `*` at the end for any rest, or of states.
    Names(Vec<String>),
}

/// A packet to be judged. What is `None` could be anything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packet {
    pub(crate) protocol: u8,
    pub(crate) source: Option<Ipv4Addr>,
    pub(crate) destination: Option<Ipv4Addr>,
    pub(crate) source_port: Option<u16>,
    pub(crate) destination_port: Option<u16>,
    pub(crate) input: Option<String>,
    pub(crate) output: Option<String>,
    /// As conntrack names it: `new`, `established`.
    pub(crate) state: Option<&'static str>,
}

/// All the rules of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) chains: Vec<Chain>,
}

/// What may become of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) accepted: bool,
    /// Dropped, in the chain at this place (one with a hook).
    pub(crate) dropped: Option<usize>,
    /// Sent on under another source address.
    pub(crate) source_changed: bool,
    /// Neither: the chain's end is reached, or the rules say to return.
    through: bool,
}

/// A judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<'r> {
    /// Nothing stops it.
    Passes,
    /// This chain drops it whatever else holds.
    Dropped(&'r Chain),
    /// This chain may drop it.
    Unclear(&'r Chain),
}

/// Whether a condition holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Truth {
    No,
    Maybe,
    Yes,
}

impl Ruleset {
    /// What the chains at these hooks do to a packet.
    pub(crate) fn judge(&self, hooks: &[Hook], packet: &Packet) -> Verdict<'_> {
        let mut unclear = None;
        for (index, fate) in self.fates(hooks, packet) {
            let Some(chain) = self.chains.get(index) else { continue };
            match (fate.dropped, fate.accepted || fate.source_changed) {
                (Some(_), false) => return Verdict::Dropped(chain),
                (Some(_), true) => unclear = unclear.or(Some(chain)),
                (None, _) => {}
            }
        }
        unclear.map_or(Verdict::Passes, Verdict::Unclear)
    }

    /// Whether a packet leaves with another source address: `None` if it may or may not.
    pub(crate) fn changes_source(&self, packet: &Packet) -> Option<bool> {
        let fates: Vec<Fate> =
            self.fates(&[Hook::Postrouting], packet).map(|(_, fate)| fate).collect();
        if fates.iter().any(|fate| fate.source_changed && !fate.accepted) {
            return Some(true);
        }
        if fates.iter().any(|fate| fate.source_changed) { None } else { Some(false) }
    }

    fn fates<'r>(
        &'r self,
        hooks: &'r [Hook],
        packet: &'r Packet,
    ) -> impl Iterator<Item = (usize, Fate)> + 'r {
        let mut walk = Walk { rules: self, packet, known: HashMap::new() };
        let at_hook = |chain: &Chain| chain.hook.is_some_and(|hook| hooks.contains(&hook));
        self.chains.iter().enumerate().filter(move |(_, chain)| at_hook(chain)).map(
            move |(index, chain)| {
                let mut fate = walk.chain(index);
                if fate.through {
                    fate.through = false;
                    match chain.policy {
                        Action::Drop => fate.dropped = Some(index),
                        _ => fate.accepted = true,
                    }
                }
                (index, fate)
            },
        )
    }
}

struct Walk<'r> {
    rules: &'r Ruleset,
    packet: &'r Packet,
    /// Chains that have been walked. What a chain does to a packet is the same wherever it is
    /// entered from, so that each is walked once; one that leads to itself is `None` meanwhile.
    known: HashMap<usize, Option<Fate>>,
}

impl Walk<'_> {
    fn chain(&mut self, index: usize) -> Fate {
        match self.known.get(&index) {
            Some(Some(fate)) => return fate.clone(),
            // The kernel does not take loops; should there be one, anything may happen in it.
            Some(None) => return anything(index),
            None => {}
        }
        self.known.insert(index, None);
        let fate = self.rules(index);
        self.known.insert(index, Some(fate.clone()));
        fate
    }

    fn rules(&mut self, index: usize) -> Fate {
        let rules = self.rules;
        let Some(chain) = rules.chains.get(index) else { return anything(index) };
        let mut fate = Fate::default();
        for rule in &chain.rules {
            let truth = rule.matches.iter().map(|m| m.truth(self.packet)).min();
            let truth = truth.unwrap_or(Truth::Yes);
            if truth == Truth::No {
                continue;
            }
            let (result, ends_here) = self.action(index, chain, &rule.action);
            fate.accepted |= result.accepted;
            fate.source_changed |= result.source_changed;
            // The chain is told by its place; what counts for the reader is the one with the hook.
            fate.dropped = fate.dropped.or(result.dropped.map(|_| index));
            if ends_here {
                fate.through |= result.through;
            }
            if truth == Truth::Yes && (ends_here || !result.through) {
                return fate;
            }
        }
        fate.through = true;
        fate
    }

    /// What an action comes to, and whether its falling through leaves this chain.
    fn action(&mut self, index: usize, chain: &Chain, action: &Action) -> (Fate, bool) {
        let mut fate = Fate::default();
        match action {
            Action::Accept => fate.accepted = true,
            Action::Drop => fate.dropped = Some(index),
            Action::Source => fate.source_changed = true,
            Action::Continue => fate.through = true,
            Action::Return => {
                fate.through = true;
                return (fate, true);
            }
            Action::Unknown => fate = anything(index),
            Action::Jump(target) => return (self.target(index, chain, target), false),
            Action::Goto(target) => return (self.target(index, chain, target), true),
        }
        (fate, false)
    }

    fn target(&mut self, from: usize, chain: &Chain, name: &str) -> Fate {
        let same_table = |other: &Chain| other.tool == chain.tool && other.table == chain.table;
        let mut chains = self.rules.chains.iter();
        match chains.position(|other| same_table(other) && other.name == name) {
            Some(index) => self.chain(index),
            None => anything(from),
        }
    }
}

fn anything(index: usize) -> Fate {
    Fate { accepted: true, dropped: Some(index), source_changed: false, through: true }
}

impl Match {
    fn truth(&self, packet: &Packet) -> Truth {
        let Match::Field { field, values, negated } = self else { return Truth::Maybe };
        let Some(found) = packet.has(*field, values) else { return Truth::Maybe };
        if found == *negated { Truth::No } else { Truth::Yes }
    }
}

impl Packet {
    /// Whether a field has one of these values; `None`: not known.
    fn has(&self, field: Field, values: &Values) -> Option<bool> {
        match values {
            Values::Ranges(ranges) => {
                let number = self.number(field)?;
                Some(ranges.iter().any(|(first, last)| (*first..=*last).contains(&number)))
            }
            Values::Names(names) => {
                let name = self.name(field)?;
                Some(names.iter().any(|wanted| match wanted.strip_suffix('*') {
                    Some(start) => name.starts_with(start),
                    None => name == wanted,
                }))
            }
        }
    }

    fn number(&self, field: Field) -> Option<u32> {
        match field {
            Field::Protocol => Some(self.protocol.into()),
            Field::Source => self.source.map(Ipv4Addr::to_bits),
            Field::Destination => self.destination.map(Ipv4Addr::to_bits),
            Field::SourcePort => self.source_port.map(u32::from),
            Field::DestinationPort => self.destination_port.map(u32::from),
            Field::Version => Some(4),
            Field::Input | Field::Output | Field::State => None,
        }
    }

    fn name(&self, field: Field) -> Option<&str> {
        match field {
            Field::Input => self.input.as_deref(),
            Field::Output => self.output.as_deref(),
            Field::State => self.state,
            _ => None,
        }
    }
}

/// The number of a protocol that rules name.
fn protocol(word: &str) -> Option<u32> {
    Some(match word {
        "tcp" => TCP.into(),
        "udp" => UDP.into(),
        "icmp" => 1,
        "igmp" => 2,
        "ipencap" | "ipip" => 4,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmpv6" | "ipv6-icmp" => 58,
        "vrrp" => 112,
        "sctp" => 132,
        "udplite" => 136,
        number => return number.parse().ok(),
    })
}

/// The addresses of `10.0.0.0/8`, `10.0.0.0/255.0.0.0` or `10.0.0.1`.
fn network(word: &str) -> Option<(u32, u32)> {
    let (address, length) = word.split_once('/').unwrap_or((word, "32"));
    let address: Ipv4Addr = address.parse().ok()?;
    let prefix = match length.parse::<u8>() {
        Ok(prefix) => prefix,
        Err(_) => lvs_net::prefix_of(length.parse().ok()?)?,
    };
    let mask = lvs_net::mask_of(prefix);
    Some(((address & mask).to_bits(), (address | !mask).to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(field: Field, first: u32, last: u32) -> Match {
        Match::Field { field, values: Values::Ranges(vec![(first, last)]), negated: false }
    }

    fn rule(matches: Vec<Match>, action: Action) -> Rule {
        Rule { matches, action }
    }

    fn chain(name: &str, hook: Option<Hook>, policy: Action, rules: Vec<Rule>) -> Chain {
        let tool = Tool::Nft { family: "inet".to_owned() };
        Chain { tool, table: "t".to_owned(), name: name.to_owned(), hook, policy, rules }
    }

    fn heartbeat() -> Packet {
        Packet {
            protocol: UDP,
            source: Some(Ipv4Addr::new(10, 0, 0, 2)),
            destination_port: Some(539),
            input: Some("eth1".to_owned()),
            ..Packet::default()
        }
    }

    /// The judgement on a heartbeat, as a letter.
    fn judge(policy: Action, rules: Vec<Rule>, others: Vec<Chain>) -> &'static str {
        let mut chains = vec![chain("in", Some(Hook::Input), policy, rules)];
        chains.extend(others);
        match (Ruleset { chains }).judge(&[Hook::Input], &heartbeat()) {
            Verdict::Passes => "passes",
            Verdict::Dropped(chain) => {
                assert_eq!(chain.name, "in", "the chain that has the hook is named");
                "dropped"
            }
            Verdict::Unclear(_) => "unclear",
        }
    }

    #[test]
    fn rules_are_taken_in_their_order() {
        let port = || vec![is(Field::DestinationPort, 539, 539)];
        let other = || vec![is(Field::DestinationPort, 1, 538)];
        let jump = |to: &str| Action::Jump(to.to_owned());
        let goto = |to: &str| Action::Goto(to.to_owned());
        let sub = |rules| vec![chain("sub", None, Action::Accept, rules)];
        let cases = [
            ("no rules, accept", judge(Action::Accept, vec![], vec![]), "passes"),
            ("no rules, drop", judge(Action::Drop, vec![], vec![]), "dropped"),
            (
                "accept, then policy",
                judge(Action::Drop, vec![rule(port(), Action::Accept)], vec![]),
                "passes",
            ),
            (
                "not ours",
                judge(Action::Drop, vec![rule(other(), Action::Accept)], vec![]),
                "dropped",
            ),
            (
                "the first rule wins",
                judge(
                    Action::Accept,
                    vec![rule(vec![], Action::Drop), rule(port(), Action::Accept)],
                    vec![],
                ),
                "dropped",
            ),
            (
                "a doubtful accept",
                judge(Action::Drop, vec![rule(vec![Match::Unknown], Action::Accept)], vec![]),
                "unclear",
            ),
            (
                "a doubtful accept with another's port",
                judge(
                    Action::Drop,
                    vec![rule(vec![Match::Unknown, is(Field::Protocol, 6, 6)], Action::Accept)],
                    vec![],
                ),
                "dropped",
            ),
            (
                "a doubtful drop behind an accept",
                judge(
                    Action::Accept,
                    vec![
                        rule(vec![], Action::Continue),
                        rule(port(), Action::Accept),
                        rule(vec![Match::Unknown], Action::Drop),
                    ],
                    vec![],
                ),
                "passes",
            ),
            (
                "a doubtful drop",
                judge(Action::Accept, vec![rule(vec![Match::Unknown], Action::Drop)], vec![]),
                "unclear",
            ),
            (
                "an unknown action",
                judge(Action::Accept, vec![rule(port(), Action::Unknown)], vec![]),
                "unclear",
            ),
            (
                "a jump that accepts",
                judge(
                    Action::Drop,
                    vec![rule(vec![], jump("sub"))],
                    sub(vec![rule(port(), Action::Accept)]),
                ),
                "passes",
            ),
            (
                "a jump that comes back",
                judge(
                    Action::Drop,
                    vec![rule(vec![], jump("sub")), rule(vec![], Action::Accept)],
                    sub(vec![rule(port(), Action::Return), rule(vec![], Action::Drop)]),
                ),
                "passes",
            ),
            (
                "a goto does not come back",
                judge(
                    Action::Drop,
                    vec![rule(vec![], goto("sub")), rule(vec![], Action::Accept)],
                    sub(vec![]),
                ),
                "dropped",
            ),
            (
                "a drop further down",
                judge(
                    Action::Accept,
                    vec![rule(vec![], jump("sub"))],
                    sub(vec![rule(vec![], Action::Drop)]),
                ),
                "dropped",
            ),
            (
                "a chain that is not there",
                judge(Action::Accept, vec![rule(vec![], jump("gone"))], vec![]),
                "unclear",
            ),
            (
                "a loop",
                judge(
                    Action::Accept,
                    vec![rule(vec![], jump("sub"))],
                    sub(vec![rule(vec![], jump("sub"))]),
                ),
                "unclear",
            ),
            (
                "another hook's business",
                judge(
                    Action::Accept,
                    vec![],
                    vec![chain("f", Some(Hook::Forward), Action::Drop, vec![])],
                ),
                "passes",
            ),
        ];
        for (what, got, want) in cases {
            assert_eq!(got, want, "{what}");
        }
    }

    #[test]
    fn what_is_not_known_of_a_packet_may_be_anything() {
        let from = |negated| {
            let values = Values::Ranges(vec![network("192.0.2.0/24").unwrap()]);
            vec![Match::Field { field: Field::Source, values, negated }]
        };
        for negated in [false, true] {
            let rules = vec![rule(from(negated), Action::Accept)];
            let chains = vec![chain("in", Some(Hook::Input), Action::Drop, rules)];
            let rules = Ruleset { chains };
            let judge =
                |source| rules.judge(&[Hook::Input], &Packet { source, ..heartbeat() }).clone();
            assert!(matches!(judge(None), Verdict::Unclear(_)));
            let inside = judge(Some(Ipv4Addr::new(192, 0, 2, 9)));
            assert_eq!(inside == Verdict::Passes, !negated);
        }
    }

    #[test]
    fn interfaces_may_end_in_a_star() {
        for (pattern, want) in
            [("eth1", true), ("eth*", true), ("*", true), ("eth", false), ("lo", false)]
        {
            let values = Values::Names(vec![pattern.to_owned()]);
            assert_eq!(heartbeat().has(Field::Input, &values), Some(want), "{pattern}");
            assert_eq!(heartbeat().has(Field::Output, &values), None, "{pattern}");
        }
    }

    #[test]
    fn networks() {
        let ten = (0x0a00_0000, 0x0aff_ffff);
        for (word, want) in [
            ("10.0.0.0/8", Some(ten)),
            ("10.1.2.3/8", Some(ten)),
            ("10.0.0.0/255.0.0.0", Some(ten)),
            ("10.0.0.1", Some((0x0a00_0001, 0x0a00_0001))),
            ("0.0.0.0/0", Some((0, u32::MAX))),
            ("10.0.0.0/255.0.255.0", None),
            ("fd00::/8", None),
            ("x", None),
        ] {
            assert_eq!(network(word), want, "{word}");
        }
    }
}

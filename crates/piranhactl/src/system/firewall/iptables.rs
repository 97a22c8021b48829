//! The output of iptables-save(8), whichever of its variants.

use super::{Action, Chain, Field, Hook, Match, Rule, Tool, Values, network, protocol};

/// The chains in an output of `iptables-save`. `program` is the one that changes them.
pub(crate) fn parse(text: &str, program: &str) -> Vec<Chain> {
    let tool = Tool::Iptables { program: program.to_owned() };
    let mut chains: Vec<Chain> = Vec::new();
    let mut table = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some(declared) = line.strip_prefix(':') {
            let mut words = declared.split_whitespace();
            let name = words.next().unwrap_or_default();
            let policy = words.next().unwrap_or_default();
            chains.push(Chain {
                tool: tool.clone(),
                table: table.clone(),
                name: name.to_owned(),
                // Chains of users have no policy.
                hook: if policy == "-" { None } else { Hook::parse(name) },
                policy: if policy == "DROP" { Action::Drop } else { Action::Accept },
                rules: Vec::new(),
            });
        } else if line.starts_with("-A") {
            let words = split(line);
            let name = words.get(1).map(String::as_str).unwrap_or_default();
            let chain = chains.iter_mut().find(|chain| chain.table == table && chain.name == name);
            if let Some(chain) = chain {
                chain.rules.push(rule(words.get(2..).unwrap_or_default()));
            }
        }
    }
    chains
}

/// The words of a line, in which double quotes keep blanks together and a backslash keeps a quote.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(characters.next()),
            blank if blank.is_whitespace() && !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

fn rule(words: &[String]) -> Rule {
    let mut rule = Rule { matches: Vec::new(), action: Action::Continue };
    let mut words = words.iter().map(String::as_str);
    let mut negated = false;
    while let Some(word) = words.next() {
        match word {
            "!" => {
                negated = true;
                continue;
            }
            "-j" | "--jump" => {
                rule.action = action(words.next().unwrap_or_default());
                // The rest is about the target.
                break;
            }
            "-g" | "--goto" => {
                rule.action = Action::Goto(words.next().unwrap_or_default().to_owned());
                break;
            }
            // The options of a match tell what it is.
            "-m" | "--match" | "--comment" => drop(words.next()),
            option => match condition(option, words.next().unwrap_or_default(), negated) {
                Some(condition) => rule.matches.push(condition),
                None => {
                    // Unknown, and with it how many words belong to it: on to the target.
                    rule.matches.push(Match::Unknown);
                    let target = words
                        .by_ref()
                        .find(|word| matches!(*word, "-j" | "--jump" | "-g" | "--goto"));
                    rule.action = match (target, words.next().unwrap_or_default()) {
                        (None, _) => Action::Continue,
                        (Some("-g" | "--goto"), name) => Action::Goto(name.to_owned()),
                        (Some(_), name) => action(name),
                    };
                    break;
                }
            },
        }
        negated = false;
    }
    rule
}

fn action(target: &str) -> Action {
    match target {
        "ACCEPT" => Action::Accept,
        "DROP" | "REJECT" => Action::Drop,
        "MASQUERADE" | "SNAT" | "NETMAP" => Action::Source,
        // What becomes of it, it goes on.
        "DNAT" | "REDIRECT" => Action::Accept,
        "RETURN" => Action::Return,
        "LOG" | "NFLOG" | "ULOG" | "MARK" | "CONNMARK" | "CONNSECMARK" | "SECMARK" | "TOS"
        | "DSCP" | "TTL" | "ECN" | "CLASSIFY" | "CHECKSUM" | "TCPMSS" | "CT" | "NOTRACK"
        | "TRACE" | "SET" | "AUDIT" | "TEE" | "TCPOPTSTRIP" | "RATEEST" | "HMARK" | "IDLETIMER"
        | "LED" => Action::Continue,
        "QUEUE" | "NFQUEUE" | "TPROXY" | "SYNPROXY" | "CLUSTERIP" | "" => Action::Unknown,
        chain => Action::Jump(chain.to_owned()),
    }
}

/// A condition that one value follows. `None`: not known.
fn condition(option: &str, value: &str, negated: bool) -> Option<Match> {
    let ranges = |field, ranges: Option<Vec<(u32, u32)>>| {
        Some(Match::Field { field, values: Values::Ranges(ranges?), negated })
    };
    let names = |field, names: Vec<String>| {
        Some(Match::Field { field, values: Values::Names(names), negated })
    };
    match option {
        "-p" | "--protocol" | "--proto" if value == "all" => {
            ranges(Field::Protocol, Some(vec![(0, 255)]))
        }
        "-p" | "--protocol" | "--proto" => {
            ranges(Field::Protocol, protocol(value).map(|number| vec![(number, number)]))
        }
        "-s" | "--source" | "--src" => {
            ranges(Field::Source, value.split(',').map(network).collect())
        }
        "-d" | "--destination" | "--dst" => {
            ranges(Field::Destination, value.split(',').map(network).collect())
        }
        "--src-range" => ranges(Field::Source, address_range(value)),
        "--dst-range" => ranges(Field::Destination, address_range(value)),
        "--sport" | "--source-port" | "--sports" | "--source-ports" => {
            ranges(Field::SourcePort, value.split(',').map(ports).collect())
        }
        "--dport" | "--destination-port" | "--dports" | "--destination-ports" => {
            ranges(Field::DestinationPort, value.split(',').map(ports).collect())
        }
        // A trailing plus is any rest.
        "-i" | "--in-interface" => names(Field::Input, vec![interface(value)]),
        "-o" | "--out-interface" => names(Field::Output, vec![interface(value)]),
        "--state" | "--ctstate" => {
            names(Field::State, value.split(',').map(str::to_ascii_lowercase).collect())
        }
        _ => None,
    }
}

fn interface(word: &str) -> String {
    word.strip_suffix('+').map_or_else(|| word.to_owned(), |start| format!("{start}*"))
}

/// `80` or `8000:8010`.
fn ports(word: &str) -> Option<(u32, u32)> {
    let (first, last) = word.split_once(':').unwrap_or((word, word));
    let number = |word: &str, open: u32| match word {
        "" => Some(open),
        word => word.parse().ok(),
    };
    Some((number(first, 0)?, number(last, 65_535)?))
}

/// `10.0.0.1-10.0.0.9`.
fn address_range(word: &str) -> Option<Vec<(u32, u32)>> {
    let (first, last) = word.split_once('-')?;
    Some(vec![(network(first)?.0, network(last)?.0)])
}

#[cfg(test)]
mod tests {
    use super::super::{Packet, Ruleset, TCP, UDP, Verdict};
    use super::*;
    use std::net::Ipv4Addr;

    fn heartbeat(state: &'static str) -> Packet {
        Packet {
            protocol: UDP,
            source: Some(Ipv4Addr::new(10, 0, 0, 2)),
            destination: Some(Ipv4Addr::new(10, 0, 0, 1)),
            source_port: Some(539),
            destination_port: Some(539),
            input: Some("eth1".to_owned()),
            state: Some(state),
            ..Packet::default()
        }
    }

    fn verdict(rules: &str, packet: &Packet) -> &'static str {
        let text = format!(
            "# Generated by iptables-save v1.8.9\n*filter\n:INPUT DROP [1:2]\n\
             :FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:own - [0:0]\n{rules}\nCOMMIT\n# Done\n"
        );
        let rules = Ruleset { chains: parse(&text, "iptables") };
        assert_eq!(rules.chains.len(), 4);
        match rules.judge(&[Hook::Input], packet) {
            Verdict::Passes => "passes",
            Verdict::Dropped(_) => "dropped",
            Verdict::Unclear(_) => "unclear",
        }
    }

    #[test]
    fn rules_as_they_are_saved() {
        let cases = [
            ("", "dropped"),
            ("-A INPUT -s 10.0.0.2/32 -p udp -m udp --dport 539 -j ACCEPT", "passes"),
            ("-A INPUT ! -s 10.0.0.2/32 -p udp -m udp --dport 539 -j ACCEPT", "dropped"),
            ("-A INPUT -s 10.0.0.3/32 -p udp -m udp --dport 539 -j ACCEPT", "dropped"),
            ("-A INPUT -p tcp -m tcp --dport 539 -j ACCEPT", "dropped"),
            ("-A INPUT -p udp -m udp --sport 500:539 --dport 500: -j ACCEPT", "passes"),
            ("-A INPUT -p udp -m multiport --dports 53,530:540 -j ACCEPT", "passes"),
            ("-A INPUT -p udp -m multiport ! --dports 53,530:540 -j ACCEPT", "dropped"),
            ("-A INPUT -i lo -j ACCEPT", "dropped"),
            ("-A INPUT -i eth+ -j ACCEPT", "passes"),
            ("-A INPUT ! -i lo -j ACCEPT", "passes"),
            (r#"-A INPUT -m comment --comment "a \"b\" -j DROP" -j ACCEPT"#, "passes"),
            ("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "dropped"),
            ("-A INPUT -m state --state NEW -j ACCEPT", "passes"),
            ("-A INPUT -m iprange --src-range 10.0.0.1-10.0.0.9 -j ACCEPT", "passes"),
            ("-A INPUT -m mark --mark 0x1 -j ACCEPT", "unclear"),
            ("-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN SYN -j ACCEPT", "dropped"),
            ("-A INPUT -m set --match-set friends src,dst -j ACCEPT", "unclear"),
            (
                "-A INPUT -m limit --limit 1/sec --limit-burst 5 -j DROP\n-A INPUT -j ACCEPT",
                "unclear",
            ),
            ("-A INPUT -j LOG --log-prefix \"x \"\n-A INPUT -j ACCEPT", "passes"),
            (
                "-A INPUT -p udp -j REJECT --reject-with icmp-port-unreachable\n-A INPUT -j ACCEPT",
                "dropped",
            ),
            ("-A INPUT -j own\n-A own -p udp -j ACCEPT", "passes"),
            ("-A INPUT -j own\n-A own -p tcp -j ACCEPT\n-A own -j RETURN", "dropped"),
            ("-A INPUT -g own\n-A INPUT -j ACCEPT", "dropped"),
            ("-A INPUT -m mark --mark 1 -g own\n-A INPUT -j ACCEPT", "unclear"),
            ("-A INPUT -p udp", "dropped"),
            ("-A INPUT", "dropped"),
            ("-A", "dropped"),
        ];
        for (rules, want) in cases {
            assert_eq!(verdict(rules, &heartbeat("new")), want, "{rules}");
        }
        let related = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
        assert_eq!(verdict(related, &heartbeat("established")), "passes");
    }

    #[test]
    fn masquerading() {
        let rules = |line: &str| {
            let text = format!("*nat\n:POSTROUTING ACCEPT [0:0]\n{line}\nCOMMIT\n");
            Ruleset { chains: parse(&text, "iptables") }
        };
        let packet = Packet {
            protocol: TCP,
            source: Some(Ipv4Addr::new(10, 0, 0, 21)),
            output: Some("eth0".to_owned()),
            ..Packet::default()
        };
        for (line, want) in [
            ("", Some(false)),
            ("-A POSTROUTING -o eth0 -j MASQUERADE", Some(true)),
            ("-A POSTROUTING -o eth1 -j MASQUERADE", Some(false)),
            ("-A POSTROUTING -s 10.0.0.0/24 -j SNAT --to-source 192.0.2.1", Some(true)),
            ("-A POSTROUTING -s 10.0.0.0/24 ! -d 10.0.0.0/24 -j MASQUERADE", None),
            ("-A POSTROUTING -s 10.0.0.0/24 -j ACCEPT\n-A POSTROUTING -j MASQUERADE", Some(false)),
        ] {
            assert_eq!(rules(line).changes_source(&packet), want, "{line}");
        }
    }

    #[test]
    fn any_text_is_read_without_harm() {
        proptest::proptest!(|(text in "([*:A-Za-z!,0-9 \"\\\\\n-]|-A INPUT |:INPUT DROP\n|\\*f\n){0,60}")| {
            let rules = Ruleset { chains: parse(&text, "iptables") };
            let _ = rules.judge(&[Hook::Input], &heartbeat("new"));
        });
    }
}

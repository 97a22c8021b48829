//! The output of `nft --json list ruleset`: libnftables-json(5).

use super::{Action, Chain, Field, Hook, Match, Rule, Tool, Values, network, protocol};
use serde_json::Value;
use std::collections::HashMap;

/// The chains that IPv4 packets pass in an output of `nft --json list ruleset`.
///
/// # Errors
/// When the text is not such an output; the reason.
pub(crate) fn parse(text: &str) -> Result<Vec<Chain>, String> {
    let whole: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let items = whole["nftables"].as_array().ok_or("there is no list \"nftables\" in it")?;
    let mut reader = Reader::default();
    // Sets may stand behind the rules that use them.
    for item in items {
        if let Some(set) = item.get("set").or_else(|| item.get("map")) {
            reader.sets.insert(key(set, "name"), set["elem"].clone());
        }
        if let Some(chain) = item.get("chain").filter(|chain| is_ipv4(chain)) {
            reader.chains.push(chain_of(chain));
        }
    }
    for rule in items.iter().filter_map(|item| item.get("rule")).filter(|rule| is_ipv4(rule)) {
        let rules = reader.rules(rule);
        let (family, table, name) = key(rule, "chain");
        let tool = Tool::Nft { family };
        let mut chains = reader.chains.iter_mut();
        let chain = chains.find(|c| c.tool == tool && c.table == table && c.name == name);
        if let Some(chain) = chain {
            chain.rules.extend(rules);
        }
    }
    Ok(reader.chains)
}

/// Family, table, and the name of a thing in it.
type Key = (String, String, String);

fn key(item: &Value, name: &str) -> Key {
    let text = |member: &str| item[member].as_str().unwrap_or_default().to_owned();
    (text("family"), text("table"), text(name))
}

fn is_ipv4(item: &Value) -> bool {
    matches!(item["family"].as_str(), Some("ip" | "inet"))
}

fn chain_of(item: &Value) -> Chain {
    let (family, table, name) = key(item, "name");
    Chain {
        tool: Tool::Nft { family },
        table,
        name,
        hook: item["hook"].as_str().and_then(Hook::parse),
        policy: if item["policy"] == "drop" { Action::Drop } else { Action::Accept },
        rules: Vec::new(),
    }
}

#[derive(Default)]
struct Reader {
    sets: HashMap<Key, Value>,
    chains: Vec<Chain>,
}

impl Reader {
    /// A rule of the file: more than one of ours where it has a verdict map.
    fn rules(&self, rule: &Value) -> Vec<Rule> {
        let mut matches = Vec::new();
        let mut rules = Vec::new();
        for statement in rule["expr"].as_array().into_iter().flatten() {
            let Some((kind, body)) = statement.as_object().and_then(|map| map.iter().next()) else {
                continue;
            };
            match kind.as_str() {
                "match" => matches.extend(self.condition(rule, body)),
                "vmap" => return self.verdict_map(rule, body, &matches),
                // These may hold or not.
                "limit" | "quota" | "connlimit" | "ct count" => matches.push(Match::Unknown),
                "xt" if body["type"] == "target" => {
                    rules.push(Rule { matches: matches.clone(), action: extension(body) });
                }
                "xt" => matches.push(Match::Unknown),
                _ => {
                    if let Some(action) = verdict(kind, body) {
                        rules.push(Rule { matches: matches.clone(), action });
                    }
                }
            }
        }
        rules
    }

    /// One rule for each of the map's elements, of which at most one holds.
    fn verdict_map(&self, rule: &Value, map: &Value, matches: &[Match]) -> Vec<Rule> {
        let unknown = || {
            let mut matches = matches.to_vec();
            matches.push(Match::Unknown);
            vec![Rule { matches, action: Action::Unknown }]
        };
        let Some(Side { field, mut conditions }) = side(&map["key"]) else { return unknown() };
        let elements = match map["data"].as_str() {
            Some(name) => self.named(rule, name),
            None => map["data"].get("set"),
        };
        let Some(elements) = elements.and_then(Value::as_array) else { return unknown() };
        conditions.splice(0..0, matches.iter().cloned());
        elements
            .iter()
            .map(|element| {
                let mut matches = conditions.clone();
                let values = self.values(rule, field, &element[0]);
                matches.push(field_match(field, values, false));
                let mut verdicts = element[1].as_object().into_iter().flatten();
                let action = verdicts.next().and_then(|(kind, body)| verdict(kind, body));
                Rule { matches, action: action.unwrap_or(Action::Unknown) }
            })
            .collect()
    }

    fn named(&self, rule: &Value, name: &str) -> Option<&Value> {
        let (family, table, _) = key(rule, "chain");
        self.sets.get(&(family, table, name.strip_prefix('@')?.to_owned()))
    }

    fn condition(&self, rule: &Value, body: &Value) -> Vec<Match> {
        let negated = match body["op"].as_str() {
            Some("==" | "in") => false,
            Some("!=") => true,
            _ => return vec![Match::Unknown],
        };
        let Some(Side { field, mut conditions }) = side(&body["left"]) else {
            // Of another protocol's header at least the protocol is known.
            let protocol = body["left"]["&"][0]["payload"]["protocol"]
                .as_str()
                .or_else(|| body["left"]["payload"]["protocol"].as_str());
            let mut conditions: Vec<Match> = protocol.and_then(of_protocol).into_iter().collect();
            conditions.push(Match::Unknown);
            return conditions;
        };
        let values = self.values(rule, field, &body["right"]);
        conditions.push(field_match(field, values, negated));
        conditions
    }

    /// What stands on the right: a value, a range, a list, a set, or the name of one.
    fn values(&self, rule: &Value, field: Field, right: &Value) -> Option<Values> {
        let mut values = match field {
            Field::Input | Field::Output | Field::State => Values::Names(Vec::new()),
            _ => Values::Ranges(Vec::new()),
        };
        let known = self.collect(rule, field, right, &mut values, 0);
        known.then_some(values)
    }

    /// Adds what `right` stands for; whether all of it is understood.
    fn collect(
        &self,
        rule: &Value,
        field: Field,
        right: &Value,
        to: &mut Values,
        depth: u8,
    ) -> bool {
        // Sets hold no sets of sets.
        if depth > 8 {
            return false;
        }
        let all = |list: &Value, to: &mut Values| {
            let mut items = list.as_array().into_iter().flatten();
            items.all(|item| self.collect(rule, field, item, to, depth + 1))
        };
        if let Some(name) = right.as_str().filter(|name| name.starts_with('@')) {
            // A set without elements has no "elem".
            return self.named(rule, name).is_some_and(|list| list.is_null() || all(list, to));
        }
        if right.is_array() {
            return all(right, to);
        }
        if let Some(list) = right.get("set") {
            return if list.is_array() {
                all(list, to)
            } else {
                self.collect(rule, field, list, to, depth + 1)
            };
        }
        if let Some(element) = right.get("elem") {
            return self.collect(rule, field, &element["val"], to, depth + 1);
        }
        match to {
            Values::Names(names) => {
                right.as_str().map(|name| names.push(name.to_owned())).is_some()
            }
            Values::Ranges(ranges) => range(field, right).map(|range| ranges.push(range)).is_some(),
        }
    }
}

/// What a rule looks at, and what that presupposes: a UDP port, that the packet is UDP.
struct Side {
    field: Field,
    conditions: Vec<Match>,
}

fn side(left: &Value) -> Option<Side> {
    if let Some(meta) = left["meta"]["key"].as_str() {
        let field = match meta {
            "iifname" | "iif" => Field::Input,
            "oifname" | "oif" => Field::Output,
            "l4proto" => Field::Protocol,
            "nfproto" | "protocol" => Field::Version,
            _ => return None,
        };
        return Some(Side { field, conditions: Vec::new() });
    }
    if left["ct"]["key"] == "state" {
        return Some(Side { field: Field::State, conditions: Vec::new() });
    }
    let payload = &left["payload"];
    let header = payload["protocol"].as_str()?;
    let field = match (header, payload["field"].as_str()?) {
        ("ip", "saddr") => Field::Source,
        ("ip", "daddr") => Field::Destination,
        ("ip", "protocol") => Field::Protocol,
        (_, "sport") => Field::SourcePort,
        (_, "dport") => Field::DestinationPort,
        _ => return None,
    };
    let conditions = if header == "th" { None } else { of_protocol(header) };
    Some(Side { field, conditions: conditions.into_iter().collect() })
}

/// The condition that a packet has this header.
fn of_protocol(header: &str) -> Option<Match> {
    let (field, number) = match header {
        "ip" => (Field::Version, 4),
        "ip6" | "icmpv6" => (Field::Version, 6),
        header => (Field::Protocol, protocol(header)?),
    };
    Some(field_match(field, Some(Values::Ranges(vec![(number, number)])), false))
}

fn field_match(field: Field, values: Option<Values>, negated: bool) -> Match {
    values.map_or(Match::Unknown, |values| Match::Field { field, values, negated })
}

/// A number, an address, a name of a protocol; or a range of them.
fn range(field: Field, value: &Value) -> Option<(u32, u32)> {
    if let Some(ends) = value.get("range") {
        return Some((range(field, &ends[0])?.0, range(field, &ends[1])?.1));
    }
    if let Some(prefix) = value.get("prefix") {
        return network(&format!("{}/{}", prefix["addr"].as_str()?, prefix["len"].as_u64()?));
    }
    if let Some(number) = value.as_u64() {
        let number = u32::try_from(number).ok()?;
        return Some((number, number));
    }
    let word = value.as_str()?;
    match field {
        Field::Source | Field::Destination => network(word),
        Field::Protocol => protocol(word).map(|number| (number, number)),
        Field::Version => match word {
            "ipv4" | "ip" => Some((4, 4)),
            "ipv6" | "ip6" => Some((6, 6)),
            _ => None,
        },
        // `nft -j` gives numbers, unless it was told to look names up.
        _ => word.parse().ok().map(|number| (number, number)),
    }
}

/// The action of a statement; `None` for one that lets the next follow.
fn verdict(kind: &str, body: &Value) -> Option<Action> {
    let target = || body["target"].as_str().unwrap_or_default().to_owned();
    Some(match kind {
        // What has another destination goes on all the same.
        "accept" | "dnat" | "redirect" => Action::Accept,
        "drop" | "reject" => Action::Drop,
        "masquerade" | "snat" => Action::Source,
        "jump" => Action::Jump(target()),
        "goto" => Action::Goto(target()),
        "return" => Action::Return,
        "queue" | "tproxy" | "synproxy" | "fwd" => Action::Unknown,
        "continue" => Action::Continue,
        _ => return None,
    })
}

/// The target of a rule that iptables made.
fn extension(body: &Value) -> Action {
    match body["name"].as_str().unwrap_or_default() {
        "REJECT" => Action::Drop,
        "MASQUERADE" | "SNAT" => Action::Source,
        "DNAT" | "REDIRECT" => Action::Accept,
        "LOG" | "MARK" | "CONNMARK" | "TCPMSS" | "CT" => Action::Continue,
        _ => Action::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Packet, Ruleset, TCP, UDP, Verdict};
    use super::*;
    use serde_json::json;
    use std::net::Ipv4Addr;

    fn heartbeat() -> Packet {
        Packet {
            protocol: UDP,
            source: Some(Ipv4Addr::new(10, 0, 0, 2)),
            destination: Some(Ipv4Addr::new(10, 0, 0, 1)),
            source_port: Some(539),
            destination_port: Some(539),
            input: Some("eth1".to_owned()),
            state: Some("new"),
            ..Packet::default()
        }
    }

    fn matching(op: &str, left: &Value, right: &Value) -> Value {
        json!({"match": {"op": op, "left": left, "right": right}})
    }

    fn payload(protocol: &str, field: &str) -> Value {
        json!({"payload": {"protocol": protocol, "field": field}})
    }

    fn meta(key: &str) -> Value {
        json!({"meta": {"key": key}})
    }

    /// A table as `nft -j list ruleset` (1.0.6) prints it, whose input chain drops what this rule
    /// does not accept.
    fn ruleset(expressions: &[Value]) -> Ruleset {
        let text = json!({"nftables": [
            {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
            {"table": {"family": "inet", "name": "filter", "handle": 1}},
            {"chain": {"family": "inet", "table": "filter", "name": "public", "handle": 1}},
            {"chain": {"family": "inet", "table": "filter", "name": "input", "handle": 2,
                "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
            {"chain": {"family": "ip6", "table": "filter", "name": "input", "handle": 2,
                "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
            {"rule": {"family": "inet", "table": "filter", "chain": "public", "handle": 6, "expr": [
                matching("==", &payload("udp", "dport"), &json!({"set": [80, {"range": [530, 540]}]})),
                {"accept": null}]}},
            {"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 7,
                "expr": expressions}},
            {"set": {"family": "inet", "name": "trusted", "table": "filter", "type": "ipv4_addr",
                "flags": ["interval"], "elem": [{"prefix": {"addr": "192.0.2.0", "len": 24}},
                {"elem": {"val": "10.0.0.9", "timeout": 60}}, {"range": ["10.0.0.1", "10.0.0.3"]}]}},
            {"set": {"family": "inet", "name": "empty", "table": "filter", "type": "ipv4_addr"}},
            {"map": {"family": "inet", "name": "zones", "table": "filter", "type": "ifname",
                "map": "verdict", "elem": [["eth1", {"jump": {"target": "public"}}]]}},
        ]});
        Ruleset { chains: parse(&text.to_string()).unwrap() }
    }

    fn verdict_of(expressions: &[Value]) -> &'static str {
        let rules = ruleset(expressions);
        assert_eq!(rules.chains.len(), 2, "what is not for IPv4 is left out");
        match rules.judge(&[Hook::Input], &heartbeat()) {
            Verdict::Passes => "passes",
            Verdict::Dropped(_) => "dropped",
            Verdict::Unclear(_) => "unclear",
        }
    }

    #[test]
    fn rules_as_they_are_listed() {
        let port = payload("udp", "dport");
        let source = payload("ip", "saddr");
        let state = json!({"ct": {"key": "state"}});
        let flags = json!({"&": [payload("tcp", "flags"), ["fin", "syn"]]});
        let pair = json!({"concat": [source, port]});
        let two = json!({"prefix": {"addr": "10.0.0.0", "len": 8}});
        let cases = [
            (matching("==", &port, &json!(539)), "passes"),
            (matching("!=", &port, &json!(539)), "dropped"),
            (matching("==", &port, &json!({"set": [53, {"range": [500, 600]}]})), "passes"),
            (matching("==", &payload("tcp", "dport"), &json!(539)), "dropped"),
            // What is not TCP does not match "tcp dport != 22".
            (matching("!=", &payload("tcp", "dport"), &json!(22)), "dropped"),
            (matching("==", &payload("th", "dport"), &json!(539)), "passes"),
            (matching("==", &source, &json!("10.0.0.2")), "passes"),
            (matching("==", &source, &two), "passes"),
            (matching("==", &source, &json!("@trusted")), "passes"),
            (matching("!=", &source, &json!("@trusted")), "dropped"),
            (matching("==", &source, &json!("@empty")), "dropped"),
            (matching("==", &source, &json!("@gone")), "unclear"),
            (matching("==", &payload("ip6", "saddr"), &json!("fd00::1")), "dropped"),
            (matching("==", &payload("ip", "protocol"), &json!({"set": ["tcp", "udp"]})), "passes"),
            (matching("==", &meta("l4proto"), &json!("tcp")), "dropped"),
            (matching("==", &meta("nfproto"), &json!("ipv4")), "passes"),
            (matching("==", &meta("nfproto"), &json!("ipv6")), "dropped"),
            (matching("==", &meta("iifname"), &json!("lo")), "dropped"),
            (matching("==", &meta("iif"), &json!("eth1")), "passes"),
            (matching("==", &meta("iifname"), &json!("eth*")), "passes"),
            (matching("==", &meta("pkttype"), &json!("multicast")), "unclear"),
            (matching("in", &state, &json!(["established", "related"])), "dropped"),
            (matching("in", &state, &json!("new")), "passes"),
            (matching("==", &state, &json!({"set": ["new", "established"]})), "passes"),
            (matching("==", &flags, &json!("syn")), "dropped"),
            (matching("==", &pair, &json!({"set": [{"concat": ["1.2.3.4", 539]}]})), "unclear"),
            (matching("==", &json!({"fib": {"result": "type"}}), &json!("local")), "unclear"),
            (matching("<", &port, &json!(1024)), "unclear"),
            (json!({"limit": {"rate": 10, "per": "second"}}), "unclear"),
            (json!({"xt": {"type": "match", "name": "conntrack"}}), "unclear"),
            (json!({"counter": {"packets": 0, "bytes": 0}}), "passes"),
            (json!({"log": {"prefix": "x"}}), "passes"),
        ];
        for (condition, want) in cases {
            let got = verdict_of(&[condition.clone(), json!({"accept": null})]);
            assert_eq!(got, want, "{condition}");
        }
    }

    #[test]
    fn verdicts_and_maps() {
        let map = |key: &Value, data: &Value| json!({"vmap": {"key": key, "data": data}});
        let state = json!({"ct": {"key": "state"}});
        let states = json!({"set": [["invalid", {"drop": null}], ["new", {"accept": null}]]});
        let ports = json!({"set": [[53, {"drop": null}], [539, {"accept": null}]]});
        let cases = [
            (json!({"accept": null}), "passes"),
            (json!({"reject": {"type": "icmpx", "expr": "port-unreachable"}}), "dropped"),
            (json!({"jump": {"target": "public"}}), "passes"),
            (json!({"goto": {"target": "public"}}), "passes"),
            (json!({"jump": {"target": "gone"}}), "unclear"),
            (json!({"return": null}), "dropped"),
            (json!({"queue": {"num": 0}}), "unclear"),
            (json!({"xt": {"type": "target", "name": "REJECT"}}), "dropped"),
            (json!({"xt": {"type": "target", "name": "NFQUEUE"}}), "unclear"),
            (map(&state, &states), "passes"),
            (map(&payload("udp", "dport"), &ports), "passes"),
            (map(&payload("tcp", "dport"), &ports), "dropped"),
            (map(&meta("iifname"), &json!("@zones")), "passes"),
            (map(&meta("iifname"), &json!("@gone")), "unclear"),
            (map(&meta("mark"), &json!("@zones")), "unclear"),
        ];
        for (statement, want) in cases {
            assert_eq!(verdict_of(std::slice::from_ref(&statement)), want, "{statement}");
        }
    }

    #[test]
    fn masquerading() {
        let text = json!({"nftables": [
            {"chain": {"family": "ip", "table": "nat", "name": "post", "handle": 1, "type": "nat",
                "hook": "postrouting", "prio": 100, "policy": "accept"}},
            {"rule": {"family": "ip", "table": "nat", "chain": "post", "handle": 2, "expr": [
                matching("==", &meta("oifname"), &json!("eth0")),
                {"masquerade": null}]}},
        ]});
        let rules = Ruleset { chains: parse(&text.to_string()).unwrap() };
        for (output, want) in [("eth0", true), ("eth1", false)] {
            let output = Some(output.to_owned());
            let packet = Packet { protocol: TCP, output, ..Packet::default() };
            assert_eq!(rules.changes_source(&packet), Some(want));
        }
    }

    #[test]
    fn what_is_no_ruleset_is_refused() {
        assert!(parse("").is_err());
        assert!(parse("{}").is_err());
        assert!(parse("[]").is_err());
        assert_eq!(parse(r#"{"nftables": [{"metainfo": {}}, 3, null]}"#), Ok(Vec::new()));
    }
}

//! What differs between two files, in words: `virtual https: timeout 6 → 10`.

use std::collections::HashMap;

use lvs_config::{BlockKind, Document, Path};

use super::fields::{Effect, effect};

/// The longest value shown, in characters.
const LONGEST: usize = 60;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it is about: `virtual https / rp1`; empty for the global settings.
    pub place: String,
    /// What differs: `timeout 6 → 10`.
    pub text: String,
    /// What becomes of it when it is applied.
    pub effect: Effect,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.place.is_empty() {
            f.write_str(&self.text)
        } else {
            write!(f, "{}: {}", self.place, self.text)
        }
    }
}

/// What has to be done to `old` to get `new`. `serial_no`, which every save raises, is left out, and
/// so is everything that has no meaning: comments, layout, keys that are repeated.
#[must_use]
pub fn between(old: &Document, new: &Document) -> Vec<Change> {
    let mut found = Comparison { old, new, changes: Vec::new() };
    found.keys(Path::Global, Path::Global, "");
    for kind in [BlockKind::Virtual, BlockKind::Failover] {
        let block = |index| Path::Block { kind, index };
        let before = names(old, old.block_count(kind), block);
        let pairs = pair(&before, &names(new, new.block_count(kind), block));
        found.siblings(&pairs, kind.as_str(), "", block, block);
        for (before, after) in pairs.both() {
            found.servers(block(before), block(after), kind);
        }
    }
    found.changes
}

struct Comparison<'a> {
    old: &'a Document,
    new: &'a Document,
    changes: Vec<Change>,
}

impl Comparison<'_> {
    fn say(&mut self, place: &str, text: String, effect: Effect) {
        self.changes.push(Change { place: place.to_owned(), text, effect });
    }

    fn servers(&mut self, before: Path, after: Path, kind: BlockKind) {
        let of = |path: Path| move |index| path.server(index);
        let old = names(self.old, self.old.server_count(before), of(before));
        let new = names(self.new, self.new.server_count(after), of(after));
        let block = shown(self.new.name(after).unwrap_or_default());
        let place = format!("{kind} {block}");
        self.siblings(&pair(&old, &new), "server", &place, of(before), of(after));
    }

    /// Blocks, or the servers of one: those that come, go, are renamed, or have other keys.
    fn siblings(
        &mut self,
        pairs: &Pairs,
        what: &str,
        inside: &str,
        before: impl Fn(usize) -> Path,
        after: impl Fn(usize) -> Path,
    ) {
        let named = |name: &str| match inside {
            "" => format!("{what} {name}"),
            _ => format!("{inside} / {name}"),
        };
        let alone = |name: &str| match inside {
            "" => String::new(),
            _ => format!("{what} {name} "),
        };
        let name = |document: &Document, path| shown(document.name(path).unwrap_or_default());
        for index in &pairs.gone {
            let name = name(self.old, before(*index));
            let (place, text) = match inside {
                "" => (named(&name), "removed".to_owned()),
                _ => (inside.to_owned(), format!("{}removed", alone(&name))),
            };
            self.say(&place, text, Effect::Table);
        }
        for (old, new) in pairs.both() {
            let (was, is) = (name(self.old, before(old)), name(self.new, after(new)));
            let place = named(&is);
            if was != is {
                self.say(&place, format!("renamed from {was}"), Effect::None);
            }
            self.keys(before(old), after(new), &place);
        }
        for index in &pairs.new {
            let name = name(self.new, after(*index));
            let (place, text) = match inside {
                "" => (named(&name), "added".to_owned()),
                _ => (inside.to_owned(), format!("{}added", alone(&name))),
            };
            self.say(&place, text, Effect::Table);
        }
        if pairs.is_reordered() {
            self.say(inside, format!("another order of the {what} blocks"), Effect::None);
        }
    }

    fn keys(&mut self, before: Path, after: Path, place: &str) {
        for key in before.level().keys().filter(|key| *key != "serial_no") {
            let (old, new) = (self.old.get(before, key), self.new.get(after, key));
            if old == new {
                continue;
            }
            let value = |words: &[&[u8]]| shown(&words.join(&b' '));
            let text = match (key, old.as_deref(), new.as_deref()) {
                ("active", _, Some([b"1"])) => "activated".to_owned(),
                ("active", _, Some([b"0"])) => "deactivated".to_owned(),
                (_, Some(old), Some(new)) => format!("{key} {} → {}", value(old), value(new)),
                (_, None, Some(new)) => format!("{key} set to {}", value(new)),
                (_, old, None) => format!("{key} removed, was {}", value(old.unwrap_or_default())),
            };
            self.say(place, text, effect(before.level(), key));
        }
    }
}

/// A value or name as a line shows it.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(LONGEST) {
        _ if text.is_empty() => "blank".to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.into_owned(),
    }
}

fn names(document: &Document, count: usize, at: impl Fn(usize) -> Path) -> Vec<&[u8]> {
    (0..count).map(|index| document.name(at(index)).unwrap_or_default()).collect()
}

/// Which of the old ones are which of the new ones.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pairs {
    /// By the new ones' numbers: the old one's.
    same: Vec<Option<usize>>,
    gone: Vec<usize>,
    new: Vec<usize>,
}

impl Pairs {
    fn both(&self) -> impl Iterator<Item = (usize, usize)> {
        self.same.iter().enumerate().filter_map(|(new, old)| old.map(|old| (old, new)))
    }

    fn is_reordered(&self) -> bool {
        !self.same.iter().flatten().is_sorted()
    }
}

/// By name; of those with one name the first is the first. What is left over is taken for renamed
/// where it has kept its number.
fn pair(old: &[&[u8]], new: &[&[u8]]) -> Pairs {
    let mut by_name: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (index, name) in old.iter().enumerate().rev() {
        by_name.entry(name).or_default().push(index);
    }
    let mut same: Vec<Option<usize>> =
        new.iter().map(|name| by_name.get_mut(name).and_then(Vec::pop)).collect();
    let mut is_taken = vec![false; old.len()];
    for index in same.iter().flatten() {
        if let Some(taken) = is_taken.get_mut(*index) {
            *taken = true;
        }
    }
    for (index, slot) in same.iter_mut().enumerate() {
        if let (None, Some(taken @ false)) = (&slot, is_taken.get_mut(index)) {
            *taken = true;
            *slot = Some(index);
        }
    }
    let gone = (0..old.len()).filter(|index| is_taken.get(*index) == Some(&false)).collect();
    let new = (0..new.len()).filter(|index| same.get(*index) == Some(&None)).collect();
    Pairs { same, gone, new }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
serial_no = 1
primary = 10.0.0.1
virtual web {
     active = 0
     address = 192.0.2.10 eth0:1
     server a {
         weight = 1
     }
     server b {
     }
}
virtual ssl {
}
";

    fn changes(old: &str, new: &str) -> Vec<String> {
        let document = |text: &str| Document::new(text.as_bytes().to_vec());
        between(&document(old), &document(new)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn differences_in_words() {
        let cases: [(&str, &str, &[&str]); 13] = [
            ("serial_no = 1", "serial_no = 2", &[]),
            ("primary = 10.0.0.1", "# c\nprimary = 10.0.0.1", &[]),
            ("primary = 10.0.0.1", "primary = 10.0.0.2", &["primary 10.0.0.1 → 10.0.0.2"]),
            ("primary = 10.0.0.1\n", "", &["primary removed, was 10.0.0.1"]),
            ("active = 0", "active = 1", &["virtual web: activated"]),
            (
                "192.0.2.10 eth0:1",
                "192.0.2.11 eth0:1",
                &["virtual web: address 192.0.2.10 eth0:1 → 192.0.2.11 eth0:1"],
            ),
            ("weight = 1", "weight = 5", &["virtual web / a: weight 1 → 5"]),
            ("weight = 1", "active = 0\nweight = 1", &["virtual web / a: deactivated"]),
            ("virtual ssl", "virtual https", &["virtual https: renamed from ssl"]),
            ("virtual ssl {\n}\n", "", &["virtual ssl: removed"]),
            ("virtual ssl", "failover ssl", &["virtual ssl: removed", "failover ssl: added"]),
            ("server b {\n     }\n", "", &["virtual web: server b removed"]),
            (
                "server b {\n     }\n",
                "server b {\n     }\nserver b {\n}\n",
                &["virtual web: server b added"],
            ),
        ];
        for (part, instead, expected) in cases {
            assert_eq!(changes(TEXT, &TEXT.replacen(part, instead, 1)), expected, "{instead}");
        }
    }

    #[test]
    fn order_is_seen_and_names_need_not_be_unique() {
        let block = |name: &str, port: u8| format!("virtual {name} {{\nport = {port}\n}}\n");
        let (a, b) = (block("a", 1), block("b", 2));
        assert_eq!(
            changes(&[a.clone(), b.clone()].concat(), &[b, a].concat()),
            ["another order of the virtual blocks"]
        );
        let twice = [block("a", 1), block("a", 2)].concat();
        assert_eq!(
            changes(&twice, &twice.replace("port = 2", "port = 3")),
            ["virtual a: port 2 → 3"]
        );
        assert_eq!(changes(&twice, &block("a", 1)), ["virtual a: removed"]);
    }

    #[test]
    fn long_values_are_cut() {
        let long = "x".repeat(1000);
        let changes = changes("", &format!("active_cmd = \"{long}\"\n"));
        assert_eq!(changes, [format!("active_cmd set to {}…", "x".repeat(LONGEST))]);
    }
}

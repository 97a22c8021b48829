//! Forms without I/O: what a document says becomes what is shown, and what was entered becomes a
//! changed document, or messages at the fields that are not right.

use std::collections::BTreeMap;

use lvs_config::{Code, Diagnostic, Document, Level, Path, Resolver, Severity, check_value, parse};

use super::fields::{Field, Form, Kind};
use crate::gate::Fields;

/// The prefix of the hidden fields with what was shown when the form was made.
pub const WAS: &str = "was.";

/// A value for every field of a form, in the form's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries {
    form: &'static Form,
    values: Vec<String>,
}

impl Entries {
    /// What a document says.
    #[must_use]
    pub fn shown(form: &'static Form, document: &Document, path: Path) -> Self {
        let values = form.fields().map(|field| shown(field, document, path)).collect();
        Self { form, values }
    }

    /// What a browser has sent; what it has not is as in `shown`.
    #[must_use]
    pub fn sent(form: &'static Form, fields: &Fields, shown: &Self) -> Self {
        Self::sent_as("", form, fields, shown)
    }

    /// What was shown when the form was made.
    #[must_use]
    pub fn was(form: &'static Form, fields: &Fields, shown: &Self) -> Self {
        Self::sent_as(WAS, form, fields, shown)
    }

    fn sent_as(prefix: &str, form: &'static Form, fields: &Fields, shown: &Self) -> Self {
        let values = form
            .fields()
            .zip(&shown.values)
            .map(|(field, shown)| match fields.get(&format!("{prefix}{}", field.name)) {
                Some(sent) if is_same(sent, shown) => shown.clone(),
                Some(sent) if field.kind == Kind::Exact => sent.to_owned(),
                Some(sent) => sent.trim_matches([' ', '\t']).to_owned(),
                None => shown.clone(),
            })
            .collect();
        Self { form, values }
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.iter().find(|(field, _)| field.name == name).map_or("", |(_, value)| value)
    }

    /// Gives a field another value.
    pub fn set(&mut self, name: &str, value: &str) {
        for (field, entry) in self.form.fields().zip(&mut self.values) {
            if field.name == name {
                value.clone_into(entry);
            }
        }
    }

    /// Fields and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Field, &str)> {
        self.form.fields().zip(self.values.iter().map(String::as_str))
    }

    /// The form.
    #[must_use]
    pub const fn form(&self) -> &'static Form {
        self.form
    }
}

/// Whether a browser has sent back what was shown. It leaves out line ends, or makes others of them,
/// and cannot show a NUL (HTML, value sanitization).
fn is_same(sent: &str, shown: &str) -> bool {
    let plain = |text: &str| text.replace(['\r', '\n'], "").replace('\0', "\u{fffd}");
    sent == shown || plain(sent) == plain(shown)
}

/// A field's value as it is shown: of a choice that the file does not make, what that means.
fn shown(field: &Field, document: &Document, path: Path) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if field.key.is_empty() {
        return document.name(path).map(text).unwrap_or_default();
    }
    match (document.get(path, field.key), field.kind) {
        (Some(words), _) if has_two_words(field.key, path.level()) => {
            words.get(field.word).map(|word| text(word)).unwrap_or_default()
        }
        (Some(words), _) => text(&words.join(&b' ')),
        (None, Kind::Choice(_)) => field.default.to_owned(),
        (None, _) => String::new(),
    }
}

/// Whether a key takes an address and a device.
fn has_two_words(key: &str, level: Level) -> bool {
    matches!((key, level), ("address", Level::Block) | ("nat_router", Level::Global))
}

/// Messages by field.
pub type Messages = BTreeMap<&'static str, String>;

/// What becomes of what was entered.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is what the file says already.
    Same,
    /// The document with it.
    Changed(Document),
    /// It cannot be; a message without a field is under the empty name.
    Refused(Messages),
}

/// Brings what was entered into a document. Only what differs from `shown`, which is what the
/// document says, is looked at and written.
#[must_use]
pub fn enter(
    document: &Document,
    path: Path,
    entries: &Entries,
    resolver: &dyn Resolver,
) -> Outcome {
    let shown = Entries::shown(entries.form, document, path);
    let changed: Vec<&'static Field> = entries
        .iter()
        .zip(&shown.values)
        .filter(|((_, entry), shown)| entry != shown)
        .map(|((field, _), _)| field)
        .collect();
    if changed.is_empty() {
        return Outcome::Same;
    }
    let mut new = document.clone();
    let mut messages = Messages::new();
    let mut done: Vec<&str> = Vec::new();
    for field in &changed {
        if done.contains(&field.key) {
            continue;
        }
        done.push(field.key);
        if let Err((name, message)) = write(&mut new, path, field, entries, resolver) {
            messages.insert(name, message);
        }
    }
    for (name, message) in second_thoughts(document, &new, path, &changed, resolver) {
        messages.entry(name).or_insert(message);
    }
    if !messages.is_empty() {
        return Outcome::Refused(messages);
    }
    if new == *document { Outcome::Same } else { Outcome::Changed(new) }
}

/// Writes one key.
fn write(
    document: &mut Document,
    path: Path,
    field: &'static Field,
    entries: &Entries,
    resolver: &dyn Resolver,
) -> Result<(), (&'static str, String)> {
    let at = |name: &'static str| move |error: lvs_config::EditError| (name, error.to_string());
    if field.key.is_empty() {
        let name = entries.get(field.name);
        if name.is_empty() {
            return Err((field.name, "a name is needed".to_owned()));
        }
        return document.rename(path, name).map_err(at(field.name));
    }
    let words: Vec<(&'static Field, &str)> =
        entries.iter().filter(|(other, _)| other.key == field.key).collect();
    if words.iter().all(|(_, word)| word.is_empty()) {
        return document.unset(path, field.key).map(drop).map_err(at(field.name));
    }
    if let Some((missing, _)) = words.iter().find(|(_, word)| word.is_empty()) {
        let message = "an address and its device belong together: fill in both, or neither";
        return Err((missing.name, message.to_owned()));
    }
    let values: Vec<&str> = words.iter().map(|(_, word)| *word).collect();
    // Of two words it is the address that can be wrong, unless the other cannot be written at all.
    let unwritable = words.iter().find(|(_, word)| word.contains(['\n', '\0']));
    let blamed = unwritable.or(words.first()).map_or(field.name, |(field, _)| field.name);
    check_value(path.level(), field.key, &values, resolver).map_err(at(blamed))?;
    document.set(path, field.key, &values).map_err(at(blamed))
}

/// Errors about the value alone, whatever else stands in the file. The parser takes such a value and
/// uses another one, or the kernel refuses it; who enters it is better told at once.
const OF_THE_VALUE: [Code; 7] = [
    Code::OutOfRange,
    Code::PortRange,
    Code::WeightRange,
    Code::LabelTooLong,
    Code::NetmaskHoles,
    Code::TimeoutTooLong,
    Code::TimeoutZero,
];

/// What only shows when the whole is read.
fn second_thoughts(
    old: &Document,
    new: &Document,
    path: Path,
    changed: &[&'static Field],
    resolver: &dyn Resolver,
) -> Messages {
    let mut messages = Messages::new();
    let parsed = parse(new.as_bytes(), resolver);
    for field in changed.iter().filter(|field| !field.key.is_empty()) {
        let Some(place) = new.locate(path, field.key) else { continue };
        let found = parsed.diagnostics.iter().find(|finding| {
            finding.line == place.line
                && finding.severity == Severity::Error
                && OF_THE_VALUE.contains(&finding.code)
        });
        if let Some(finding) = found {
            // A label is the device's business.
            let own = |other: &&&Field| other.key == field.key && other.word == 1;
            let blamed = changed.iter().find(own).filter(|_| finding.code == Code::LabelTooLong);
            let name = blamed.map_or(field.name, |field| field.name);
            messages.insert(name, refusal(finding));
        }
    }
    if messages.is_empty()
        && let Err(error) = parsed.config
        && parse(old.as_bytes(), resolver).config.is_ok()
    {
        // Values that are right one by one make a file that is not: that should not be possible.
        messages.insert("", format!("the file would not be read any more: {error}"));
    }
    messages
}

/// What is wrong with a value that is not taken, without what would be used in its place.
fn refusal(finding: &Diagnostic) -> String {
    let message = match finding.message.rsplit_once(": ") {
        Some((wrong, instead)) if instead.ends_with(" is used") => wrong,
        _ => &finding.message,
    };
    let hint = finding.hint.as_deref().map(|hint| format!(": {hint}"));
    format!("{message}{}", hint.unwrap_or_default())
}

/// What was entered into a form that was made before the file changed, and the file's present state.
#[derive(Debug, PartialEq, Eq)]
pub struct Merged {
    /// The user's entries, and the file's where the user entered nothing.
    pub entries: Entries,
    /// What is to be said at fields that somebody else has changed.
    pub messages: Messages,
}

/// Puts the user's entries upon what the file says now.
#[must_use]
pub fn merge(was: &Entries, entered: &Entries, now: &Entries) -> Merged {
    let mut entries = now.clone();
    let mut messages = Messages::new();
    for ((((field, mine), was), now), slot) in
        entered.iter().zip(&was.values).zip(&now.values).zip(&mut entries.values)
    {
        let is_mine = mine != was;
        if is_mine {
            mine.clone_into(slot);
        }
        if now != was && mine != now {
            let quoted = |value: &str| {
                if value.is_empty() { "blank".to_owned() } else { format!("“{value}”") }
            };
            let what = format!("somebody changed this from {} to {}", quoted(was), quoted(now));
            messages.insert(field.name, what);
        }
    }
    Merged { entries, messages }
}

#[cfg(test)]
mod tests {
    use super::super::fields;
    use super::*;
    use lvs_config::{BlockKind, NoResolver};

    const TEXT: &str = "\
# kept
primary = 10.0.0.1
virtual web {
     active = 1
     address = 192.0.2.10 eth0:1   
     # why so long
     timeout = 20
     send = \"GET / HTTP/1.0\\r\\n\\r\\n \"
     server a {
         address = 10.0.0.11
         weight = 3
     }
}
";

    const BLOCK: Path = Path::Block { kind: BlockKind::Virtual, index: 0 };

    fn document() -> Document {
        Document::new(TEXT.as_bytes().to_vec())
    }

    fn entered(form: &'static Form, path: Path, values: &[(&str, &str)]) -> Outcome {
        let document = document();
        let shown = Entries::shown(form, &document, path);
        let fields = values.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let entries = Entries::sent(form, &Fields(fields.collect()), &shown);
        enter(&document, path, &entries, &NoResolver)
    }

    fn text(outcome: Outcome) -> String {
        match outcome {
            Outcome::Changed(document) => String::from_utf8(document.into_bytes()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn refusal(outcome: Outcome) -> Messages {
        match outcome {
            Outcome::Refused(messages) => messages,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_shown_is_what_stands_there_or_what_its_absence_means() {
        let shown = Entries::shown(&fields::VIRTUAL, &document(), BLOCK);
        for (name, value) in [
            ("name", "web"),
            ("address", "192.0.2.10"),
            ("device", "eth0:1"),
            ("timeout", "20"),
            ("scheduler", "wlc"),
            ("quiesce_server", "0"),
            ("port", ""),
            ("vip_nmask", ""),
        ] {
            assert_eq!(shown.get(name), value, "{name}");
        }
    }

    #[test]
    fn sending_back_what_was_shown_changes_nothing() {
        for (form, path) in [
            (&fields::GLOBAL, Path::Global),
            (&fields::REDUNDANCY, Path::Global),
            (&fields::VIRTUAL, BLOCK),
            (&fields::FAILOVER, BLOCK),
            (&fields::SCRIPTS, BLOCK),
            (&fields::SERVER, BLOCK.server(0)),
        ] {
            let document = document();
            let shown = Entries::shown(form, &document, path);
            let sent = shown.iter().map(|(field, value)| (field.name.into(), value.into()));
            let again = Entries::sent(form, &Fields(sent.collect()), &shown);
            assert_eq!(enter(&document, path, &again, &NoResolver), Outcome::Same);
        }
    }

    #[test]
    fn what_a_browser_cannot_send_back_is_left_alone() {
        let document = Document::new(b"active_cmd = \"a\rb\0c\"\nprimary = 10.0.0.1\n".to_vec());
        let shown = Entries::shown(&fields::GLOBAL, &document, Path::Global);
        for sent in ["ab\u{fffd}c", "a\r\nb\u{fffd}c"] {
            let fields = Fields(vec![("active_cmd".to_owned(), sent.to_owned())]);
            let entries = Entries::sent(&fields::GLOBAL, &fields, &shown);
            assert_eq!(enter(&document, Path::Global, &entries, &NoResolver), Outcome::Same);
        }
    }

    #[test]
    fn only_what_was_changed_is_written() {
        let changed = text(entered(
            &fields::VIRTUAL,
            BLOCK,
            &[("timeout", " 6 "), ("device", "eth0:2"), ("scheduler", "wlc"), ("port", "")],
        ));
        let wanted = TEXT.replace("timeout = 20", "timeout = 6").replace("eth0:1", "eth0:2");
        assert_eq!(changed, wanted);
    }

    #[test]
    fn blank_takes_a_key_away() {
        let changed = text(entered(&fields::SCRIPTS, BLOCK, &[("send", "")]));
        assert!(!changed.contains("send"), "{changed}");
        let changed = text(entered(&fields::VIRTUAL, BLOCK, &[("address", ""), ("device", "")]));
        assert!(!changed.contains("192.0.2.10"), "{changed}");
    }

    #[test]
    fn blanks_count_in_texts_that_are_sent() {
        let changed = text(entered(&fields::SCRIPTS, BLOCK, &[("expect", " OK ")]));
        assert!(changed.contains("expect = \" OK \""), "{changed}");
        let same = entered(&fields::SCRIPTS, BLOCK, &[("send", "GET / HTTP/1.0\\r\\n\\r\\n ")]);
        assert_eq!(same, Outcome::Same);
    }

    #[test]
    fn what_the_parser_would_refuse_is_said_at_the_field() {
        let cases: [(&'static Form, Path, &str, &str, &str, &str); 13] = [
            (&fields::GLOBAL, Path::Global, "primary", "10.0.0.300", "primary", "invalid argument"),
            (&fields::GLOBAL, Path::Global, "primary", "0.0.0.0", "primary", "invalid host name"),
            (&fields::GLOBAL, Path::Global, "network", "bridge", "network", "invalid argument"),
            (&fields::GLOBAL, Path::Global, "syncd_id", "256", "syncd_id", "0 to 255"),
            (&fields::GLOBAL, Path::Global, "nat_router", "10.0.0.9", "nat_router_device", "both"),
            (&fields::GLOBAL, Path::Global, "tcp_timeout", "-1", "tcp_timeout", "0 to"),
            (&fields::REDUNDANCY, Path::Global, "keepalive", "often", "keepalive", "integer"),
            (&fields::VIRTUAL, BLOCK, "name", "", "name", "needed"),
            (&fields::VIRTUAL, BLOCK, "name", "a\nb", "name", "line end"),
            (&fields::VIRTUAL, BLOCK, "port", "99999", "port", "beyond 0 to 65535: give"),
            (&fields::VIRTUAL, BLOCK, "device", "eth0:a-label-too-long", "device", "15 bytes"),
            (&fields::VIRTUAL, BLOCK, "vip_nmask", "255.0.255.0", "vip_nmask", "no netmask"),
            (&fields::SERVER, BLOCK.server(0), "weight", "70000", "weight", "beyond"),
        ];
        for (form, path, name, value, at, part) in cases {
            let messages = refusal(entered(form, path, &[(name, value)]));
            assert!(
                messages.get(at).is_some_and(|text| text.contains(part)),
                "{name} {messages:?}"
            );
            assert_eq!(messages.len(), 1, "{name} {messages:?}");
        }
    }

    #[test]
    fn all_messages_come_at_once() {
        let entries = [("port", "70000"), ("vip_nmask", "y"), ("timeout", "5"), ("name", "")];
        let messages = refusal(entered(&fields::VIRTUAL, BLOCK, &entries));
        assert_eq!(messages.keys().collect::<Vec<_>>(), [&"name", &"port", &"vip_nmask"]);
    }

    #[test]
    fn what_is_wrong_already_does_not_keep_the_rest_from_being_mended() {
        let document = Document::new(b"keepalive = often\ndeadtime = 18\n".to_vec());
        let shown = Entries::shown(&fields::REDUNDANCY, &document, Path::Global);
        assert_eq!(shown.get("keepalive"), "often");
        let mut entries = shown.clone();
        entries.set("deadtime", "20");
        let Outcome::Changed(new) = enter(&document, Path::Global, &entries, &NoResolver) else {
            panic!()
        };
        assert_eq!(new.as_bytes(), b"keepalive = often\ndeadtime = 20\n");
        entries.set("keepalive", "6");
        let Outcome::Changed(new) = enter(&document, Path::Global, &entries, &NoResolver) else {
            panic!()
        };
        assert_eq!(new.as_bytes(), b"keepalive = 6\ndeadtime = 20\n");
    }

    #[test]
    fn hostile_names_are_written_so_that_they_are_read_again() {
        for name in [
            "<script>alert(1)</script>",
            "a \"b\" c",
            "it's",
            "{",
            "}",
            "#",
            "=",
            "\"",
            "caf\u{e9} \u{202e}",
            &"long".repeat(200),
        ] {
            let changed = text(entered(&fields::VIRTUAL, BLOCK, &[("name", name)]));
            let document = Document::new(changed.into_bytes());
            assert_eq!(document.name(BLOCK), Some(name.as_bytes()), "{name}");
            assert_eq!(document.block_count(BlockKind::Virtual), 1, "{name}");
        }
        let unwritable = entered(&fields::VIRTUAL, BLOCK, &[("name", "a\" b' c")]);
        assert!(refusal(unwritable)["name"].contains("cannot be written"));
    }

    #[test]
    fn entries_are_put_upon_what_others_have_changed() {
        let was = Entries::shown(&fields::VIRTUAL, &document(), BLOCK);
        let mut mine = was.clone();
        mine.set("timeout", "6");
        mine.set("reentry", "15");
        let mut now = was.clone();
        now.set("timeout", "30");
        now.set("port", "8080");
        now.set("reentry", "15");
        let merged = merge(&was, &mine, &now);
        assert_eq!(merged.entries.get("timeout"), "6", "mine stays");
        assert_eq!(merged.entries.get("port"), "8080", "theirs is not undone");
        assert_eq!(
            merged.messages.into_iter().collect::<Vec<_>>(),
            [
                ("port", "somebody changed this from blank to “8080”".to_owned()),
                ("timeout", "somebody changed this from “20” to “30”".to_owned()),
            ]
        );
    }
}

//! Forms as templates take them.

use super::fields::{Field, Group, Kind};
use super::file::Loaded;
use super::findings::{Finding, Places};
use super::form::{Entries, Messages, WAS};
use super::target::Target;

/// A choice of a field.
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) label: String,
    pub(super) is_chosen: bool,
}

/// A field.
pub(super) struct Input {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) help: &'static str,
    pub(super) value: String,
    /// What is meant where nothing is entered.
    pub(super) placeholder: &'static str,
    /// Why it is not taken; empty: it is.
    pub(super) error: String,
    pub(super) findings: Vec<Finding>,
    /// Empty: anything can be entered.
    pub(super) choices: Vec<Choice>,
    /// What is usual.
    pub(super) usual: &'static [&'static str],
    /// It is a long text.
    pub(super) is_long: bool,
    /// A button beside it makes it blank.
    pub(super) can_be_blanked: bool,
}

impl Input {
    fn new(
        field: &'static Field,
        value: &str,
        messages: &Messages,
        findings: Vec<Finding>,
    ) -> Self {
        Self {
            name: field.name,
            label: field.label,
            help: field.help,
            value: value.to_owned(),
            placeholder: field.default,
            error: messages.get(field.name).cloned().unwrap_or_default(),
            findings,
            choices: choices(field.kind, value),
            usual: match field.kind {
                Kind::Usual(usual) => usual,
                _ => &[],
            },
            is_long: matches!(field.name, "send_program" | "send" | "expect" | "name")
                || field.name.ends_with("_cmd"),
            can_be_blanked: matches!(field.name, "send" | "expect"),
        }
    }

    /// The ids of what is said about it.
    pub(super) fn described_by(&self) -> String {
        let ids = [
            (!self.error.is_empty(), "error-"),
            (!self.findings.is_empty(), "found-"),
            (!self.help.is_empty(), "help-"),
        ];
        let ids: Vec<String> = ids
            .iter()
            .filter(|(is_there, _)| *is_there)
            .map(|(_, prefix)| format!("{prefix}{}", self.name))
            .collect();
        ids.join(" ")
    }
}

/// The choices of a kind. What the file says and nobody could choose is among them, so that it is not
/// changed unseen.
fn choices(kind: Kind, value: &str) -> Vec<Choice> {
    let Kind::Choice(choices) = kind else { return Vec::new() };
    let choice = |(choice, label): &(&str, &str)| Choice {
        value: (*choice).to_owned(),
        label: (*label).to_owned(),
        is_chosen: *choice == value,
    };
    let mut all: Vec<Choice> = choices.iter().map(choice).collect();
    if !all.iter().any(|choice| choice.is_chosen) {
        all.push(Choice { value: value.to_owned(), label: value.to_owned(), is_chosen: true });
    }
    all
}

/// Fields that belong together.
pub(super) struct Fieldset {
    pub(super) title: &'static str,
    pub(super) is_folded: bool,
    pub(super) is_open: bool,
    pub(super) inputs: Vec<Input>,
}

/// A button beside Accept.
pub(super) struct Button {
    pub(super) action: &'static str,
    pub(super) label: &'static str,
}

/// A form.
pub(super) struct FormView {
    pub(super) action: String,
    pub(super) cancel: String,
    /// The file that it was made from.
    pub(super) base: String,
    /// What was shown when it was made, and what it is about: names and values of hidden fields.
    pub(super) hidden: Vec<(String, String)>,
    pub(super) fieldsets: Vec<Fieldset>,
    pub(super) buttons: Vec<Button>,
    /// Messages at fields: where they are and what the fields are called.
    pub(super) wrong: Vec<(&'static str, &'static str)>,
    /// What there is to say about what the form is about, but not about one of its fields.
    pub(super) findings: Vec<Finding>,
}

/// The most findings shown above a form.
const FINDINGS: usize = 10;

impl FormView {
    pub(super) fn new(
        loaded: &Loaded,
        target: Target,
        entries: &Entries,
        messages: &Messages,
    ) -> Self {
        let places = Places::new(&loaded.document, &loaded.diagnostics);
        let was = Entries::shown(entries.form(), &loaded.document, target.path());
        let mut hidden: Vec<(String, String)> = was
            .iter()
            .map(|(field, value)| (format!("{WAS}{}", field.name), value.to_owned()))
            .collect();
        let names = target.names(&loaded.document);
        hidden.extend(names.into_iter().map(|name| ("at".to_owned(), name)));
        let mut values = entries.iter();
        let fieldsets: Vec<Fieldset> = entries
            .form()
            .groups
            .iter()
            .map(|group| fieldset(group, &mut values, &places, target, messages))
            .collect();
        let inputs = || fieldsets.iter().flat_map(|set| &set.inputs);
        let wrong = inputs()
            .filter(|input| !input.error.is_empty())
            .map(|input| (input.name, input.label))
            .collect();
        let shown: Vec<&Finding> = inputs().flat_map(|input| &input.findings).collect();
        let findings = about(&places, target)
            .into_iter()
            .filter(|finding| !shown.contains(&finding))
            .take(FINDINGS)
            .collect();
        Self {
            action: target.page(),
            cancel: target.back(),
            base: loaded.identity.to_string(),
            hidden,
            wrong,
            findings,
            fieldsets,
            buttons: Vec::new(),
        }
    }
}

fn fieldset<'v>(
    group: &'static Group,
    values: &mut impl Iterator<Item = (&'static Field, &'v str)>,
    places: &Places<'_>,
    target: Target,
    messages: &Messages,
) -> Fieldset {
    let inputs: Vec<Input> = values
        .take(group.fields.len())
        .map(|(field, value)| {
            // Of a key with two fields the findings stand at the first.
            let found = (!field.key.is_empty() && field.word == 0)
                .then(|| places.at_key(target.path(), field.key));
            let findings = found.into_iter().flatten().map(Finding::new).collect();
            Input::new(field, value, messages, findings)
        })
        .collect();
    let needs_a_look = |input: &Input| {
        !input.error.is_empty()
            || !input.findings.is_empty()
            || (!input.value.is_empty() && input.value != input.placeholder)
    };
    Fieldset {
        title: group.title,
        is_folded: group.folded,
        is_open: inputs.iter().any(needs_a_look),
        inputs,
    }
}

/// What is said about what a form is about.
fn about(places: &Places<'_>, target: Target) -> Vec<Finding> {
    use lvs_config::Code::{EmptyConfiguration, NoActiveBlock};
    let path = target.path();
    match target {
        // That there is nothing yet is seen without being told.
        Target::Global => places
            .of_file()
            .filter(|found| !matches!(found.code, EmptyConfiguration | NoActiveBlock))
            .map(Finding::new)
            .collect(),
        Target::Redundancy => ["backup_active", "heartbeat"]
            .into_iter()
            .flat_map(|key| places.at_key(path, key))
            .map(Finding::new)
            .collect(),
        _ => places.within(path).map(Finding::new).collect(),
    }
}

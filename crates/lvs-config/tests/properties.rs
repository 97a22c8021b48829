//! What holds for every file and every edit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use lvs_config::{BlockKind, Document, EditError, Level, NoResolver, Path, check, parse, render};
use proptest::prelude::*;
use proptest::sample::{Index, select};

// Files made of anything.

/// Pieces that the parser has an opinion on.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&str> = Level::Global
        .keys()
        .chain(Level::Block.keys())
        .chain(Level::Server.keys())
        .chain([
            "virtual",
            "failover",
            "server",
            "virtaul",
            "{",
            "}",
            "=",
            "\"",
            "'",
            "#",
            "[",
            "]",
            " ",
            "\t",
            "\n",
            "\r\n",
            "\r",
            "0",
            "1",
            "-1",
            "0x10",
            "99999999999999999999",
            "10.0.0.1",
            "10.0.0.2",
            "0.0.0.0",
            "eth0:1",
            "255.255.255.0",
            "255.0.255.0",
            "http",
            "wlc",
            "tcp",
            "udp",
            "nat",
            "direct",
            "fos",
            "lvs",
            "web",
            "\"a b\"",
            "'",
            "x=y",
            "\u{feff}",
            "\u{e9}",
        ])
        .collect();
    prop_oneof![
        8 => select(words).prop_map(|word| word.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ]
}

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let line =
        (proptest::collection::vec(fragment(), 0..6), any::<bool>()).prop_map(|(words, cr)| {
            let mut line = words.join(&b' ');
            line.extend_from_slice(if cr { b"\r\n" } else { b"\n" });
            line
        });
    let whole = select(vec![
        "virtual a {\n",
        "failover f {\n",
        "server s {\n",
        "}\n",
        "active = 1\n",
        "port = 80\n",
        "address = 10.0.0.1 eth0:1\n",
        "address = 10.0.0.1\n",
        "# comment\n",
        "\n",
        "primary = 10.0.0.1\n",
    ]);
    let piece = prop_oneof![1 => line, 2 => whole.prop_map(|line| line.as_bytes().to_vec())];
    proptest::collection::vec(piece, 0..24).prop_map(|lines| lines.concat())
}

fn any_file() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![soup(), proptest::collection::vec(any::<u8>(), 0..200)]
}

fn any_path() -> impl Strategy<Value = Path> {
    let kind = || select(vec![BlockKind::Virtual, BlockKind::Failover]);
    prop_oneof![
        Just(Path::Global),
        (kind(), 0..3_usize).prop_map(|(kind, index)| Path::Block { kind, index }),
        (kind(), 0..3_usize, 0..3_usize).prop_map(|(kind, block, index)| Path::Server {
            kind,
            block,
            index
        }),
    ]
}

fn any_word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..8),
        proptest::collection::vec(select(b"a\"' \t\\#=\r{}".to_vec()), 0..8),
    ]
}

proptest! {
    #[test]
    fn every_byte_is_kept(text in any_file()) {
        let parsed = parse(&text, &NoResolver);
        prop_assert_eq!(parsed.document.as_bytes(), &text[..]);
        prop_assert_eq!(Document::new(text.clone()).to_bytes(), text);
    }

    #[test]
    fn errors_have_diagnostics_and_all_can_be_shown(text in any_file()) {
        let parsed = parse(&text, &NoResolver);
        let lines = text.split(|byte| *byte == b'\n').count();
        for diagnostic in &parsed.diagnostics {
            prop_assert!(diagnostic.line <= lines);
            let escaped = diagnostic.message.chars().all(|c| !c.is_control());
            prop_assert!(escaped, "{}", diagnostic.message);
        }
        if let Err(error) = &parsed.config {
            let same = |d: &&lvs_config::Diagnostic| (d.line, d.code) == (error.line, error.code);
            prop_assert!(parsed.diagnostics.iter().any(|d| same(&d)));
        }
        let shown = render(&parsed.diagnostics, "lvs.cf", &text);
        prop_assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown}");
    }

    #[test]
    fn document_and_configuration_agree(text in soup()) {
        let parsed = parse(&text, &NoResolver);
        let Ok(config) = parsed.config else { return Ok(()) };
        let _ = check(&config, &parsed.document);
        for kind in [BlockKind::Virtual, BlockKind::Failover] {
            let blocks = config.blocks(kind);
            prop_assert_eq!(blocks.len(), parsed.document.block_count(kind));
            for (index, block) in blocks.iter().enumerate() {
                let path = Path::Block { kind, index };
                let heading = parsed.document.heading(path).unwrap();
                prop_assert_eq!(heading.line, block.line as usize);
                prop_assert_eq!(block.servers.len(), parsed.document.server_count(path));
                for (index, server) in block.servers.iter().enumerate() {
                    let heading = parsed.document.heading(path.server(index)).unwrap();
                    prop_assert_eq!(heading.line, server.line as usize);
                }
            }
        }
    }

    #[test]
    fn no_edit_of_any_file_panics_and_refused_edits_change_nothing(
        text in any_file(), path in any_path(), word in any_word(), at in 0..4_usize,
        key in select(Level::Global.keys().chain(Level::Block.keys()).collect::<Vec<_>>()),
    ) {
        let try_edit = |edit: &dyn Fn(&mut Document) -> Result<(), EditError>| {
            let mut document = Document::new(text.clone());
            if edit(&mut document).is_err() {
                assert_eq!(document.as_bytes(), &text[..]);
            }
        };
        try_edit(&|d| d.set(path, key, &[&word]));
        try_edit(&|d| d.set(path, "address", &[&word, &word]));
        try_edit(&|d| d.unset(path, key).map(drop));
        try_edit(&|d| d.rename(path, &word));
        try_edit(&|d| d.add_block(BlockKind::Failover, at, &word).map(drop));
        try_edit(&|d| d.add_block(BlockKind::Virtual, at, &word).map(drop));
        try_edit(&|d| d.add_server(path, at, &word).map(drop));
        try_edit(&|d| d.remove(path));
        try_edit(&|d| d.move_to(path, at));
    }

    #[test]
    fn a_written_word_reads_the_same(word in any_word(), old in any_word()) {
        let path = Path::Block { kind: BlockKind::Virtual, index: 0 };
        let mut document = Document::new(b"virtual a {\n}\n".to_vec());
        for word in [&old, &word] {
            if document.set(path, "send", &[word]).is_err() {
                let both = word.windows(2).filter(|pair| b" \t".contains(&pair[1]));
                let quotes: Vec<u8> = both.map(|pair| pair[0]).collect();
                prop_assert!(
                    word.contains(&b'\n') || word.contains(&0)
                        || (quotes.contains(&b'"') && quotes.contains(&b'\''))
                );
                continue;
            }
            let config = parse(document.as_bytes(), &NoResolver).config.unwrap();
            prop_assert_eq!(config.virtuals[0].send.as_deref(), Some(&word[..]));
            prop_assert_eq!(document.get(path, "send"), Some(vec![&word[..]]));
        }
    }
}

// Sound files in many layouts, against a model of what they say.

type Setting = (&'static str, Vec<String>);

#[derive(Clone, Debug, Default)]
struct Block {
    kind: &'static str,
    name: String,
    settings: Vec<Setting>,
    servers: Vec<Block>,
}

/// A file as what it says: the global settings are those of a block without a name.
#[derive(Clone, Debug)]
struct Model {
    globals: Vec<Setting>,
    failovers: Vec<Block>,
    virtuals: Vec<Block>,
}

#[derive(Clone, Debug)]
struct Layout {
    line_end: &'static str,
    indent: &'static str,
    /// What stands above each line, in turn.
    above: Vec<&'static str>,
}

struct Writer<'l> {
    layout: &'l Layout,
    text: String,
    lines: usize,
}

impl Writer<'_> {
    fn line(&mut self, depth: usize, line: &str) {
        let end = self.layout.line_end;
        if let Some(above) = self.layout.above.get(self.lines % self.layout.above.len().max(1)) {
            for extra in above.split_terminator('|') {
                self.text += &format!("{extra}{end}");
            }
        }
        self.text += &format!("{}{line}{end}", self.layout.indent.repeat(depth));
        self.lines += 1;
    }

    fn settings(&mut self, depth: usize, settings: &[Setting]) {
        for (key, words) in settings {
            let words: Vec<_> = words
                .iter()
                .map(|word| if word.contains(' ') { format!("'{word}'") } else { word.clone() })
                .collect();
            self.line(depth, &format!("{key} = {}", words.join(" ")));
        }
    }

    fn block(&mut self, depth: usize, block: &Block) {
        self.line(depth, &format!("{} \"{}\" {{", block.kind, block.name));
        self.settings(depth + 1, &block.settings);
        for server in &block.servers {
            self.block(depth + 1, server);
        }
        self.line(depth, "}");
    }
}

impl Model {
    fn write(&self, layout: &Layout) -> Vec<u8> {
        let mut writer = Writer { layout, text: String::new(), lines: 0 };
        writer.settings(0, &self.globals);
        for block in self.failovers.iter().chain(&self.virtuals) {
            writer.block(0, block);
        }
        writer.text.into_bytes()
    }

    fn blocks(&mut self, kind: BlockKind) -> &mut Vec<Block> {
        match kind {
            BlockKind::Virtual => &mut self.virtuals,
            BlockKind::Failover => &mut self.failovers,
        }
    }

    fn settings(&mut self, path: Path) -> &mut Vec<Setting> {
        match path {
            Path::Global => &mut self.globals,
            Path::Block { kind, index } => &mut self.blocks(kind)[index].settings,
            Path::Server { kind, block, index } => {
                &mut self.blocks(kind)[block].servers[index].settings
            }
        }
    }

    fn siblings(&mut self, path: Path) -> &mut Vec<Block> {
        match path {
            Path::Global => unreachable!("only blocks have siblings"),
            Path::Block { kind, .. } => self.blocks(kind),
            Path::Server { kind, block, .. } => &mut self.blocks(kind)[block].servers,
        }
    }

    /// What the file says, wherever its settings stand.
    fn meaning(&self) -> serde_json::Value {
        let layout = Layout { line_end: "\n", indent: "", above: vec![""] };
        meaning(&self.write(&layout))
    }
}

/// A file of no bytes is refused; here it stands for one that says nothing.
fn meaning(text: &[u8]) -> serde_json::Value {
    let text = if text.is_empty() { b"\n" } else { text };
    parse(text, &NoResolver).config.unwrap_or_else(|e| panic!("{e}\n{text:?}")).to_json()
}

fn setting(level: Level) -> BoxedStrategy<Setting> {
    let number = |key: &'static str| {
        (0..60_000_u32).prop_map(move |number| (key, vec![number.to_string()])).boxed()
    };
    let time = |key: &'static str| {
        let unit = select(vec!["", "ms", "s", ".5s"]);
        (0..60_000_u32, unit)
            .prop_map(move |(number, unit)| (key, vec![format!("{number}{unit}")]))
            .boxed()
    };
    let word = |key: &'static str| {
        "[a-z/#=]{1,6}( [a-z\"]{1,4})?".prop_map(move |word| (key, vec![word])).boxed()
    };
    let pair = |key: &'static str| {
        (1..250_u8, 0..9_u8)
            .prop_map(move |(a, b)| (key, vec![format!("10.0.0.{a}"), format!("eth0:{b}")]))
            .boxed()
    };
    let host = |key: &'static str| {
        (1..250_u8).prop_map(move |last| (key, vec![format!("10.0.0.{last}")])).boxed()
    };
    let flag = |key: &'static str| {
        any::<bool>().prop_map(move |on| (key, vec![u8::from(on).to_string()])).boxed()
    };
    let choices = match level {
        Level::Global => vec![
            number("serial_no"),
            host("primary"),
            host("backup"),
            host("backup_private"),
            flag("backup_active"),
            number("keepalive"),
            time("deadtime"),
            flag("standby_checks"),
            pair("nat_router"),
            word("active_cmd"),
            flag("hard_shutdown"),
            word("rsh_command"),
        ],
        Level::Block => vec![
            flag("active"),
            pair("address"),
            number("fwmark"),
            number("persistent"),
            word("send"),
            word("expect"),
            number("timeout"),
            flag("quiesce_server"),
            word("start_cmd"),
            number("port"),
        ],
        Level::Server => vec![host("address"), flag("active"), number("port"), number("weight")],
    };
    proptest::strategy::Union::new(choices).boxed()
}

fn settings(level: Level) -> impl Strategy<Value = Vec<Setting>> {
    proptest::collection::vec(setting(level), 0..6)
}

fn block(kind: &'static str) -> impl Strategy<Value = Block> {
    let server = ("[a-z]{1,3}", settings(Level::Server)).prop_map(|(name, settings)| Block {
        kind: "server",
        name,
        settings,
        servers: Vec::new(),
    });
    ("[a-z ]{1,4}", settings(Level::Block), proptest::collection::vec(server, 0..3))
        .prop_map(move |(name, settings, servers)| Block { kind, name, settings, servers })
}

fn model() -> impl Strategy<Value = Model> {
    let failovers = proptest::collection::vec(block("failover"), 0..3);
    let virtuals = proptest::collection::vec(block("virtual"), 0..4);
    (settings(Level::Global), failovers, virtuals)
        .prop_map(|(globals, failovers, virtuals)| Model { globals, failovers, virtuals })
}

fn layout() -> impl Strategy<Value = Layout> {
    let above = select(vec!["", "", "", "# note", "|", "# a|# b", "|# head|", "\t"]);
    (
        select(vec!["\n", "\r\n"]),
        select(vec!["", "     ", "\t"]),
        proptest::collection::vec(above, 1..8),
    )
        .prop_map(|(line_end, indent, above)| Layout { line_end, indent, above })
}

#[derive(Clone, Debug)]
enum Edit {
    Set(Setting, Setting, Setting),
    Unset(Index),
    Rename(String),
    AddBlock(Index, String),
    AddServer(Index, String),
    Remove,
    Move(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => (setting(Level::Global), setting(Level::Block), setting(Level::Server))
            .prop_map(|(global, block, server)| Edit::Set(global, block, server)),
        1 => any::<Index>().prop_map(Edit::Unset),
        1 => "[a-z\"]{1,4}".prop_map(Edit::Rename),
        1 => (any::<Index>(), "[a-z]{1,3}").prop_map(|(at, name)| Edit::AddBlock(at, name)),
        1 => (any::<Index>(), "[a-z]{1,3}").prop_map(|(at, name)| Edit::AddServer(at, name)),
        1 => Just(Edit::Remove),
        1 => any::<Index>().prop_map(Edit::Move),
    ]
}

/// Every path of the model, the global one first.
fn paths(model: &Model) -> Vec<Path> {
    let mut paths = vec![Path::Global];
    for (kind, blocks) in
        [(BlockKind::Failover, &model.failovers), (BlockKind::Virtual, &model.virtuals)]
    {
        for (index, block) in blocks.iter().enumerate() {
            let path = Path::Block { kind, index };
            paths.push(path);
            paths.extend((0..block.servers.len()).map(|server| path.server(server)));
        }
    }
    paths
}

/// Makes the edit on the document and on the model; `None` where it does not apply.
fn perform(edit: &Edit, path: Path, document: &mut Document, model: &mut Model) -> Option<()> {
    match edit {
        Edit::Set(global, block, server) => {
            let (key, words) = match path.level() {
                Level::Global => global,
                Level::Block => block,
                Level::Server => server,
            };
            document.set(path, key, words).unwrap();
            model.settings(path).push((key, words.clone()));
        }
        Edit::Unset(which) => {
            let settings = model.settings(path);
            let key = settings.get(which.index(settings.len().max(1)))?.0;
            settings.retain(|(other, _)| *other != key);
            assert!(document.unset(path, key).unwrap());
        }
        Edit::AddBlock(at, name) => {
            let kind = if name.len() == 1 { BlockKind::Failover } else { BlockKind::Virtual };
            let blocks = model.blocks(kind);
            let at = at.index(blocks.len() + 1);
            let added = Block { kind: kind.as_str(), name: name.clone(), ..Block::default() };
            blocks.insert(at, added);
            let path = document.add_block(kind, at, name).unwrap();
            assert_eq!(path, Path::Block { kind, index: at });
        }
        Edit::AddServer(at, name) => {
            let Path::Block { kind, index } = path else { return None };
            let servers = &mut model.blocks(kind)[index].servers;
            let at = at.index(servers.len() + 1);
            let added = Block { kind: "server", name: name.clone(), ..Block::default() };
            servers.insert(at, added);
            assert_eq!(document.add_server(path, at, name).unwrap(), path.server(at));
        }
        Edit::Rename(_) | Edit::Remove | Edit::Move(_) if path == Path::Global => return None,
        Edit::Rename(name) => {
            document.rename(path, name).unwrap();
            let (Path::Block { index, .. } | Path::Server { index, .. }) = path else {
                return None;
            };
            model.siblings(path)[index].name.clone_from(name);
        }
        Edit::Remove => {
            document.remove(path).unwrap();
            let (Path::Block { index, .. } | Path::Server { index, .. }) = path else {
                return None;
            };
            model.siblings(path).remove(index);
        }
        Edit::Move(to) => {
            let (Path::Block { index, .. } | Path::Server { index, .. }) = path else {
                return None;
            };
            let siblings = model.siblings(path);
            let to = to.index(siblings.len());
            let moved = siblings.remove(index);
            siblings.insert(to, moved);
            document.move_to(path, to).unwrap();
        }
    }
    Some(())
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

/// The lines that differ, between those that both have at the start and at the end.
fn difference<'t>(before: &[&'t [u8]], after: &[&'t [u8]]) -> (Vec<&'t [u8]>, Vec<&'t [u8]>) {
    let head = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let (before, after) = (&before[head..], &after[head..]);
    let tail = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
    (before[..before.len() - tail].to_vec(), after[..after.len() - tail].to_vec())
}

/// The edit has changed its own place and nothing else.
fn assert_local(edit: &Edit, line_end: &str, before: &[u8], after: &[u8]) {
    let (before, after) = (lines(before), lines(after));
    let (gone, come) = difference(&before, &after);
    match edit {
        Edit::Set(..) => {
            assert!(gone.len() <= 1 && come.len() <= 1, "{gone:?} {come:?}");
            assert!(come.iter().all(|line| line.ends_with(line_end.as_bytes())));
        }
        Edit::Rename(_) => assert!(gone.len() == come.len() && gone.len() <= 1),
        Edit::AddBlock(..) | Edit::AddServer(..) => {
            assert_eq!((gone.len(), come.len()), (0, 2));
            assert!(come.iter().all(|line| line.ends_with(line_end.as_bytes())));
        }
        Edit::Remove => assert!(come.is_empty() && !gone.is_empty()),
        Edit::Unset(_) => {
            let mut rest = before.iter();
            assert!(after.iter().all(|line| rest.any(|other| other == line)));
        }
        Edit::Move(_) => {
            let sorted = |mut lines: Vec<_>| {
                lines.sort_unstable();
                lines
            };
            assert_eq!(sorted(before), sorted(after));
        }
    }
}

proptest! {
    #[test]
    fn edits_change_their_place_and_nothing_else(
        mut model in model(),
        layout in layout(),
        edits in proptest::collection::vec((edit(), any::<Index>()), 1..6),
    ) {
        let mut document = Document::new(model.write(&layout));
        prop_assert_eq!(meaning(document.as_bytes()), model.meaning());
        for (edit, whereabouts) in &edits {
            let all = paths(&model);
            let path = all[whereabouts.index(all.len())];
            let before = document.to_bytes();
            if perform(edit, path, &mut document, &mut model).is_none() {
                continue;
            }
            let end = if before.windows(2).any(|pair| pair == b"\r\n") { "\r\n" } else { "\n" };
            assert_local(edit, end, &before, document.as_bytes());
            prop_assert_eq!(
                meaning(document.as_bytes()), model.meaning(),
                "{:?} at {:?}\n{}\n{}", edit, path,
                String::from_utf8_lossy(&before), String::from_utf8_lossy(document.as_bytes())
            );
            let reread = Document::new(document.to_bytes());
            prop_assert_eq!(&reread, &document);
        }
    }
}

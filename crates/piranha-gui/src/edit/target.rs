//! What a page is about: its place in the document and its path on the web.

use lvs_config::{BlockKind, Document, Path};

use super::fields::{self, Form};
use crate::frame::{Link, Tab};

/// Something that has a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// GLOBAL SETTINGS.
    Global,
    /// REDUNDANCY.
    Redundancy,
    /// The first part of a block.
    Block(BlockKind, usize),
    /// The checks of a block's servers.
    Scripts(BlockKind, usize),
    /// A real server: its block's kind and index, and its own index.
    Server(BlockKind, usize, usize),
}

/// The page with the list of blocks.
#[must_use]
pub const fn root(kind: BlockKind) -> &'static str {
    match kind {
        BlockKind::Virtual => "/secure/virtual",
        BlockKind::Failover => "/secure/failover",
    }
}

/// A block's tab.
#[must_use]
pub const fn tab(kind: BlockKind) -> Tab {
    match kind {
        BlockKind::Virtual => Tab::Virtual,
        BlockKind::Failover => Tab::Failover,
    }
}

/// What a block of the kind is called.
#[must_use]
pub const fn noun(kind: BlockKind) -> &'static str {
    match kind {
        BlockKind::Virtual => "virtual server",
        BlockKind::Failover => "failover service",
    }
}

/// The number that stands for an index in a path.
const fn number(index: usize) -> usize {
    index.saturating_add(1)
}

/// The page of the servers of a block, which has this index.
#[must_use]
pub fn servers(kind: BlockKind, block: usize) -> String {
    format!("{}/{}/servers", root(kind), number(block))
}

impl Target {
    /// Its form.
    #[must_use]
    pub const fn form(self) -> &'static Form {
        match self {
            Self::Global => &fields::GLOBAL,
            Self::Redundancy => &fields::REDUNDANCY,
            Self::Block(kind, _) => fields::block(kind),
            Self::Scripts(..) => &fields::SCRIPTS,
            Self::Server(..) => &fields::SERVER,
        }
    }

    /// Its place in the document.
    #[must_use]
    pub const fn path(self) -> Path {
        match self {
            Self::Global | Self::Redundancy => Path::Global,
            Self::Block(kind, index) | Self::Scripts(kind, index) => Path::Block { kind, index },
            Self::Server(kind, block, index) => Path::Server { kind, block, index },
        }
    }

    /// Its page.
    #[must_use]
    pub fn page(self) -> String {
        match self {
            Self::Global => "/secure/global".to_owned(),
            Self::Redundancy => "/secure/redundancy".to_owned(),
            Self::Block(kind, index) => format!("{}/{}", root(kind), number(index)),
            Self::Scripts(kind, index) => format!("{}/{}/scripts", root(kind), number(index)),
            Self::Server(kind, block, index) => {
                format!("{}/{}", servers(kind, block), number(index))
            }
        }
    }

    /// Where Cancel leads to.
    #[must_use]
    pub fn back(self) -> String {
        match self {
            Self::Global | Self::Redundancy => self.page(),
            Self::Block(kind, _) | Self::Scripts(kind, _) => root(kind).to_owned(),
            Self::Server(kind, block, _) => servers(kind, block),
        }
    }

    /// Its tab.
    #[must_use]
    pub const fn tab(self) -> Tab {
        match self {
            Self::Global => Tab::Global,
            Self::Redundancy => Tab::Redundancy,
            Self::Block(kind, _) | Self::Scripts(kind, _) | Self::Server(kind, ..) => tab(kind),
        }
    }

    /// Its heading.
    #[must_use]
    pub fn title(self, document: &Document) -> String {
        let name = |path| {
            let name = document.name(path).unwrap_or_default();
            String::from_utf8_lossy(name).into_owned()
        };
        let capital = |kind| match kind {
            BlockKind::Virtual => "Virtual server",
            BlockKind::Failover => "Failover service",
        };
        match self {
            Self::Global => "Global settings".to_owned(),
            Self::Redundancy => "Redundancy".to_owned(),
            Self::Block(kind, _) | Self::Scripts(kind, _) => {
                format!("{}: {}", capital(kind), name(self.path()))
            }
            Self::Server(kind, block, _) => {
                let block = name(Path::Block { kind, index: block });
                format!("Real server: {} of {block}", name(self.path()))
            }
        }
    }

    /// Whether the document has it.
    #[must_use]
    pub fn is_there(self, document: &Document) -> bool {
        self.path() == Path::Global || document.heading(self.path()).is_some()
    }

    /// The names by which it is found again: the block's, and the server's.
    #[must_use]
    pub fn names(self, document: &Document) -> Vec<String> {
        let name =
            |path| String::from_utf8_lossy(document.name(path).unwrap_or_default()).into_owned();
        match self {
            Self::Global | Self::Redundancy => Vec::new(),
            Self::Block(..) | Self::Scripts(..) => vec![name(self.path())],
            Self::Server(kind, block, _) => {
                vec![name(Path::Block { kind, index: block }), name(self.path())]
            }
        }
    }

    /// Where it is in a document that has changed: at its old place if it has its name there, else
    /// where that name is, if there is just one.
    #[must_use]
    pub fn follow(self, names: &[&str], document: &Document) -> Option<Self> {
        match (self, names) {
            (Self::Global | Self::Redundancy, _) => Some(self),
            (Self::Block(kind, index), [name, ..]) => {
                Some(Self::Block(kind, find_block(document, kind, index, name)?))
            }
            (Self::Scripts(kind, index), [name, ..]) => {
                Some(Self::Scripts(kind, find_block(document, kind, index, name)?))
            }
            (Self::Server(kind, block, index), [block_name, name, ..]) => {
                let block = find_block(document, kind, block, block_name)?;
                let own = Path::Block { kind, index: block };
                let count = document.server_count(own);
                let index = find(index, count, |at| is_named(document, own.server(at), name))?;
                Some(Self::Server(kind, block, index))
            }
            _ => None,
        }
    }
}

fn find_block(document: &Document, kind: BlockKind, index: usize, name: &str) -> Option<usize> {
    let count = document.block_count(kind);
    find(index, count, |at| is_named(document, Path::Block { kind, index: at }, name))
}

fn is_named(document: &Document, path: Path, name: &str) -> bool {
    document.name(path).is_some_and(|own| String::from_utf8_lossy(own) == name)
}

fn find(index: usize, count: usize, is_it: impl Fn(usize) -> bool) -> Option<usize> {
    if index < count && is_it(index) {
        return Some(index);
    }
    let mut all = (0..count).filter(|at| is_it(*at));
    let first = all.next();
    first.filter(|_| all.next().is_none())
}

/// The parts of a block, of which `current` is shown.
#[must_use]
pub fn parts(kind: BlockKind, block: usize, document: &Document, current: Part) -> Vec<Link> {
    let own = Path::Block { kind, index: block };
    let first = match kind {
        BlockKind::Virtual => "VIRTUAL SERVER",
        BlockKind::Failover => "FAILOVER",
    };
    // The servers of a failover service mean nothing, but a file may have some.
    let has_servers = kind == BlockKind::Virtual || document.server_count(own) > 0;
    [
        (first, Target::Block(kind, block).page(), Part::First, true),
        ("REAL SERVER", servers(kind, block), Part::Servers, has_servers),
        ("MONITORING SCRIPTS", Target::Scripts(kind, block).page(), Part::Scripts, true),
    ]
    .into_iter()
    .filter(|(.., is_there)| *is_there)
    .map(|(text, path, part, _)| Link { current: part == current, ..Link::new(text, path) })
    .collect()
}

/// The parts of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The block itself.
    First,
    /// Its servers.
    Servers,
    /// How they are checked.
    Scripts,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "virtual a {\n}\nvirtual b {\nserver x {\n}\nserver x {\n}\nserver y {\n}\n}\n";

    fn document(text: &str) -> Document {
        Document::new(text.as_bytes().to_vec())
    }

    #[test]
    fn what_a_form_is_about_is_found_again_by_name() {
        let b = Target::Block(BlockKind::Virtual, 1);
        let same = document(TEXT);
        assert_eq!(b.follow(&["b"], &same), Some(b));
        let moved = document(&TEXT.replace("virtual a {\n}\n", ""));
        assert_eq!(b.follow(&["b"], &moved), Some(Target::Block(BlockKind::Virtual, 0)));
        assert_eq!(b.follow(&["b"], &document("virtual a {\n}\n")), None, "it is gone");
        let twice = document(&TEXT.replace("virtual a {\n}\n", "virtual b {\n}\nvirtual c {\n}\n"));
        assert_eq!(b.follow(&["b"], &twice), None, "which of the two?");
        assert_eq!(Target::Global.follow(&[], &twice), Some(Target::Global));
        let y = Target::Server(BlockKind::Virtual, 1, 2);
        let moved =
            document(&TEXT.replace("virtual a {\n}\n", "").replacen("server x {\n}\n", "", 1));
        assert_eq!(y.follow(&["b", "y"], &moved), Some(Target::Server(BlockKind::Virtual, 0, 1)));
        let x = Target::Server(BlockKind::Virtual, 1, 1);
        assert_eq!(x.follow(&["b", "x"], &same), Some(x));
    }

    #[test]
    fn pages_count_from_one() {
        assert_eq!(Target::Block(BlockKind::Virtual, 0).page(), "/secure/virtual/1");
        assert_eq!(Target::Scripts(BlockKind::Failover, 1).page(), "/secure/failover/2/scripts");
        let server = Target::Server(BlockKind::Virtual, 2, 0);
        assert_eq!(server.page(), "/secure/virtual/3/servers/1");
        assert_eq!(server.back(), "/secure/virtual/3/servers");
        assert_eq!(server.title(&document(TEXT)), "Real server:  of ");
        assert!(!server.is_there(&document(TEXT)));
    }
}

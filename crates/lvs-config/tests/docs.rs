//! The page about lvs.cf names every key and every diagnostic, with the words of the code.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use lvs_config::{Code, Level};

#[test]
fn the_page_has_every_key_and_every_diagnostic() {
    let page = format!("{}/../../docs/lvs.cf.md", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(&page).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    for code in Code::ALL {
        let row = format!("| `{code}` | {} | {} | ", code.severity(), code.meaning());
        assert_eq!(rows.iter().filter(|r| r.starts_with(&row)).count(), 1, "{row}");
    }
    for level in [Level::Global, Level::Block, Level::Server] {
        for key in level.keys() {
            let row = format!("| `{key}` | ");
            assert!(rows.iter().any(|r| r.starts_with(&row)), "{key} {}", level.place());
        }
    }
    let keys: usize =
        [Level::Global, Level::Block, Level::Server].map(|level| level.keys().count()).iter().sum();
    assert_eq!(rows.len(), keys + Code::ALL.len(), "a row for something that does not exist");
}

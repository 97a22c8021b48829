//! What differs between two texts.

use std::time::Duration;

use similar::TextDiff;

/// Beyond this, a difference that is longer than needed is better than a longer wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// The difference as lines of a unified diff (POSIX diff -u) with three lines around each change;
/// empty if there is none. Bytes that are no UTF-8 appear as `U+FFFD`, but two lines that differ
/// only in such bytes are shown as different. Line ends are compared too.
#[must_use]
pub fn unified(old: &[u8], new: &[u8], old_name: &str, new_name: &str) -> String {
    if old == new {
        return String::new();
    }
    let difference = TextDiff::configure().timeout(PATIENCE).diff_lines(old, new);
    difference.unified_diff().header(old_name, new_name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ() {
        let old = b"serial_no = 1\na\nb\nc\nd\ne\xff\n";
        let new = b"serial_no = 2\na\nb\nc\nd\ne\xfe";
        assert_eq!(
            unified(old, new, "version 1", "version 2"),
            "--- version 1\n+++ version 2\n@@ -1,6 +1,6 @@\n-serial_no = 1\n+serial_no = 2\n \
             a\n b\n c\n d\n-e\u{fffd}\n+e\u{fffd}\n\\ No newline at end of file\n"
        );
        assert_eq!(unified(old, old, "a", "b"), "");
    }

    #[test]
    fn any_two_files_are_compared_in_bounded_time() {
        let text = |step: usize| -> Vec<u8> {
            (0..60_000_usize)
                .flat_map(|line| format!("server s{} {{\n", line * step % 60_013).into_bytes())
                .collect()
        };
        let difference = unified(&text(7919), &text(31), "a", "b");
        assert!(difference.starts_with("--- a\n+++ b\n@@ "));
    }
}

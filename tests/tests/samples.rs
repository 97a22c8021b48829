//! The files that an installation begins with.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use lvs_config::{NoResolver, Parsed, parse};

const LVS_CF: &str = include_str!("../../etc/sysconfig/ha/lvs.cf");

/// What `piranhactl check` has to say about a file.
fn findings(text: &str) -> Vec<&'static str> {
    let Parsed { config, diagnostics, .. } = parse(text.as_bytes(), &NoResolver);
    config.unwrap();
    diagnostics.iter().map(|finding| finding.code.as_str()).collect()
}

/// The sample with the commented lines of a passage put in force, from the line with `first` on.
fn with(first: &str) -> String {
    let mut inside = false;
    let lines = LVS_CF.lines().map(|line| {
        inside = (inside || line.contains(first)) && line.starts_with('#');
        if inside { line.strip_prefix("# ").unwrap_or_default() } else { line }
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_sample_does_nothing_until_it_is_told_to() {
    let config = parse(LVS_CF.as_bytes(), &NoResolver).config.unwrap();
    assert_eq!(config.active_blocks().count(), 0);
    // That it does nothing is all there is to be said about it.
    assert_eq!(findings(LVS_CF), ["no-active-block"]);
    let active = LVS_CF.replace("     active = 0\n", "     active = 1\n");
    assert_eq!(findings(&active), [""; 0]);
    let pair = active.replace("backup_active = 0\n", "backup_active = 1\n");
    assert_eq!(findings(&pair), [""; 0]);
}

#[test]
fn what_is_commented_out_in_the_sample_is_right_too() {
    let passages = ["primary_private =", "active_cmd =", "syncd_iface ="];
    for passage in passages {
        let text = with(passage).replace("     active = 0\n", "     active = 1\n");
        assert!(text.contains(&format!("\n{passage}")), "{passage}");
        assert_eq!(findings(&text), [""; 0], "{passage}");
    }
    let failover = with("failover ftp {").replace("service = lvs\n", "service = fos\n");
    let config = parse(failover.as_bytes(), &NoResolver).config.unwrap();
    assert_eq!(
        config.active_blocks().map(|block| block.name.as_str()).collect::<Vec<_>>(),
        ["ftp"]
    );
    let pair = failover.replace("backup_active = 0\n", "backup_active = 1\n");
    assert_eq!(findings(&pair), ["ignored-blocks"], "the virtual server of the sample");
}

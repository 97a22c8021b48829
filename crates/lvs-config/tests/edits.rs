//! Edits, one by one: what a file looks like before and after.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use lvs_config::{BlockKind, Document, EditError, Level, NoResolver, Path, check_value, parse};

const VIRTUAL: fn(usize) -> Path = |index| Path::Block { kind: BlockKind::Virtual, index };
const FAILOVER: fn(usize) -> Path = |index| Path::Block { kind: BlockKind::Failover, index };

fn edited(
    before: &str,
    edit: impl FnOnce(&mut Document) -> Result<(), EditError>,
) -> Result<String, EditError> {
    let mut document = Document::new(before.as_bytes().to_vec());
    let outcome = edit(&mut document);
    let after = String::from_utf8(document.into_bytes()).unwrap();
    match outcome {
        Ok(()) => Ok(after),
        Err(error) => {
            assert_eq!(after, before, "a refused edit changes nothing");
            Err(error)
        }
    }
}

fn set(before: &str, path: Path, key: &str, words: &[&str]) -> String {
    edited(before, |document| document.set(path, key, words)).unwrap()
}

#[test]
fn set_changes_the_value_alone() {
    let cases = [
        ("  keepalive\t=  6  \r\nx = 1\n", "  keepalive\t=  7  \r\nx = 1\n"),
        ("keepalive = \"6\"\n", "keepalive = \"7\"\n"),
        ("keepalive = '6'", "keepalive = '7'"),
        ("keepalive = 5\nkeepalive = 6\n", "keepalive = 5\nkeepalive = 7\n"),
        ("keepalive = 7 \n", "keepalive = 7 \n"),
        (" keepalive 6 # x\n", " keepalive = 7\n"),
        ("keepalive = \"6\r\n", "keepalive = 7\r\n"),
        ("keepalive =\n", "keepalive = 7\n"),
    ];
    for (before, after) in cases {
        assert_eq!(set(before, Path::Global, "keepalive", &["7"]), after, "{before:?}");
    }
}

#[test]
fn each_word_of_a_pair_keeps_its_quotes() {
    let before = "virtual a {\naddress = \"10.0.0.1\"   eth0:1\n}\n";
    assert_eq!(
        set(before, VIRTUAL(0), "address", &["10.0.0.1", "eth0:2"]),
        "virtual a {\naddress = \"10.0.0.1\"   eth0:2\n}\n"
    );
    assert_eq!(
        set(before, VIRTUAL(0), "address", &["10.0.0.2", "eth0:1"]),
        "virtual a {\naddress = \"10.0.0.2\"   eth0:1\n}\n"
    );
}

#[test]
fn a_new_global_setting_goes_where_its_order_has_it() {
    let cases = [
        ("", "keepalive = 7\n"),
        ("# head\n", "# head\nkeepalive = 7\n"),
        ("# head", "# head\nkeepalive = 7\n"),
        ("primary = 10.0.0.1", "primary = 10.0.0.1\nkeepalive = 7\n"),
        ("primary = 10.0.0.1\r", "primary = 10.0.0.1\r\nkeepalive = 7\r\n"),
        ("primary = a\r\ndeadtime = 9\r\n", "primary = a\r\nkeepalive = 7\r\ndeadtime = 9\r\n"),
        ("\n# dead\n deadtime = 9\n", "\n keepalive = 7\n# dead\n deadtime = 9\n"),
        ("deadtime = 9\nheartbeat = 1\n", "deadtime = 9\nheartbeat = 1\nkeepalive = 7\n"),
        ("# web\nvirtual a {\n}\n", "keepalive = 7\n# web\nvirtual a {\n}\n"),
        ("virtual a {\n}\nsync = 0\n", "virtual a {\n}\nkeepalive = 7\nsync = 0\n"),
    ];
    for (before, after) in cases {
        assert_eq!(set(before, Path::Global, "keepalive", &["7"]), after, "{before:?}");
    }
}

#[test]
fn a_new_setting_of_a_block_follows_its_neighbours() {
    let gui = "virtual a {\n     active = 1\n     scheduler = wlc\n     server b {\n         \
               address = 10.0.0.3\n     }\n}\n";
    assert_eq!(
        set(gui, VIRTUAL(0), "port", &["443"]),
        gui.replace("active = 1\n", "active = 1\n     port = 443\n")
    );
    assert_eq!(
        set(gui, VIRTUAL(0), "timeout", &["6"]),
        gui.replace("wlc\n", "wlc\n     timeout = 6\n")
    );
    assert_eq!(
        set(gui, VIRTUAL(0).server(0), "weight", &["2"]),
        gui.replace("10.0.0.3\n", "10.0.0.3\n         weight = 2\n")
    );
    assert_eq!(
        set("virtual a {\n}\n", VIRTUAL(0), "port", &["1"]),
        "virtual a {\n     port = 1\n}\n"
    );
    assert_eq!(
        set("virtual a {\n\tserver b {\n\t}\n}\n", VIRTUAL(0).server(0), "port", &["1"]),
        "virtual a {\n\tserver b {\n\t    port = 1\n\t}\n}\n"
    );
    assert_eq!(
        set("virtual a {\n\tport = 2\n}\nfailover b {\n}\n", FAILOVER(0), "port", &["1"]),
        "virtual a {\n\tport = 2\n}\nfailover b {\n\tport = 1\n}\n"
    );
}

#[test]
fn a_new_port_reaches_every_server() {
    let before = "virtual a {\n# first\nserver b {\n}\nactive = 1\n}\n";
    assert_eq!(
        set(before, VIRTUAL(0), "port", &["443"]),
        "virtual a {\nport = 443\n# first\nserver b {\n}\nactive = 1\n}\n"
    );
}

#[test]
fn values_are_quoted_where_they_need_it() {
    let cases = [
        ("/bin/true", "\"/bin/true\""),
        ("a b", "\"a b\""),
        ("", "\"\""),
        ("say \"hello\" loud", "'say \"hello\" loud'"),
        ("it's \"ok\"", "\"it's \"ok\"\""),
        ("GET /#x", "\"GET /#x\""),
        ("\\r\\n", "\"\\r\\n\""),
        ("tail\r", "\"tail\r\""),
    ];
    for (value, written) in cases {
        let after = set("virtual a {\n}\n", VIRTUAL(0), "send", &[value]);
        assert_eq!(after, format!("virtual a {{\n     send = {written}\n}}\n"));
        let config = parse(after.as_bytes(), &NoResolver).config.unwrap();
        assert_eq!(config.virtuals[0].send.as_deref(), Some(value.as_bytes()));
    }
    assert_eq!(set("", Path::Global, "rsh_command", &["ssh"]), "rsh_command = ssh\n");
    assert_eq!(set("", Path::Global, "rsh_command", &["'x"]), "rsh_command = \"'x\"\n");
    assert_eq!(set("send_x\n", Path::Global, "debug_level", &[""]), "send_x\ndebug_level = \"\"\n");
    let unquoted = "virtual a {\nsend = QUIT\n}\n";
    assert_eq!(set(unquoted, VIRTUAL(0), "send", &["HELP"]), "virtual a {\nsend = HELP\n}\n");
    let dirs = set("virtual a {\n}\n", VIRTUAL(0), "dirs", &["[", "a b", "]"]);
    assert_eq!(dirs, "virtual a {\n     dirs = [ \"a b\" ]\n}\n");
}

#[test]
fn what_cannot_be_written_says_so() {
    let refuse = |value: &str| {
        edited("virtual a {\n}\n", |document| document.set(VIRTUAL(0), "send", &[value]))
            .unwrap_err()
            .to_string()
    };
    assert!(refuse("a\nb").contains("write \\n"), "{}", refuse("a\nb"));
    assert!(refuse("a\0").contains("zero byte"));
    assert!(refuse("\" ' ").contains("no escape"), "{}", refuse("\" ' "));
}

#[test]
fn wrong_paths_keys_and_counts_are_refused() {
    let text = "virtual a {\nserver b {\n}\n}\n";
    let refuse = |path: Path, key: &str, words: &[&str]| {
        edited(text, |document| document.set(path, key, words)).unwrap_err().to_string()
    };
    assert_eq!(
        refuse(Path::Global, "keepalve", &["1"]),
        "unknown command: `keepalve` does not belong among the global settings; did you mean \
         `keepalive`?"
    );
    assert!(refuse(VIRTUAL(0), "weight", &["1"]).contains("inside a virtual or failover block"));
    assert!(refuse(VIRTUAL(1), "port", &["1"]).starts_with("there is no virtual number 2"));
    assert!(
        refuse(VIRTUAL(2).server(0), "port", &["1"]).starts_with("there is no virtual number 3")
    );
    assert!(
        refuse(VIRTUAL(0).server(1), "port", &["1"]).starts_with("there is no server number 2")
    );
    assert!(refuse(VIRTUAL(0), "address", &["10.0.0.1"]).contains("an address and a device"));
    assert!(refuse(VIRTUAL(0), "port", &[]).contains("one word, not 0"));
    assert!(refuse(VIRTUAL(0), "dirs", &["a", "b"]).contains("brackets"));
    let edit = |edit: &dyn Fn(&mut Document) -> Result<(), EditError>| {
        edited(text, |document| edit(document)).unwrap_err()
    };
    assert!(matches!(edit(&|d| d.remove(Path::Global)), EditError::NotABlock { .. }));
    assert!(matches!(edit(&|d| d.rename(Path::Global, "x")), EditError::NotABlock { .. }));
    assert!(matches!(edit(&|d| d.move_to(VIRTUAL(0), 1)), EditError::NoSuch { .. }));
    assert!(matches!(
        edit(&|d| d.add_block(BlockKind::Virtual, 2, "x").map(drop)),
        EditError::NoSuch { .. }
    ));
    assert!(matches!(
        edit(&|d| d.add_server(Path::Global, 0, "x").map(drop)),
        EditError::NotABlock { .. }
    ));
    assert!(matches!(edit(&|d| d.rename(VIRTUAL(usize::MAX), "x")), EditError::NoSuch { .. }));
}

#[test]
fn unset_removes_every_line_of_the_key() {
    let text =
        "sync = 1\nvirtual a {\nport = 1\n# why\nport = 2\nserver b {\nport = 3\n}\n}\nsync = 0";
    let mut document = Document::new(text.into());
    assert_eq!(document.unset(VIRTUAL(0), "port"), Ok(true));
    assert_eq!(document.unset(VIRTUAL(0), "port"), Ok(false));
    assert_eq!(document.unset(Path::Global, "sync"), Ok(true));
    assert_eq!(document.as_bytes(), b"virtual a {\n# why\nserver b {\nport = 3\n}\n}\n");
    assert!(document.unset(Path::Global, "port").is_err());
}

#[test]
fn rename() {
    let rename = |before: &str, path: Path, name: &str| {
        edited(before, |document| document.rename(path, name)).unwrap()
    };
    assert_eq!(rename("virtual  a  { \r\n}\n", VIRTUAL(0), "b c"), "virtual  \"b c\"  { \r\n}\n");
    assert_eq!(rename("virtual 'a b' {\n}\n", VIRTUAL(0), "x"), "virtual 'x' {\n}\n");
    assert_eq!(rename(" virtual {\n}\n", VIRTUAL(0), "x"), " virtual x {\n}\n");
    assert_eq!(
        rename("virtual a {\n server b {\n }\n}\n", VIRTUAL(0).server(0), "[server_name]"),
        "virtual a {\n server [server_name] {\n }\n}\n"
    );
    assert!(edited("virtual a {\n}\n", |d| d.rename(VIRTUAL(0), "x\ny")).is_err());
}

#[test]
fn added_blocks_stand_where_the_web_interface_puts_them() {
    let add = |before: &str, kind: BlockKind, at: usize, name: &str| {
        edited(before, |document| document.add_block(kind, at, name).map(drop)).unwrap()
    };
    use BlockKind::{Failover, Virtual};
    assert_eq!(add("", Virtual, 0, "a"), "virtual a {\n}\n");
    assert_eq!(add("sync = 1\r\n", Virtual, 0, "a b"), "sync = 1\r\nvirtual \"a b\" {\r\n}\r\n");
    assert_eq!(
        add("# web\nvirtual a {\n}\n", Failover, 0, "f"),
        "failover f {\n}\n# web\nvirtual a {\n}\n"
    );
    assert_eq!(
        add("virtual a {\n}\n# tail\n", Virtual, 1, "b"),
        "virtual a {\n}\nvirtual b {\n}\n# tail\n"
    );
    assert_eq!(
        add("# web\nvirtual a {\n}\n", Virtual, 0, "b"),
        "virtual b {\n}\n# web\nvirtual a {\n}\n"
    );
    assert_eq!(
        add("virtual a {\n server x {\n", Virtual, 1, "b"),
        "virtual a {\n server x {\n }\n}\nvirtual b {\n}\n"
    );
}

#[test]
fn added_servers() {
    let add = |before: &str, at: usize, name: &str| {
        edited(before, |document| document.add_server(VIRTUAL(0), at, name).map(drop)).unwrap()
    };
    assert_eq!(
        add("virtual a {\n  port = 1\n}\n", 0, "s"),
        "virtual a {\n  port = 1\n  server s {\n  }\n}\n"
    );
    assert_eq!(
        add("virtual a {\n\tserver s {\n\t}\n# end\n}\n", 1, "t"),
        "virtual a {\n\tserver s {\n\t}\n\tserver t {\n\t}\n# end\n}\n"
    );
    assert_eq!(
        add("virtual a {\n# s\nserver s {\n}\n}\n", 0, "t"),
        "virtual a {\nserver t {\n}\n# s\nserver s {\n}\n}\n"
    );
    assert_eq!(
        add("virtual a {\nserver s {", 1, "t"),
        "virtual a {\nserver s {\n}\nserver t {\n}\n}\n"
    );
}

#[test]
fn removed_blocks_take_their_comments_along() {
    let remove = |before: &str, path: Path| edited(before, |d| d.remove(path)).unwrap();
    let text =
        "# head\n\n# a\n# a too\nvirtual a {\n}\n# b\nvirtual b {\n# s\nserver s {\n}\nport = 1\n}";
    assert_eq!(
        remove(text, VIRTUAL(0)),
        "# head\n\n# b\nvirtual b {\n# s\nserver s {\n}\nport = 1\n}"
    );
    assert_eq!(remove(text, VIRTUAL(1)), "# head\n\n# a\n# a too\nvirtual a {\n}\n");
    assert_eq!(
        remove(text, VIRTUAL(1).server(0)),
        "# head\n\n# a\n# a too\nvirtual a {\n}\n# b\nvirtual b {\nport = 1\n}"
    );
    assert_eq!(
        remove("virtual a {\nserver s {\nport = 1\n", VIRTUAL(0).server(0)),
        "virtual a {\n"
    );
}

#[test]
fn moved_blocks_leave_what_is_between_them() {
    let text =
        "# a\nvirtual a {\n}\n\nsync = 1\nvirtual b {\n}\nfailover f {\n}\n# c\nvirtual c {\n}";
    let to = |from: usize, to: usize| edited(text, |d| d.move_to(VIRTUAL(from), to)).unwrap();
    assert_eq!(
        to(2, 0),
        "# c\nvirtual c {\n}\n\nsync = 1\n# a\nvirtual a {\n}\nfailover f {\n}\nvirtual b {\n}\n"
    );
    assert_eq!(
        to(0, 1),
        "virtual b {\n}\n\nsync = 1\n# a\nvirtual a {\n}\nfailover f {\n}\n# c\nvirtual c {\n}\n"
    );
    assert_eq!(to(1, 1), text);
    let servers = "virtual a {\nserver x {\n}\n# y\nserver y {\n}\n}\n";
    assert_eq!(
        edited(servers, |d| d.move_to(VIRTUAL(0).server(1), 0)).unwrap(),
        "virtual a {\n# y\nserver y {\n}\nserver x {\n}\n}\n"
    );
    assert_eq!(
        edited("virtual a {\n}\nvirtual b {\n", |d| d.move_to(VIRTUAL(1), 0)).unwrap(),
        "virtual b {\n}\nvirtual a {\n}\n"
    );
}

#[test]
fn values_are_checked_by_the_parsers_own_rules() {
    let check = |level, key: &str, words: &[&str]| {
        check_value(level, key, words, &NoResolver).map_err(|error| error.to_string())
    };
    for time in ["6", "200ms", "1.5s"] {
        assert_eq!(check(Level::Global, "keepalive", &[time]), Ok(()));
    }
    assert_eq!(check(Level::Global, "standby_checks", &["1"]), Ok(()));
    let refused = check(Level::Global, "deadtime", &["1.5"]).unwrap_err();
    assert!(refused.starts_with("integer expected: write whole seconds, or"), "{refused}");
    assert_eq!(check(Level::Block, "address", &["10.0.0.1", "eth0:1"]), Ok(()));
    assert_eq!(check(Level::Server, "port", &["80"]), Ok(()));
    assert_eq!(
        check(Level::Block, "scheduler", &["WLC"]),
        Err(
            "invalid argument: did you mean `wlc`? scheduler takes rr, wrr, lc, wlc, lblc, lblcr, \
             dh or sh"
                .to_owned()
        )
    );
    assert!(check(Level::Server, "port", &["http"]).unwrap_err().starts_with("integer expected"));
    assert!(check(Level::Global, "port", &["80"]).unwrap_err().starts_with("unknown command"));
}

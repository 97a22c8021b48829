use super::*;
use proptest::prelude::*;

/// bcrypt at cost 4 of `secret`, by htpasswd.
const SECRET: &str = "$2y$04$aQZgpKaoCcWH.QWVU6Y80uHJEkyKLzhYHSyPNcNm3AJWndyeYMR5K";

fn file(text: &str) -> PasswordFile {
    PasswordFile::new(text.as_bytes().to_vec())
}

#[test]
fn lines_as_apache_reads_them() {
    let cases = [
        (format!("piranha:{SECRET}"), true, "no line end"),
        (format!("piranha:{SECRET}\r\n"), true, "line ends of another system"),
        (format!("  \tpiranha:{SECRET}  \n"), true, "white space around the line"),
        (format!("# admin\n\nother:x\npiranha:{SECRET}\n"), true, "other lines before it"),
        (format!("piranha:{SECRET}:Some One:/home\n"), true, "more fields"),
        (format!("piranha:{SECRET}\npiranha:x\n"), true, "the first line counts"),
        (format!("piranha:x\npiranha:{SECRET}\n"), false, "the first line counts"),
        (format!("#piranha:{SECRET}\n"), false, "a comment"),
        (format!(" #piranha:{SECRET}\n"), false, "a comment, indented"),
        (format!("Piranha:{SECRET}\n"), false, "another user"),
        (format!("piranha :{SECRET}\n"), false, "white space belongs to the name"),
        (format!("piranha: {SECRET}\n"), false, "white space belongs to the hash"),
        ("piranha\n".to_owned(), false, "no colon"),
        (String::new(), false, "no line"),
    ];
    for (text, want, why) in cases {
        assert_eq!(file(&text).verify(b"piranha", b"secret"), want, "{why}: {text:?}");
    }
}

#[test]
fn who_is_never_let_in() {
    let empty = "$2y$04$YSpXBoGe65q9RcwZp2P1hu9b1JQYodd1ADV5hHcjHUISqvAcBAQM6";
    let cases: &[(String, &[u8], &str)] = &[
        (format!("piranha:{empty}\n"), b"", "an empty password, though the entry is for it"),
        (format!("piranha:{SECRET}\n"), b"secret\0", "a NUL"),
        (format!("piranha:{SECRET}\n"), b"secret\0secret", "a NUL within"),
        (format!("piranha:{SECRET}\n"), b"", "an empty password"),
        ("piranha:secret\n".to_owned(), b"secret", "a password in the clear"),
        ("piranha:\n".to_owned(), b"", "an empty hash"),
        ("piranha:-\n".to_owned(), b"-", "what is checked in place of bad passwords"),
        (format!("other:{SECRET}\n"), b"secret", "another user's password"),
        (format!(":{SECRET}\n"), b"secret", "a user without a name"),
    ];
    for (text, password, why) in cases {
        assert!(!file(text).verify(b"piranha", password), "{why}");
    }
    assert!(file(&format!("u:{SECRET}")).verify(b"u", b"secret"));
    assert!(!file(&format!("u:{SECRET}")).verify(b"u", &[b's'; LONGEST + 1]));
}

#[test]
fn the_decoy_is_a_hash_as_costly_as_a_new_one() {
    let new = crate::new_hash::hash(b"x").unwrap();
    assert_eq!(
        Hash::parse(DECOY.as_bytes()).unwrap().cost(),
        Hash::parse(new.as_bytes()).unwrap().cost()
    );
}

#[test]
fn the_costliest_hash_stands_in_for_missing_users() {
    let des = "abJnggxhB/yWI";
    let apr1 = "$apr1$sA1z./1$u0w809dOAAGJMe4NURbzJ/";
    let form = |text: &str| file(text).costliest().map(|hash| hash.form());
    assert_eq!(form(&format!("a:{des}\nb:{apr1}\nc:plain\n")), Some(Form::Apr1));
    assert_eq!(form(&format!("a:{SECRET}\nb:{apr1}\n")), Some(Form::Bcrypt));
    assert_eq!(form("a:plain\n"), None);
}

#[test]
fn forms_and_why_entries_are_unusable() {
    let cases = [
        ("abJnggxhB/yWI", Ok(Form::Des)),
        ("{SHA}hvfkN/qlp/zhXR3cuerq6jd2Z7g=", Ok(Form::Sha1)),
        ("$apr1$sA1z./1$u0w809dOAAGJMe4NURbzJ/", Ok(Form::Apr1)),
        (SECRET, Ok(Form::Bcrypt)),
        ("{SHA}short", Err(Unusable::Damaged(Form::Sha1))),
        ("$apr1$ninechars$u0w809dOAAGJMe4NURbzJ/", Err(Unusable::Damaged(Form::Apr1))),
        ("$1$salt", Err(Unusable::Damaged(Form::Md5))),
        ("$2y$04$short", Err(Unusable::Damaged(Form::Bcrypt))),
        ("$5$rounds=10$salt$x", Err(Unusable::Damaged(Form::Sha256))),
        ("$5$rounds=x$salt$x", Err(Unusable::Damaged(Form::Sha256))),
        ("$6$rounds=999999999$salt$x", Err(Unusable::TooCostly(Form::Sha512))),
        (
            "$2y$31$lLGWb5YKmkbKbPAYTPNv4umw4oNW63dYkDMDgwyMEijkGGQ8QaOhu",
            Err(Unusable::TooCostly(Form::Bcrypt)),
        ),
        (
            "$2y$00$lLGWb5YKmkbKbPAYTPNv4umw4oNW63dYkDMDgwyMEijkGGQ8QaOhu",
            Err(Unusable::Damaged(Form::Bcrypt)),
        ),
        ("$2x$04$lLGWb5YKmkbKbPAYTPNv4umw4oNW63dYkDMDgwyMEijkGGQ8QaOhu", Err(Unusable::Unknown)),
        ("$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o", Err(Unusable::Unknown)),
        ("!!", Err(Unusable::Unknown)),
        ("*", Err(Unusable::Unknown)),
        ("hunter2", Err(Unusable::Unknown)),
    ];
    for (hash, want) in cases {
        assert_eq!(file(&format!("u:{hash}\n")).form("u"), Some(want), "{hash}");
    }
    assert_eq!(file("u:x\n").form("v"), None);
    assert!(Form::Apr1.is_weak() && !Form::Bcrypt.is_weak());
}

#[test]
fn setting_changes_one_line() {
    let cases = [
        ("", "piranha:H\n"),
        ("a:x\n", "a:x\npiranha:H\n"),
        ("a:x", "a:x\npiranha:H\n"),
        ("piranha:old\n", "piranha:H\n"),
        ("piranha:old", "piranha:H"),
        ("# c\r\npiranha:old\r\nb:y\r\n", "# c\r\npiranha:H\r\nb:y\r\n"),
        (" piranha:old:more \nb:y", " piranha:H:more \nb:y"),
        ("piranha:1\nb:y\npiranha:2\n#piranha:3\npiranha:4", "piranha:H\nb:y\n#piranha:3\n"),
        ("piranha\n", "piranha\npiranha:H\n"),
    ];
    for (old, new) in cases {
        let mut file = file(old);
        file.set("piranha", "H").unwrap();
        assert_eq!(String::from_utf8_lossy(file.as_bytes()), new, "{old:?}");
    }
}

#[test]
fn names_that_no_line_can_have() {
    for name in ["", "a:b", "#a", " a", "a ", "a\nb", "a\0"] {
        assert!(file("").set(name, "H").is_err(), "{name:?}");
    }
    assert!(file("").set("Jörg #1", "H").is_ok());
}

proptest! {
    #[test]
    fn any_file_keeps_all_lines_of_others(text in "([ #a-c:\r]{0,6}(\n|))*", user in "[a-c]{1,2}") {
        let others = |file: &PasswordFile| {
            let own = |line: &&[u8]| {
                line.trim_ascii().strip_prefix(user.as_bytes()).is_some_and(|l| l.starts_with(b":"))
            };
            let lines: Vec<Vec<u8>> = file.as_bytes().split(|&byte| byte == b'\n')
                .filter(|line| !line.is_empty() && !own(line)).map(<[u8]>::to_vec).collect();
            lines
        };
        let mut file = file(&text);
        let before = others(&file);
        file.set(&user, SECRET).unwrap();
        prop_assert_eq!(others(&file), before);
        prop_assert!(file.verify(user.as_bytes(), b"secret"));
        // Set again, it changes nothing more.
        let once = file.clone();
        file.set(&user, SECRET).unwrap();
        prop_assert_eq!(file, once);
    }

    #[test]
    fn any_bytes_are_a_file(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut file = PasswordFile::new(text);
        let _ = file.form("a");
        file.set("piranha", SECRET).unwrap();
        prop_assert!(file.verify(b"piranha", b"secret"));
    }
}

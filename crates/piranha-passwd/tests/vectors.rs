//! Every hash that other programs have made lets the right password in, and no other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use piranha_passwd::{Form, PasswordFile};

struct Vector {
    maker: &'static str,
    password: Vec<u8>,
    hash: &'static str,
}

fn vectors() -> Vec<Vector> {
    let lines = include_str!("data/vectors.tsv").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let [maker, password, hash] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            let bytes = password.as_bytes().chunks(2);
            let password = bytes
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
            Vector { maker, password, hash }
        })
        .collect()
}

fn form(vector: &Vector, file: &PasswordFile) -> Form {
    let Vector { maker, hash, .. } = vector;
    file.form("u").unwrap().unwrap_or_else(|error| panic!("{maker}: {hash}: {error}"))
}

/// How much of a password the form looks at, in bytes.
fn looked_at(form: Form) -> usize {
    match form {
        Form::Des => 8,
        Form::Bcrypt => 72,
        _ => usize::MAX,
    }
}

#[test]
fn the_right_password_and_no_other() {
    let mut forms = Vec::new();
    for vector in vectors() {
        let Vector { maker, password, hash } = &vector;
        let file = PasswordFile::new(format!("u:{hash}\n").into_bytes());
        let form = form(&vector, &file);
        assert!(file.verify(b"u", password), "{maker}: {hash}");
        let counts = password.len().min(looked_at(form));
        let mut wrongs = vec![Vec::from(&password[..counts - 1])];
        for at in [0, counts / 2, counts - 1] {
            let mut wrong = password.clone();
            wrong[at] ^= 1;
            wrongs.push(wrong);
        }
        let mut longer = password.clone();
        longer.push(b'x');
        if longer.len() <= looked_at(form) {
            wrongs.push(longer);
        } else {
            assert!(file.verify(b"u", &longer), "{maker}: {hash}: more than counts");
        }
        for wrong in wrongs {
            assert!(!file.verify(b"u", &wrong), "{maker}: {hash}: {wrong:?}");
        }
        forms.push(form);
    }
    let all =
        [Form::Des, Form::Sha1, Form::Apr1, Form::Md5, Form::Sha256, Form::Sha512, Form::Bcrypt];
    for form in all {
        let count = forms.iter().filter(|&&other| other == form).count();
        assert!(count >= 9, "{form:?}: {count}");
    }
}

#[test]
fn a_hash_with_one_character_changed_or_missing_lets_nobody_in() {
    // One vector of each form and maker; the salt's unused bits are another matter.
    for vector in vectors().into_iter().take(23) {
        let Vector { maker, password, hash } = &vector;
        let changed = |text: String| PasswordFile::new(format!("u:{text}\n").into_bytes());
        let end = hash.len() - if hash.starts_with("{SHA}") { 2 } else { 1 };
        for at in [end - 3, end - 8] {
            let other = if hash.as_bytes()[at] == b'k' { "m" } else { "k" };
            let mut text = (*hash).to_owned();
            text.replace_range(at..=at, other);
            assert!(!changed(text.clone()).verify(b"u", password), "{maker}: {hash}: {text}");
        }
        let shorter = hash[..hash.len() - 1].to_owned();
        let file = changed(shorter);
        assert!(file.form("u").unwrap().is_err(), "{maker}: {hash}");
        assert!(!file.verify(b"u", password), "{maker}: {hash}");
    }
}

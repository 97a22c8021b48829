//! Names, options, messages and exit status.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Server, check, fine, run};

#[test]
fn the_name_says_which_check() {
    let server = Server::http(|_| fine(""));
    let page = server.page("/");
    for name in ["lvs-check-http", "/usr/bin/lvs-check-http", "/etc/sysconfig/ha/lvs-check-http.sh"]
    {
        run(name, &[&page]).ok();
    }
    run("lvs-check", &["http", &page]).ok();
    run("anything", &["http", &page]).ok();
    for (name, words) in [
        ("lvs-check", vec![page.as_str()]),
        ("lvs-check-gopher", vec![&page]),
        ("lvs-check", vec![]),
    ] {
        let ran = run(name, &words);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""));
        assert!(ran.stderr.starts_with("lvs-check: no kind of check"), "{}", ran.stderr);
        assert!(
            ran.stderr.contains("(one of http, https, smtp, ftp, dns, tcp, mysql)"),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn wrong_use_is_told_and_is_no_verdict() {
    let cases: [(&str, &[&str], &str); 30] = [
        ("https", &[], "no host"),
        ("https", &[""], "no host in ''"),
        ("https", &["h", "443", "x"], "one word too many: 'x'"),
        ("https", &["h:443", "443"], "a second port: '443'"),
        ("https", &["h", "x"], "no port (1 to 65535): 'x'"),
        ("https", &["u@h"], "no user and password before the host: use --header (u@h)"),
        ("https", &["--nope", "h"], "bad argument --nope: unknown option"),
        ("https", &["-t"], "bad argument -t: missing argument"),
        ("https", &["-t", "x", "h"], "bad argument -t: invalid numeric value"),
        ("https", &["-t", "0", "h"], "--timeout 0: it may be 1 to 86400"),
        ("https", &["--redirects=-1", "h"], "--redirects -1: it may be 0 to 1000"),
        ("https", &["--tries=0", "h"], "--tries 0: it may be 1 to 1000"),
        ("https", &["-s", "2xx", "h"], "no status (100 to 999) or range of them: '2xx'"),
        ("https", &["-r", "h"], "--regex without --expect"),
        ("https", &["-re", "(", "h"], "--expect: "),
        ("https", &["-H", "a/b", "h"], "--host: a name only, no port and no path: 'a/b'"),
        ("https", &["--header=a b:c", "h"], "--header: not of the form Name:value"),
        ("https", &["--header=a:b\r\nc:d", "h"], "--header: control characters cannot be sent"),
        ("https", &["--path=/a", "h/b"], "--path: there is one in 'h/b'"),
        ("https", &["-d", "x", "h"], "bad argument -d: invalid numeric value"),
        ("http", &["--days=3", "h"], "bad argument --days: unknown option"),
        ("smtp", &["h/x"], "no name or address of a host: 'h/x'"),
        ("smtp", &["--helo=a\r\nb", "h"], "--helo: control characters cannot be sent"),
        ("dns", &["h"], "no name to ask for: --query NAME"),
        ("dns", &["-q", "a", "--type=X", "h"], "no type of records 'X': one of A, NS,"),
        ("dns", &["-q", "a..b", "h"], "no name: 'a..b'"),
        ("tcp", &["h"], "no port"),
        ("tcp", &["-r", "h", "1"], "--regex without --expect"),
        ("tcp", &["-re", "[", "h", "1"], "--expect: "),
        ("mysql", &["-u", "a\nb", "h"], "--user: control characters cannot be sent"),
    ];
    for (kind, words, why) in cases {
        let ran = check(kind, words);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{kind} {words:?}");
        let said = format!("lvs-check-{kind}: {why}");
        assert!(ran.stderr.starts_with(&said), "{said:?}: {:?}", ran.stderr);
        assert!(ran.stderr.contains(&format!("\nUsage: lvs-check-{kind} HOST")), "{}", ran.stderr);
    }
}

#[test]
fn help_usage_and_version() {
    for kind in ["http", "https", "smtp", "ftp", "dns", "tcp", "mysql"] {
        let ran = check(kind, &["--help"]);
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
        assert!(ran.stdout.starts_with(&format!("Usage: lvs-check-{kind} HOST")), "{}", ran.stdout);
        assert!(ran.stdout.contains("-t, --timeout=SECONDS"), "{}", ran.stdout);
        assert!(ran.stdout.lines().all(|line| line.len() <= 90), "{}", ran.stdout);
        assert_eq!(run("lvs-check", &[kind, "--help"]), ran);
        assert!(check(kind, &["--usage"]).stdout.contains("[-t|--timeout=SECONDS]"));
        assert!(check(kind, &["--version"]).stdout.starts_with("Program Version:\t"));
    }
    let ran = run("lvs-check", &["--help"]);
    assert!(
        ran.stdout.contains("  mysql  a MySQL or MariaDB server's greeting\n"),
        "{}",
        ran.stdout
    );
    assert!(run("lvs-check", &["--version"]).stdout.starts_with("Program Version:\t"));
    assert!(run("lvs-check", &["--usage"]).stdout.contains("[--usage]"));
}

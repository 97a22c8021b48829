//! https and http: verdicts, redirects, names and certificates.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Identity, LONG, Request, Server, VALID, check, fine, head};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How a server answers on a path, what the script of the field says of it, and the number of requests
/// it makes: found out with that script and wget 1.21.
const FIELD: [(&str, &str, usize); 45] = [
    ("/fine", "OK", 1),
    ("/line/HTTP/1.0 200 OK", "FAIL", 1),
    ("/line/HTTP/1.1 200", "FAIL", 1),
    ("/line/HTTP/1.1 200 ", "FAIL", 1),
    ("/line/HTTP/1.1 200 OKAY", "OK", 1),
    ("/line/HTTP/1.1 200 ok", "FAIL", 1),
    ("/line/HTTP/1.1  200 OK", "FAIL", 1),
    ("/line/HTTP/1.2 200 OK", "FAIL", 1),
    ("/line/HTTP/2 200 OK", "FAIL", 1),
    ("/line/HTTP/1.1 201 OK", "FAIL", 1),
    ("/line/HTTP/1.1 204 No Content", "FAIL", 1),
    ("/line/HTTP/1.1 206 OK", "FAIL", 1),
    ("/line/HTTP/1.1 304 OK", "FAIL", 1),
    ("/line/HTTP/1.1 401 OK", "FAIL", 1),
    ("/line/HTTP/1.1 404 OK", "FAIL", 1),
    ("/line/HTTP/1.1 503 OK", "FAIL", 1),
    ("/line/garbage", "FAIL", 1),
    ("/folded", "OK", 1),
    ("/no-field", "OK", 1),
    ("/interim", "OK", 1),
    ("/lf-only", "OK", 1),
    ("/moved/300", "OK", 2),
    ("/moved/301", "OK", 2),
    ("/moved/302", "OK", 2),
    ("/moved/303", "OK", 2),
    ("/moved/304", "FAIL", 1),
    ("/moved/305", "FAIL", 1),
    ("/moved/306", "FAIL", 1),
    ("/moved/307", "OK", 2),
    ("/moved/308", "OK", 2),
    ("/moved/200", "OK", 1),
    ("/to/next", "OK", 2),
    ("/to//fine", "OK", 2),
    ("/to//fine#part", "OK", 2),
    ("/to//fine?a b", "OK", 2),
    ("/to/ftp:%2f%2f127.0.0.1/x", "FAIL", 1),
    ("/nowhere", "FAIL", 1),
    ("/again", "FAIL", 21),
    ("/visitor", "OK", 2),
    ("/no-head/405", "FAIL", 1),
    ("/no-head/500", "OK", 2),
    ("/no-head/501", "OK", 2),
    ("/no-head/502", "FAIL", 1),
    ("/no-head/503", "FAIL", 1),
    ("/second-try", "OK", 2),
];

/// A server that behaves as [`FIELD`] says.
fn field() -> Server {
    let tries = AtomicUsize::new(0);
    Server::https(&Identity::new("x", VALID), move |request| {
        let path = request.path.replace("%20", " ");
        let rest = |prefix: &str| path.strip_prefix(prefix).map(|rest| rest.replace("%2f", "/"));
        if let Some(line) = rest("/line/") {
            return head(&[&line, "Content-Length: 0"]);
        }
        if let Some(status) = rest("/moved/") {
            return head(&[
                &format!("HTTP/1.1 {status} OK"),
                "Location: /fine",
                "Content-Length: 0",
            ]);
        }
        if let Some(location) = rest("/to/") {
            if location == "next" && path != "/to/next" {
                return fine("");
            }
            let location = if location == "next" { "/fine".to_owned() } else { location };
            return head(&[
                "HTTP/1.1 302 F",
                &format!("Location: {location}"),
                "Content-Length: 0",
            ]);
        }
        if let Some(status) = rest("/no-head/") {
            let status = format!("HTTP/1.1 {status} No");
            return if request.method == "HEAD" { head(&[&status]) } else { fine("page") };
        }
        match path.split('?').next().unwrap() {
            "/fine" => fine(""),
            "/folded" => head(&["HTTP/1.1 200 OK", "X: a", " b"]),
            "/no-field" => head(&["HTTP/1.1 200 OK", "no field", "Y : z"]),
            "/interim" => [head(&["HTTP/1.1 100 Continue"]), fine("")].concat(),
            "/lf-only" => b"HTTP/1.1 200 OK\nContent-Length: 0\n\n".to_vec(),
            "/nowhere" => head(&["HTTP/1.1 302 F", "Content-Length: 0"]),
            "/again" => head(&["HTTP/1.1 302 F", "Location: /again", "Content-Length: 0"]),
            "/visitor" => match request.field("cookie") {
                Some("visit=1") => fine(""),
                _ => head(&["HTTP/1.1 302 F", "Set-Cookie: visit=1; Path=/", "Location: /visitor"]),
            },
            // Hangs up at the first try.
            "/second-try" if tries.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) => Vec::new(),
            "/second-try" => fine(""),
            _ => head(&["HTTP/1.1 404 Not Found", "Content-Length: 0"]),
        }
    })
}

#[test]
fn verdicts_are_those_of_the_script() {
    let server = field();
    for (path, verdict, requests) in FIELD {
        let ran = check("https", &[LONG, &server.page(path)]);
        assert_eq!(ran.stdout.trim_end(), verdict, "{path}: {}", ran.stderr);
        let seen = server.seen();
        assert_eq!(seen.len(), requests, "{path}: {seen:?}");
    }
}

/// The table itself is tried where the script can run.
#[test]
fn the_script_gives_these_verdicts() {
    let runs = |program: &str| {
        Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok()
    };
    if !runs("wget") || !runs("bash") {
        eprintln!("not tested: there is no wget or no bash here");
        return;
    }
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/lvs-check-https.sh");
    // Its blanks are non-breaking ones, which nanny mends.
    let script = std::fs::read_to_string(data).unwrap().replace('\u{a0}', " ");
    let home = tempfile::tempdir().unwrap();
    let server = field();
    for (path, verdict, requests) in FIELD {
        // wget refuses a blank in an address that it is given.
        let page = server.page(&path.replace(' ', "%20"));
        let output = Command::new("bash")
            .args(["-c", &script, "lvs-check-https.sh", &page])
            .env("HOME", home.path())
            .env_remove("http_proxy")
            .env_remove("https_proxy")
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), verdict, "{path}");
        let seen = server.seen();
        assert_eq!(seen.len(), requests, "{path}: {seen:?}");
    }
}

#[test]
fn reasons_are_told() {
    let server = field();
    let cases = [
        ("/line/HTTP/1.1 503 Gone", "the answer is \"HTTP/1.1 503 Gone\", not \"HTTP/1.1 200 OK\""),
        ("/line/HTTP/1.0 200 OK", "(with --status 200 it would do)"),
        ("/line/garbage", "no answer of HTTP: \"garbage\""),
        ("/again", "more than 20 redirects, the next to https://127.0.0.1:"),
        (
            "/to/ftp:%2f%2f127.0.0.1/x",
            "redirected to \"ftp://127.0.0.1/x\": neither http nor https but ftp",
        ),
        ("/nowhere", "the answer is \"HTTP/1.1 302 F\""),
    ];
    for (path, reason) in cases {
        let ran = check("https", &[LONG, &server.page(path)]);
        ran.fails(reason);
        assert!(
            ran.stderr.starts_with(&format!("lvs-check-https: {}: ", server.addr)),
            "{}",
            ran.stderr
        );
    }
    check("https", &[LONG, "--tries=1", &server.page("/second-try")])
        .fails("closed before the answer was complete");
}

#[test]
fn statuses_texts_and_redirects_as_asked() {
    let server = field();
    let page = |path| server.page(path);
    check("https", &["--status=401,500-599", &page("/line/HTTP/1.0 503 x")]).ok();
    check("https", &["--status=401", &page("/fine")]).fails("is \"HTTP/1.1 200 OK\", not 401");
    // A redirect that is expected is not followed.
    check("https", &["-s", "300-399", &page("/moved/302")]).ok();
    assert_eq!(server.seen().len(), 3);
    check("https", &["--redirects=0", &page("/moved/302")]).fails("more than 0 redirects");
    check("https", &["--get", &page("/no-head/405")]).ok();
    check("https", &["--expect=age", &page("/no-head/405")]).ok();
    check("https", &["-e", "^p.*e$", "-r", &page("/no-head/405")]).ok();
    check("https", &["-e", "other", &page("/no-head/405")])
        .fails("the text \"other\" is not in the 4 bytes of the page: \"page\"");
    check("https", &["-re", "^a", &page("/no-head/405")]).fails("the expression \"^a\" is not in");
}

#[test]
fn bodies_in_chunks_and_without_length() {
    let chunked =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n5\r\n well\r\n0\r\n\r\n";
    let server = Server::http(move |request| match request.path.as_str() {
        "/chunked" => chunked.to_vec(),
        "/broken" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmore".to_vec(),
        "/cut" => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\n\r\nall well".to_vec(),
    });
    check("http", &["-e", "ll well", &server.page("/chunked")]).ok();
    check("http", &["-e", "ll well", &server.page("/close")]).ok();
    check("http", &["-e", "all", &server.page("/cut")]).ok();
    check("http", &["-e", "well", "--tries=1", &server.page("/cut")])
        .fails("closed before the answer was complete");
    check("http", &["-e", "more", "--tries=1", &server.page("/broken")]).fails("receive from");
}

#[test]
fn one_server_of_a_site_is_asked_by_the_sites_name() {
    let identity = Identity::new("www.example.com", VALID);
    let server = Server::https(&identity, |request: &Request| match request.path.as_str() {
        "/" => head(&[
            "HTTP/1.1 302 F",
            &format!("Location: https://{}/in", request.field("host").unwrap()),
        ]),
        _ => fine(""),
    });
    let port = server.port();
    // The redirect to the site's name stays with this server, which no name server knows.
    check("https", &["--host=www.example.com", "127.0.0.1", &port]).ok();
    let name = format!("www.example.com:{port} www.example.com");
    assert_eq!(server.seen(), [format!("HEAD / {name}"), format!("HEAD /in {name}")]);
    check("https", &["-H", "www.example.com", "--sni=other.example.com", &server.page("/in")]).ok();
    assert_eq!(server.seen(), [format!("HEAD /in www.example.com:{port} other.example.com")]);
    // An address is no name for TLS to ask for.
    check("https", &[&server.page("/in")]).ok();
    assert_eq!(server.seen(), [format!("HEAD /in 127.0.0.1:{port} -")]);
    check("https", &["--path=health?a b#c", "127.0.0.1", &port]).ok();
    assert_eq!(server.seen(), [format!("HEAD /health?a%20b 127.0.0.1:{port} -")]);
    check("https", &["--header=Host:own", "-g", &server.page("/in")]).ok();
    assert_eq!(server.seen(), ["GET /in own -"]);
}

#[test]
fn from_https_to_http_and_ipv6() {
    let plain = Server::http(|_| fine(""));
    let location = format!("Location: http://{}/x", plain.addr);
    let server =
        Server::https(&Identity::new("x", VALID), move |_| head(&["HTTP/1.1 301 M", &location]));
    check("https", &[&server.page("/")]).ok();
    assert_eq!(plain.seen(), [format!("HEAD /x {} -", plain.addr)]);
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("not tested: there is no IPv6 here");
        return;
    }
    let six = Server::at("::1".parse().unwrap(), |mut stream| {
        use std::io::{Read, Write};
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&fine(""));
    });
    check("http", &["::1", &six.port()]).ok();
    check("http", &[&six.page("/x")]).ok();
}

#[test]
fn certificates() {
    let directory = tempfile::tempdir().unwrap();
    let save = |identity: &Identity, name: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, identity.certificate.to_pem().unwrap()).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let authority = Identity::new("authority", VALID);
    let ca = save(&authority, "ca.pem");
    let serve = |identity: &Identity| Server::https(identity, |_| fine(""));
    let signed = |name, days| serve(&Identity::signed(name, days, Some(&authority)));
    let good = signed("www.example.com", VALID);
    let by_address = signed("127.0.0.1", VALID);
    let expired = signed("www.example.com", (-30, -3));
    let future = signed("www.example.com", (2, 30));
    let own = serve(&Identity::new("www.example.com", VALID));
    let www = "--host=www.example.com";
    let ca = format!("--ca={ca}");
    let ask = |server: &Server, words: &[&str]| {
        let page = server.page("/");
        check("https", &[words, &[www, &page]].concat())
    };

    // Unless asked, nothing about a certificate matters.
    for server in [&good, &by_address, &expired, &future, &own] {
        ask(server, &[]).ok();
    }
    ask(&good, &[&ca]).ok();
    check("https", &[&ca, &by_address.page("/")]).ok();
    ask(&by_address, &[&ca]).fails("is not accepted for www.example.com: hostname mismatch");
    check("https", &[&ca, &good.page("/")])
        .fails("is not accepted for 127.0.0.1: IP address mismatch");
    ask(&own, &[&ca]).fails("is not accepted for www.example.com: self");
    ask(&own, &["--verify"]).fails("is not accepted for www.example.com: self");
    ask(&expired, &[&ca]).fails("is not accepted for www.example.com: certificate has expired");
    ask(&future, &[&ca]).fails("certificate is not yet valid");
    ask(&good, &["--ca=/nonexistent"]).fails("read certificates of /nonexistent: ");

    // Days, also where nothing else is verified.
    ask(&own, &["--days=30"]).ok();
    ask(&own, &["--days=31"]).fails("the certificate is valid 30 more days (until ");
    ask(&good, &["-d", "20", &ca]).ok();
    ask(&expired, &["-d", "0"]).fails("the certificate expired 2 days ago (");
    ask(&future, &["-d", "0"]).fails("the certificate is not valid before ");
    let told = ask(&own, &["-v"]);
    assert_eq!((told.status, told.stdout.as_str()), (Some(0), "OK\n"));
    assert!(told.stderr.contains(", the certificate is valid 30 more days"), "{}", told.stderr);
}

#[test]
fn servers_with_old_tls_are_up() {
    let identity = Identity::new("127.0.0.1", VALID);
    let old = Server::https_by(identity.old_acceptor(), |_| fine(""));
    check("https", &[&old.page("/")]).ok();
    let told = check("https", &["-v", &old.page("/")]).stderr;
    assert!(told.contains("\"HTTP/1.1 200 OK\", TLSv1, the certificate"), "{told}");
}

#[test]
fn who_does_not_speak_tls() {
    use std::io::{Read, Write};
    let plain = Server::tcp(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    check("https", &[LONG, &plain.page("/")])
        .fails(&format!("TLS handshake with {}: ", plain.addr));
    let closing = Server::tcp(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
    });
    check("https", &[LONG, &closing.page("/")])
        .fails(&format!("TLS handshake with {}: ", closing.addr));
}

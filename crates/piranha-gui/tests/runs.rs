//! The program as a service: TLS, the access log, its user, its end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail so")]

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use gui_lab::{Answer, Ask, Conversation, Files, Gui, PASSWORD, USER};
use lab::{PATIENCE, Running};
use nix::sys::signal::Signal;
use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

const PROGRAM: &str = env!("CARGO_BIN_EXE_piranha_gui");

/// A client that trusts this certificate, PEM, and no other.
fn trusting(certificate: &str) -> Result<SslConnector, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    store.add_cert(X509::from_pem(certificate.as_bytes())?)?;
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_cert_store(store.build());
    Ok(builder.build())
}

/// A request by TLS to somebody who must show this certificate, PEM.
fn secretly(gui: &Gui, certificate: &str, name: &str) -> Result<Answer, String> {
    let connector = trusting(certificate).map_err(|error| error.to_string())?;
    let stream = TcpStream::connect(gui.address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    let stream = connector.connect(name, stream).map_err(|error| error.to_string())?;
    let mut conversation = Conversation::over(stream);
    let ask = Ask::get("/secure/control").user(USER, PASSWORD).bytes(gui.address);
    conversation.send(&ask).map_err(|error| error.to_string())?;
    conversation
        .answer("GET")
        .map_err(|error| error.to_string())?
        .ok_or_else(|| "no answer".to_owned())
}

#[test]
fn https_with_a_certificate_of_its_own_making() {
    let gui = Gui::with(Files::new(), PROGRAM, &["--tls"]);
    let certificate = gui.files.read("state/piranha-gui.crt");
    assert_eq!(secretly(&gui, &certificate, "localhost").unwrap().status, 200);
    assert!(secretly(&gui, &certificate, "elsewhere.example").is_err(), "it is for this host only");
    let key = fs::metadata(gui.files.path("state/piranha-gui.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    assert_eq!(
        key.uid(),
        nix::unistd::geteuid().as_raw(),
        "who serves pages need not read it again"
    );
    // It is kept: who has once trusted it does so again.
    let Gui { files, running, .. } = gui;
    drop(running);
    let again = Gui::with(files, PROGRAM, &["--tls"]);
    assert_eq!(secretly(&again, &certificate, "localhost").unwrap().status, 200);
}

#[test]
fn https_with_a_certificate_that_is_given() {
    let files = Files::new();
    let (chain, key) = (files.path("given.crt"), files.path("given.key"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=lvs1.example.net",
        ])
        .args(["-addext", "subjectAltName=DNS:lvs1.example.net", "-out"])
        .arg(&chain)
        .arg("-keyout")
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // Only root may read the key: it is read before the page becomes its user.
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let certificate = format!("--tls-cert={}", chain.display());
    let key = format!("--tls-key={}", key.display());
    let gui = Gui::with(files, PROGRAM, &[&certificate, &key]);
    let pem = gui.files.read("given.crt");
    assert_eq!(secretly(&gui, &pem, "lvs1.example.net").unwrap().status, 200);
    assert!(secretly(&gui, &pem, "localhost").is_err());
}

#[test]
fn plain_http_and_garbage_on_the_tls_port_hurt_nobody() {
    let gui = Gui::with(Files::new(), PROGRAM, &["--tls"]);
    let certificate = gui.files.read("state/piranha-gui.crt");
    let request = Ask::get("/secure/control").user(USER, PASSWORD).bytes(gui.address);
    for bytes in [&request[..], b"\x16\x03\x01\xff\xff", &[0xff; 4096], b""] {
        let mut plain = Conversation::with(gui.address);
        let _ = plain.send(bytes);
        let _ = plain.socket().shutdown(std::net::Shutdown::Write);
        let rest = plain.rest().expect("an end");
        assert!(!rest.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&rest));
        assert_eq!(secretly(&gui, &certificate, "localhost").unwrap().status, 200);
    }
}

#[test]
fn what_is_unfit_is_refused_with_words() {
    let refused = |files: &Files, more: &[&str]| {
        let running = Running::here(files.command(PROGRAM, more));
        let status = running.wait_exit(PATIENCE).unwrap();
        assert!(!status.success());
        running.text()
    };
    let files = Files::new();
    let missing = format!("--tls-cert={}", files.path("none.crt").display());
    let text = refused(&files, &[&missing, &missing.replace("cert", "key")]);
    assert!(text.contains("none.crt"), "{text}");
    let text = refused(&files, &["--listen=lvs1"]);
    assert!(text.contains("--listen=lvs1"), "{text}");
    let taken = Gui::start(PROGRAM);
    let text = refused(&files, &[&format!("--listen={}", taken.address)]);
    assert!(text.contains(&format!("listen on {}", taken.address)), "{text}");
    if nix::unistd::geteuid().is_root() {
        let text = refused(&files, &["--user=no-such-user"]);
        assert!(text.contains("useradd") && text.contains("no-such-user"), "{text}");
    }
}

/// A line of the access log, taken apart: client, user, request, status, bytes.
fn fields(line: &str) -> (String, String, String, u16, u64) {
    let (front, rest) = line.split_once(" [").unwrap_or_else(|| panic!("{line}"));
    let (time, rest) = rest.split_once("] \"").unwrap_or_else(|| panic!("{line}"));
    let (request, numbers) = rest.rsplit_once("\" ").unwrap_or_else(|| panic!("{line}"));
    let words: Vec<_> = front.split(' ').collect();
    let [client, "-", user] = words[..] else { panic!("{line}") };
    // 23/Nov/2025:08:58:42 +0000
    assert_eq!(
        (time.len(), &time[2..3], &time[6..7], &time[11..12]),
        (26, "/", "/", ":"),
        "{line}"
    );
    let (status, bytes) = numbers.split_once(' ').unwrap();
    (
        client.to_owned(),
        user.to_owned(),
        request.to_owned(),
        status.parse().unwrap(),
        bytes.parse().unwrap(),
    )
}

#[test]
fn every_request_is_a_line_of_the_access_log() {
    let gui = Gui::start(PROGRAM);
    let welcome = gui.ask(&Ask::get("/"));
    let _ = gui.ask(&Ask::get("/secure/control"));
    let _ = gui.ask(&Ask::get("/secure/control").user(USER, "wrong"));
    let page = gui.get("/secure/control?fragment=1");
    let _ = gui.ask(&Ask::new("DELETE", "/x\"y\\z").header("User-Agent", "\"\\\u{7f}"));
    let log = gui.files.read("log/access_log");
    let lines: Vec<_> = log.lines().map(fields).collect();
    let line = |user: &str, request: &str, status: u16, bytes: usize| {
        (
            "127.0.0.1".to_owned(),
            user.to_owned(),
            format!("{request} HTTP/1.1"),
            status,
            bytes as u64,
        )
    };
    assert_eq!(lines[0], line("-", "GET /", 200, welcome.body.len()));
    assert_eq!((lines[1].1.as_str(), lines[1].3), ("-", 401));
    assert_eq!(
        (lines[2].1.as_str(), lines[2].3),
        ("-", 401),
        "a wrong password makes nobody a user"
    );
    assert_eq!(lines[3], line(USER, "GET /secure/control?fragment=1", 200, page.body.len()));
    assert_eq!(lines.len(), log.lines().count());
    assert!(!log.contains(PASSWORD) && !log.contains("wrong"), "{log}");
    assert!(lines.iter().skip(4).all(|line| line.3 >= 400), "{log}");
}

#[test]
fn logrotate_renames_the_log_and_says_so() {
    let gui = Gui::start(PROGRAM);
    let path = gui.files.path("log/access_log");
    for signal in [Signal::SIGHUP, Signal::SIGUSR1] {
        let _ = gui.ask(&Ask::get(&format!("/before-{signal}")));
        let rotated = gui.files.path(&format!("log/access_log.{signal}"));
        fs::rename(&path, &rotated).unwrap();
        let _ = gui.ask(&Ask::get("/between"));
        gui.running.signal(signal);
        // The signal is seen before a request that comes later, or soon after.
        while !path.exists() {
            let _ = gui.ask(&Ask::get("/between"));
        }
        let _ = gui.ask(&Ask::get(&format!("/after-{signal}")));
        let old = fs::read_to_string(rotated).unwrap();
        let after = format!("/after-{signal}");
        assert!(old.contains(&format!("/before-{signal}")) && !old.contains(&after), "{old}");
        assert!(old.contains("/between"), "{old}");
        assert!(fs::read_to_string(&path).unwrap().contains(&after));
        assert!(gui.running.is_running(), "{signal}");
    }
}

#[test]
fn it_ends_when_told_to_and_says_so() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let gui = Gui::start(PROGRAM);
        let mut idle = Conversation::with(gui.address);
        gui.running.signal(signal);
        assert_eq!(idle.rest().expect("an end"), b"");
        assert!(gui.running.wait_exit(PATIENCE).unwrap().success(), "{signal}");
        assert!(gui.running.text().contains("shutting down"));
        let refused = TcpStream::connect(gui.address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

#[test]
fn whoever_starts_it_is_told_what_everybody_can_see() {
    let open = Gui::with(Files::new(), PROGRAM, &["--listen=0.0.0.0:0"]);
    let line = open.running.wait_for("--listen=127.0.0.1", PATIENCE).unwrap();
    assert!(line.text.contains("--tls"), "{}", line.text);
    let local = Gui::start(PROGRAM);
    let _ = local.get("/secure/control");
    assert!(!local.running.text().contains("--listen=127.0.0.1"));
}

#[test]
fn root_gives_up_its_rights_before_the_first_request() {
    if !nix::unistd::geteuid().is_root() {
        println!("not root: there is nothing to give up");
        return;
    }
    let gui = Gui::start(PROGRAM);
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let tasks = fs::read_dir(format!("/proc/{}/task", gui.running.pid())).unwrap();
    for task in tasks {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let ids = |name: &str| -> Vec<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(|id| id.parse().unwrap()).collect()
        };
        // Real, effective, saved, file system.
        assert_eq!(ids("Uid:"), [nobody.uid.as_raw(); 4]);
        assert_eq!(ids("Gid:"), [nobody.gid.as_raw(); 4]);
        assert!(!ids("Groups:").contains(&0), "{status}");
        let capabilities = status.lines().find(|line| line.starts_with("CapEff:")).unwrap();
        assert!(capabilities.ends_with("0000000000000000"), "{capabilities}");
    }
    for name in ["state", "log", "log/access_log"] {
        assert_eq!(
            fs::metadata(gui.files.path(name)).unwrap().uid(),
            nobody.uid.as_raw(),
            "{name}"
        );
    }
}

#[test]
fn systemd_is_told_when_it_serves() {
    let files = Files::new();
    let path = files.path("notify.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = files.command(PROGRAM, &[]);
    command.env("NOTIFY_SOCKET", &path);
    let gui = Gui::running(files, Running::here(command));
    let mut told = [0; 64];
    let length = socket.recv(&mut told).unwrap();
    assert_eq!(told[..length].trim_ascii_end(), b"READY=1");
    assert_eq!(gui.get("/secure/control").status, 200);
}

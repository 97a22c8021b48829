//! Servers whose behaviour the tests choose, and the program run against them.
#![allow(dead_code, clippy::unwrap_used, clippy::missing_panics_doc)]

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{NameType, SslAcceptor, SslAcceptorBuilder, SslMethod, SslOptions, SslVersion};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name, X509NameBuilder};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// A time limit that no check reaches, for `--timeout`.
pub(crate) const LONG: &str = "--timeout=300";

/// What the program did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// OK, without a word more.
    #[track_caller]
    pub(crate) fn ok(&self) {
        assert_eq!(
            (self.status, self.stdout.as_str(), self.stderr.as_str()),
            (Some(0), "OK\n", "")
        );
    }

    /// FAIL, with this in the reason.
    #[track_caller]
    pub(crate) fn fails(&self, reason: &str) {
        assert_eq!((self.status, self.stdout.as_str()), (Some(1), "FAIL\n"), "{}", self.stderr);
        assert!(self.stderr.contains(reason), "{reason:?} is not in {:?}", self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{:?}", self.stderr);
    }
}

/// Runs the program by the name `lvs-check-KIND`.
pub(crate) fn check(kind: &str, words: &[&str]) -> Ran {
    run(&format!("/some/where/lvs-check-{kind}"), words)
}

/// Runs the program by any name.
pub(crate) fn run(name: &str, words: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_lvs-check"))
        .arg0(name)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A server on a thread of its own.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    /// The first lines that clients sent, and what `Seen` notes besides.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Does `each` with every connection, each on a thread of its own.
    pub(crate) fn tcp(each: impl Fn(TcpStream) + Send + Sync + 'static) -> Server {
        Server::at(Ipv4Addr::LOCALHOST.into(), each)
    }

    pub(crate) fn at(addr: IpAddr, each: impl Fn(TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind((addr, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let each = Arc::new(each);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let each = Arc::clone(&each);
                std::thread::spawn(move || each(stream));
            }
        });
        Server { addr, seen: Arc::default() }
    }

    /// Answers requests over HTTP: `answer` is given method, path and the whole head.
    pub(crate) fn http(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Server {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let note = Arc::clone(&seen);
        let server = Server::tcp(move |stream| respond(stream, &answer, &note, None));
        Server { seen, ..server }
    }

    /// The same over TLS.
    pub(crate) fn https(
        identity: &Identity,
        answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static,
    ) -> Server {
        Server::https_by(identity.acceptor(), answer)
    }

    /// The same with any kind of TLS.
    pub(crate) fn https_by(
        acceptor: SslAcceptor,
        answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static,
    ) -> Server {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let note = Arc::clone(&seen);
        let server = Server::tcp(move |stream| {
            // A client that does not like the certificate goes away.
            if let Ok(mut stream) = acceptor.accept(stream) {
                let sni = stream.ssl().servername(NameType::HOST_NAME).map(str::to_owned);
                respond(&mut stream, &answer, &note, sni.as_deref());
                let _ = stream.shutdown();
            }
        });
        Server { seen, ..server }
    }

    /// `ADDRESS:PORT/PATH`.
    pub(crate) fn page(&self, path: &str) -> String {
        format!("{}{path}", self.addr)
    }

    pub(crate) fn port(&self) -> String {
        self.addr.port().to_string()
    }

    /// The requests so far, as `METHOD PATH HOST SNI`.
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// A request as a server sees it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) head: String,
}

impl Request {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let wanted = |line: &&str| {
            line.split(':').next().is_some_and(|found| found.eq_ignore_ascii_case(name))
        };
        self.head.lines().find(wanted).and_then(|line| Some(line.split_once(':')?.1.trim()))
    }
}

fn respond(
    mut stream: impl Read + Write,
    answer: &impl Fn(&Request) -> Vec<u8>,
    seen: &Mutex<Vec<String>>,
    sni: Option<&str>,
) {
    let Some(request) = request(&mut stream) else { return };
    let host = request.field("host").unwrap_or("-");
    let sni = sni.unwrap_or("-");
    seen.lock().unwrap().push(format!("{} {} {host} {sni}", request.method, request.path));
    // A client that has seen enough is gone.
    let _ = stream.write_all(&answer(&request));
}

fn request(stream: &mut (impl Read + Write)) -> Option<Request> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Request { method, path, head })
}

/// An answer with these lines at its head.
pub(crate) fn head(lines: &[&str]) -> Vec<u8> {
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

/// `HTTP/1.1 200 OK` with this page.
pub(crate) fn fine(page: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len()).into_bytes()
}

/// A key with a certificate.
pub(crate) struct Identity {
    pub(crate) key: PKey<Private>,
    pub(crate) certificate: X509,
}

/// Days from now to the certificate's begin and end.
pub(crate) const VALID: (i64, i64) = (-1, 30);

impl Identity {
    /// Signed by itself.
    pub(crate) fn new(name: &str, days: (i64, i64)) -> Identity {
        Identity::signed(name, days, None)
    }

    /// Signed by another.
    pub(crate) fn signed(name: &str, days: (i64, i64), by: Option<&Identity>) -> Identity {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut builder = X509::builder().unwrap();
        let serial = BigNum::from_u32(days.1.unsigned_abs().try_into().unwrap()).unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&Asn1Integer::from_bn(&serial).unwrap()).unwrap();
        builder.set_subject_name(&named(name)).unwrap();
        let own = named(name);
        let issuer = by.map_or(own.as_ref(), |by| by.certificate.subject_name());
        builder.set_issuer_name(issuer).unwrap();
        builder.set_not_before(&time(days.0)).unwrap();
        builder.set_not_after(&time(days.1)).unwrap();
        builder.set_pubkey(&key).unwrap();
        if by.is_none() {
            builder.append_extension(BasicConstraints::new().ca().build().unwrap()).unwrap();
        }
        let mut names = SubjectAlternativeName::new();
        match name.parse::<IpAddr>() {
            Ok(_) => names.ip(name),
            Err(_) => names.dns(name),
        };
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(by.map_or(&key, |by| &by.key), MessageDigest::sha256()).unwrap();
        Identity { key, certificate: builder.build() }
    }

    fn acceptor(&self) -> SslAcceptor {
        self.acceptor_with(|_| {})
    }

    /// One that speaks nothing newer than TLS 1.0.
    pub(crate) fn old_acceptor(&self) -> SslAcceptor {
        self.acceptor_with(|acceptor| {
            acceptor.clear_options(SslOptions::NO_TLSV1);
            acceptor.set_security_level(0);
            acceptor.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
            acceptor.set_max_proto_version(Some(SslVersion::TLS1)).unwrap();
            acceptor.set_cipher_list("DEFAULT:@SECLEVEL=0").unwrap();
        })
    }

    fn acceptor_with(&self, change: impl Fn(&mut SslAcceptorBuilder)) -> SslAcceptor {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        change(&mut acceptor);
        acceptor.set_private_key(&self.key).unwrap();
        acceptor.set_certificate(&self.certificate).unwrap();
        acceptor.build()
    }
}

fn named(name: &str) -> X509Name {
    let mut builder: X509NameBuilder = X509Name::builder().unwrap();
    builder.append_entry_by_text("CN", name).unwrap();
    builder.build()
}

fn time(days: i64) -> Asn1Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // Past the middle of a day, so that a whole number of days is left while a test runs.
    Asn1Time::from_unix(i64::try_from(now).unwrap() + days * 86_400 + 43_200).unwrap()
}

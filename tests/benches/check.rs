//! One check of an https server: lvs-check-https against the check script of the field, which starts a
//! shell, wget and grep. One run on one machine, over its loopback; prints Markdown. See scripts/bench.
//!
//! The server is part of this process, so that its work is not counted: what is measured is the wall
//! time of a check and the CPU time of all processes that it starts. The programs take turns, so that
//! whatever else the machine does meanwhile meets all of them.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509Name};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Checks by each program, unless given.
const CHECKS: u32 = 100;
/// Checks before those that count: files come into the cache.
const WARM_UP: u32 = 5;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    // cargo adds --bench.
    let given = std::env::args().skip(1).find(|a| a != "--bench").map(|a| a.parse()).transpose()?;
    let scratch = Scratch::new()?;
    let (key, certificate) = identity()?;
    fs::write(scratch.path("ca.pem"), certificate.to_pem()?)?;
    let port = serve(&key, &certificate)?;
    let programs = programs(&scratch, port)?;
    let mut costs = vec![Cost::default(); programs.len()];
    let checks = given.unwrap_or(CHECKS).max(1);
    for round in 0..WARM_UP + checks {
        for (program, cost) in programs.iter().zip(&mut costs) {
            let once = program.check()?;
            if round >= WARM_UP {
                cost.wall += once.wall;
                cost.cpu += once.cpu;
            }
        }
    }
    print!("{}", report(&programs, &costs, checks));
    Ok(())
}

/// A directory that is gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch> {
        let path = std::env::temp_dir().join(format!("bench-check-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Scratch(path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A certificate for 127.0.0.1, with a key as most sites have it.
fn identity() -> Result<(PKey<Private>, X509)> {
    let key = PKey::from_rsa(Rsa::generate(2048)?)?;
    let mut name = X509Name::builder()?;
    name.append_entry_by_text("CN", "127.0.0.1")?;
    let name = name.build();
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    let (begin, end) = (Asn1Time::days_from_now(0)?, Asn1Time::days_from_now(90)?);
    builder.set_not_before(&begin)?;
    builder.set_not_after(&end)?;
    builder.set_pubkey(&key)?;
    let address =
        SubjectAlternativeName::new().ip("127.0.0.1").build(&builder.x509v3_context(None, None))?;
    builder.append_extension(address)?;
    builder.sign(&key, MessageDigest::sha256())?;
    Ok((key, builder.build()))
}

/// Answers every request with an empty page, for ever. Gives its port.
fn serve(key: &PKey<Private>, certificate: &X509) -> Result<u16> {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
    acceptor.set_private_key(key)?;
    acceptor.set_certificate(certificate)?;
    let acceptor = acceptor.build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(mut stream) = acceptor.accept(stream) else { continue };
            let mut lines = BufReader::new(&mut stream).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.shutdown();
        }
    });
    Ok(port)
}

/// A check program.
struct Program {
    name: String,
    path: PathBuf,
    arg0: &'static str,
    words: Vec<String>,
    /// Prints `OK`.
    is_check: bool,
}

/// What checks cost.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

/// The first is the floor, the second the script, the third what is compared with it.
fn programs(scratch: &Scratch, port: u16) -> Result<Vec<Program>> {
    let bin = std::env::var("PIRANHA_BIN").map_err(|_| "PIRANHA_BIN: where lvs-check was built")?;
    let page = format!("127.0.0.1:{port}");
    // As nanny runs it: by bash under the name of sh, its non-breaking spaces mended.
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/lvs-check-https.sh"))?;
    let script = scratch.path("lvs-check-https.sh");
    fs::write(&script, text.replace('\u{a0}', " "))?;
    let portable = std::env::var("PIRANHA_PORTABLE")
        .map_err(|_| "PIRANHA_PORTABLE: where the portable programs are")?;
    let own = |name: &str, bin: &str, words: &[&str]| Program {
        name: name.to_owned(),
        path: Path::new(bin).join("lvs-check"),
        arg0: "lvs-check-https",
        words: words.iter().map(|word| (*word).to_owned()).chain([page.clone()]).collect(),
        is_check: true,
    };
    let ca = format!("--ca={}", scratch.path("ca.pem").display());
    Ok(vec![
        Program {
            name: "`true` (the floor: any program)".to_owned(),
            path: "/bin/true".into(),
            arg0: "true",
            words: Vec::new(),
            is_check: false,
        },
        Program {
            name: "lvs-check-https.sh (sh, wget, grep)".to_owned(),
            path: "/bin/bash".into(),
            arg0: "/bin/sh",
            words: vec![script.display().to_string(), page.clone()],
            is_check: true,
        },
        own("lvs-check-https, of the packages", &portable, &[]),
        own("… --days 14 --ca FILE", &portable, &["--days=14", &ca]),
        own("lvs-check-https, with the system's OpenSSL", &bin, &[]),
    ])
}

impl Program {
    fn check(&self) -> Result<Cost> {
        let mut command = Command::new(&self.path);
        command.arg0(self.arg0).args(&self.words);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        // wget would ask them instead of the server, and leaves a file in HOME.
        command.env_remove("http_proxy").env_remove("https_proxy").env("HOME", "/nonexistent");
        let (began, before) = (Instant::now(), cpu_of_children()?);
        let output = command.output()?;
        let cost = Cost { wall: began.elapsed(), cpu: cpu_of_children()?.saturating_sub(before) };
        if self.is_check && output.stdout != b"OK\n" {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            return Err(format!("{}: says {said:?}, not OK", self.name).into());
        }
        Ok(cost)
    }
}

/// CPU time of all processes that were started and have ended.
fn cpu_of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let duration = |time: TimeVal| -> Result<Duration> {
        Ok(Duration::from_micros(
            u64::try_from(time.tv_sec())? * 1_000_000 + u64::try_from(time.tv_usec())?,
        ))
    };
    Ok(duration(usage.user_time())? + duration(usage.system_time())?)
}

fn report(programs: &[Program], costs: &[Cost], checks: u32) -> String {
    let mut text = String::from(
        "| one check | wall, ms | CPU, ms | script's wall | script's CPU |\n|---|---:|---:|---:|---:|\n",
    );
    let script = costs[1];
    for (program, cost) in programs.iter().zip(costs) {
        let millis = |time: Duration| time.as_secs_f64() * 1e3 / f64::from(checks);
        let ratio = |script: Duration, own: Duration| match own {
            Duration::ZERO => "".to_owned(),
            own => format!("{:.1}×", script.as_secs_f64() / own.as_secs_f64()),
        };
        let _ = writeln!(
            text,
            "| {} | {:.2} | {:.2} | {} | {} |",
            program.name,
            millis(cost.wall),
            millis(cost.cpu),
            ratio(script.wall, cost.wall),
            ratio(script.cpu, cost.cpu)
        );
    }
    let _ = writeln!(
        text,
        "\nMeans of {checks} checks each, taking turns; TLS to a server of this machine."
    );
    text
}

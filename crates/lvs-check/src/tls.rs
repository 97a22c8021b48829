//! TLS by OpenSSL itself. The layers above it (native-tls, and ureq on top) read the system's
//! certificates also when nothing is verified, which costs more than the rest of a check where they
//! are one file, keep back how long the server's certificate is valid, and cannot be told to speak
//! with servers whose TLS is too old for this system's policy.

use crate::failure::{Failure, HANDSHAKE};
use crate::net::Stream;
use openssl::asn1::Asn1Time;
use openssl::error::{Error, ErrorStack};
use openssl::ssl::{
    HandshakeError, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslRef, SslStream,
    SslVerifyMode, SslVersion,
};
use openssl::x509::{X509Ref, X509VerifyResult};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// What is asked of a server's TLS.
#[derive(Debug, Default, Clone)]
pub struct Policy {
    /// Verify the chain of certificates and the name in the first.
    pub verify: bool,
    /// Trust the certificates in this file instead of the system's.
    pub ca: Option<PathBuf>,
    /// Days the certificate must be valid still.
    pub days: Option<i32>,
}

/// A connection over TLS.
#[derive(Debug)]
pub struct Tls {
    /// To read from and write to.
    pub stream: SslStream<Stream>,
    /// Version and validity, in words.
    pub found: String,
}

/// Begins TLS. `name` is who the certificate must be for, `sni` the name to ask for; an address is
/// never asked for (RFC 6066, section 3).
///
/// # Errors
/// A handshake that fails or takes too long, a certificate that does not fit the policy.
pub fn connect(stream: Stream, name: &str, sni: &str, policy: &Policy) -> Result<Tls, Failure> {
    let peer = stream.peer;
    let here = |error: String| Failure::Here(format!("TLS on this machine: {error}"));
    let context = context(policy).map_err(here)?;
    let ssl = session(&context, name, sni, policy).map_err(|error| here(error.to_string()))?;
    let stream = ssl.connect(stream).map_err(|error| failure(error, peer, name))?;
    let certificate = stream.ssl().peer_certificate();
    let validity = validity(certificate.as_deref(), policy.days)
        .map_err(|reason| Failure::answer(peer, reason))?;
    let found = format!("{}, {validity}", stream.ssl().version_str());
    Ok(Tls { stream, found })
}

fn context(policy: &Policy) -> Result<SslContext, String> {
    let mut context = SslContextBuilder::new(SslMethod::tls_client()).map_err(in_words)?;
    if policy.verify {
        context.set_verify(SslVerifyMode::PEER);
        trust(&mut context, policy)?;
    } else {
        take_anything(&mut context).map_err(in_words)?;
    }
    // Many servers close without the proper end of TLS; HTTP says itself where an answer ends.
    context.set_options(SslOptions::IGNORE_UNEXPECTED_EOF);
    Ok(context.build())
}

/// Who is not verified need not be secure: what is asked is whether it works.
fn take_anything(context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    context.set_verify(SslVerifyMode::NONE);
    context.set_security_level(0);
    context.set_cipher_list("DEFAULT:@SECLEVEL=0")?;
    context.set_min_proto_version(Some(SslVersion::TLS1))?;
    context.set_options(SslOptions::ALL | SslOptions::ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
    Ok(())
}

fn trust(context: &mut SslContextBuilder, policy: &Policy) -> Result<(), String> {
    if let Some(file) = &policy.ca {
        return context.set_ca_file(file).map_err(|error| {
            format!("read certificates of {}: {}", file.display(), in_words(error))
        });
    }
    // An OpenSSL that is part of this program does not know where this system keeps them.
    let system = openssl_probe::probe();
    if system.cert_file.is_none() && system.cert_dir.is_empty() {
        return context.set_default_verify_paths().map_err(in_words);
    }
    for directory in &system.cert_dir {
        context.load_verify_locations(None, Some(directory)).map_err(in_words)?;
    }
    match &system.cert_file {
        Some(file) => context.load_verify_locations(Some(file), None).map_err(in_words),
        None => Ok(()),
    }
}

fn session(
    context: &SslContext,
    name: &str,
    sni: &str,
    policy: &Policy,
) -> Result<Ssl, ErrorStack> {
    let mut ssl = Ssl::new(context)?;
    if sni.parse::<IpAddr>().is_err() {
        ssl.set_hostname(sni)?;
    }
    if policy.verify {
        match name.parse::<IpAddr>() {
            Ok(address) => ssl.param_mut().set_ip(address)?,
            Err(_) => ssl.param_mut().set_host(name)?,
        }
    }
    Ok(ssl)
}

fn failure(error: HandshakeError<Stream>, peer: SocketAddr, name: &str) -> Failure {
    let tls = |reason| Failure::Tls { peer, reason };
    let middle = match error {
        HandshakeError::SetupFailure(error) => return tls(in_words(error)),
        HandshakeError::Failure(middle) | HandshakeError::WouldBlock(middle) => middle,
    };
    if let Some(reason) = distrust(middle.ssl(), name) {
        return tls(reason);
    }
    match middle.into_error().into_io_error() {
        Ok(error) => Failure::Broken { what: HANDSHAKE, peer, error },
        Err(error) => match error.ssl_error() {
            Some(stack) => tls(in_words(stack.clone())),
            None => tls("closed by the server".to_owned()),
        },
    }
}

/// Why the server's certificate is not trusted, where that is what ended the handshake.
fn distrust(ssl: &SslRef, name: &str) -> Option<String> {
    let result = ssl.verify_result();
    if result == X509VerifyResult::OK || ssl.verify_mode() == SslVerifyMode::NONE {
        return None;
    }
    Some(format!("the certificate is not accepted for {name}: {}", result.error_string()))
}

/// OpenSSL's reasons, without its codes and places.
fn in_words(stack: impl std::borrow::Borrow<ErrorStack>) -> String {
    let reasons: Vec<&str> = stack.borrow().errors().iter().filter_map(Error::reason).collect();
    if reasons.is_empty() { "no reason given".to_owned() } else { reasons.join(", ") }
}

/// How long a certificate is valid, in words; an error where that is less than asked.
fn validity(certificate: Option<&X509Ref>, days: Option<i32>) -> Result<String, String> {
    let Some(certificate) = certificate else {
        return match days {
            None => Ok("no certificate".to_owned()),
            Some(_) => Err("the server has no certificate".to_owned()),
        };
    };
    let unread = |error: ErrorStack| format!("read the certificate's dates: {}", in_words(error));
    let now = Asn1Time::days_from_now(0).map_err(unread)?;
    let to_begin = now.diff(certificate.not_before()).map_err(unread)?;
    let to_end = now.diff(certificate.not_after()).map_err(unread)?;
    if days.is_some() && (to_begin.days, to_begin.secs) > (0, 0) {
        return Err(format!("the certificate is not valid before {}", certificate.not_before()));
    }
    let end = certificate.not_after();
    let expired = (to_end.days, to_end.secs) <= (0, 0);
    let words = if expired {
        format!("the certificate expired {} days ago ({end})", -to_end.days)
    } else {
        format!("the certificate is valid {} more days (until {end})", to_end.days)
    };
    match days {
        Some(_) if expired => Err(words),
        Some(wanted) if to_end.days < wanted => Err(format!("{words}, not {wanted}")),
        _ => Ok(words),
    }
}

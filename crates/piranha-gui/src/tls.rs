//! The page by HTTPS: with a given certificate, or with one of its own making.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use native_tls::Identity;
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use tokio_native_tls::TlsAcceptor;

use crate::options::Certificate;

/// For how long an own certificate is good, in days. Whoever trusts it by hand does so once.
const DAYS: u32 = 3650;
const OWN_CERTIFICATE: &str = "piranha-gui.crt";
const OWN_KEY: &str = "piranha-gui.key";

/// What accepts TLS with the certificate. To be called while the process may read the key.
///
/// # Errors
/// Says which file is missing or unfit.
pub fn acceptor(
    certificate: &Certificate,
    state: &Path,
    host: &str,
) -> Result<TlsAcceptor, String> {
    let (chain, key) = match certificate {
        Certificate::Files { chain, key } => (chain.clone(), key.clone()),
        Certificate::Own => own(state, host)?,
    };
    let read = |path: &Path| fs::read(path).map_err(|e| format!("read {}: {e}", path.display()));
    let identity = Identity::from_pkcs8(&read(&chain)?, &read(&key)?).map_err(|error| {
        format!(
            "{} and {} are no certificate (PEM) with its key (PEM, PKCS #8: BEGIN PRIVATE KEY): \
             {error}. openssl pkcs8 -topk8 -nocrypt makes such a key of another",
            chain.display(),
            key.display()
        )
    })?;
    let acceptor = native_tls::TlsAcceptor::builder(identity)
        .min_protocol_version(Some(native_tls::Protocol::Tlsv12))
        .build()
        .map_err(|error| format!("TLS: {error}"))?;
    Ok(acceptor.into())
}

/// The files of the own certificate, which is made if they are not both there.
fn own(state: &Path, host: &str) -> Result<(PathBuf, PathBuf), String> {
    let files = (state.join(OWN_CERTIFICATE), state.join(OWN_KEY));
    if files.0.exists() && files.1.exists() {
        return Ok(files);
    }
    let (certificate, key) =
        make(host).map_err(|error| format!("make a certificate for {host}: {error}"))?;
    let named = |path: &Path, error: std::io::Error| format!("write {}: {error}", path.display());
    fs::create_dir_all(state).map_err(|error| named(state, error))?;
    for (path, bytes, mode) in [(&files.1, &key, 0o600), (&files.0, &certificate, 0o644)] {
        // Anew, so that the mode is ours.
        let _ = fs::remove_file(path);
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .map_err(|error| named(path, error))?;
    }
    log::info!("made a certificate for {host}: {}", files.0.display());
    Ok(files)
}

/// A certificate for `host`, signed by itself, and its key, both PEM.
fn make(host: &str) -> Result<(Vec<u8>, Vec<u8>), ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(EcKey::generate(&group)?)?;
    let certificate = sign(host, &key)?;
    Ok((certificate.to_pem()?, key.private_key_to_pem_pkcs8()?))
}

/// RFC 5280, 4.1.
fn sign(host: &str, key: &PKey<Private>) -> Result<X509, ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    // ub-common-name of RFC 5280 is 64 characters.
    let common: String = host.chars().take(64).collect();
    name.append_entry_by_text("CN", &common)?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(DAYS)?)?;
    builder.set_pubkey(key)?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    builder.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
    let names = SubjectAlternativeName::new()
        .dns(host)
        .dns("localhost")
        .build(&builder.x509v3_context(None, None))?;
    builder.append_extension(names)?;
    builder.sign(key, MessageDigest::sha256())?;
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_own_certificate_is_made_once_and_fits() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path().join("piranha");
        acceptor(&Certificate::Own, &state, "lvs1.example.net").unwrap();
        let key = state.join(OWN_KEY);
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let first = fs::read(&key).unwrap();
        acceptor(&Certificate::Own, &state, "other").unwrap();
        assert_eq!(fs::read(&key).unwrap(), first);
        let certificate = X509::from_pem(&fs::read(state.join(OWN_CERTIFICATE)).unwrap()).unwrap();
        let names = certificate.subject_alt_names().unwrap();
        assert_eq!(names[0].dnsname(), Some("lvs1.example.net"));
    }

    #[test]
    fn unfit_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let (chain, key) = (directory.path().join("c"), directory.path().join("k"));
        let files = Certificate::Files { chain: chain.clone(), key: key.clone() };
        let refused = |files| acceptor(files, directory.path(), "x").err().unwrap();
        assert!(refused(&files).contains(chain.to_str().unwrap()));
        fs::write(&chain, "nonsense").unwrap();
        fs::write(&key, "nonsense").unwrap();
        assert!(refused(&files).contains("PKCS #8"));
    }
}

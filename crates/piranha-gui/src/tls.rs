//! The page by HTTPS: with a given certificate, or with one of its own making.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{Error, InconsistentKeys, ServerConfig};

use crate::options::Certificate;

/// For how long an own certificate is good. Whoever trusts it by hand does so once.
const LIFE: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
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
    // Handed on, not made the whole process's: nobody else comes to have it by that.
    let provider = ring::default_provider();
    let identity = load(&chain, &key, &provider)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

/// A certificate with its chain, and the key that belongs to it.
fn load(chain: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let read = |path: &Path| fs::read(path).map_err(|e| format!("read {}: {e}", path.display()));
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(chain)?)
        .collect::<Result<_, _>>()
        .ok()
        .filter(|certificates: &Vec<_>| !certificates.is_empty())
        .ok_or_else(|| {
            format!("{} holds no whole certificate in PEM (BEGIN CERTIFICATE)", chain.display())
        })?;
    let text = read(key)?;
    let private = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        if is_encrypted(&text) {
            format!(
                "the key in {} is encrypted, and nobody is asked for its password at a start: \
                 openssl pkey -in FILE -out NEW writes it without one",
                key.display()
            )
        } else {
            format!(
                "{} holds no whole private key in PEM (BEGIN PRIVATE KEY, BEGIN RSA PRIVATE KEY \
                 or BEGIN EC PRIVATE KEY)",
                key.display()
            )
        }
    })?;
    let signer = provider.key_provider.load_private_key(private).map_err(|_| {
        format!(
            "the key in {} is of a kind that does not serve: RSA of 2048 to 4096 bits, ECDSA on \
             P-256 or P-384, or Ed25519 does",
            key.display()
        )
    })?;
    let identity = CertifiedKey::new(certificates, signer);
    match identity.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(identity),
        Err(Error::InconsistentKeys(_)) => Err(format!(
            "the key in {} is not that of the first certificate in {}",
            key.display(),
            chain.display()
        )),
        Err(error) => Err(format!(
            "the first certificate in {} is none of X.509 version 3, or damaged: {error}",
            chain.display()
        )),
    }
}

/// Whether a key in PEM wants a password: PKCS #8 says it in the line that begins the key, OpenSSL's
/// own older form in the line below (`Proc-Type`).
fn is_encrypted(pem: &[u8]) -> bool {
    String::from_utf8_lossy(pem).contains("ENCRYPTED")
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
    for (path, pem, mode) in [(&files.1, key, 0o600), (&files.0, certificate, 0o644)] {
        // Anew, so that the mode is ours.
        let _ = fs::remove_file(path);
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .and_then(|mut file| file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(|error| named(path, error))?;
    }
    log::info!("made a certificate for {host}: {}", files.0.display());
    Ok(files)
}

/// A certificate for `host`, signed by itself, and its key, both PEM. RFC 5280, 4.1.
fn make(host: &str) -> Result<(String, String), String> {
    let named = |error: rcgen::Error| error.to_string();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(named)?;
    let mut names = vec![host.to_owned()];
    if host != "localhost" {
        names.push("localhost".to_owned());
    }
    let mut certificate = CertificateParams::new(names).map_err(named)?;
    certificate.distinguished_name = DistinguishedName::new();
    // ub-common-name of RFC 5280 is 64 characters.
    let common: String = host.chars().take(64).collect();
    certificate.distinguished_name.push(DnType::CommonName, common);
    certificate.is_ca = IsCa::ExplicitNoCa;
    certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|error| format!("random numbers: {error}"))?;
    // A positive number, always of the same length.
    serial[0] = serial[0] & 0x7f | 0x40;
    certificate.serial_number = Some(SerialNumber::from_slice(&serial));
    // From the day's beginning on, for browsers whose clock is behind.
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    let (month, day) = (now.month().unsigned_abs(), now.day().unsigned_abs());
    certificate.not_before = rcgen::date_time_ymd(now.year().into(), month, day);
    certificate.not_after = certificate.not_before + LIFE;
    let made = certificate.self_signed(&key).map_err(named)?;
    Ok((made.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    use openssl::asn1::{Asn1Time, Asn1TimeRef};
    use openssl::bn::{BigNum, MsbOption};
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::{PKey, Private};
    use openssl::rsa::Rsa;
    use openssl::symm::Cipher;
    use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
    use openssl::x509::{X509, X509NameBuilder};
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConnection, SupportedProtocolVersion,
        version,
    };

    fn elliptic(curve: Nid) -> PKey<Private> {
        let group = EcGroup::from_curve_name(curve).unwrap();
        PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
    }

    /// A certificate made by OpenSSL, as this program made its own with before it had rustls.
    fn by_openssl(host: &str, key: &PKey<Private>, version: i32) -> X509 {
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", host).unwrap();
        let name = name.build();
        let mut serial = BigNum::new().unwrap();
        serial.rand(127, MsbOption::MAYBE_ZERO, false).unwrap();
        let mut builder = X509::builder().unwrap();
        builder.set_version(version).unwrap();
        builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(3650).unwrap()).unwrap();
        builder.set_pubkey(key).unwrap();
        if version == 2 {
            let names = SubjectAlternativeName::new()
                .dns(host)
                .dns("localhost")
                .build(&builder.x509v3_context(None, None))
                .unwrap();
            let basic = BasicConstraints::new().critical().build().unwrap();
            let usage = ExtendedKeyUsage::new().server_auth().build().unwrap();
            for extension in [basic, usage, names] {
                builder.append_extension(extension).unwrap();
            }
        }
        let digest = match key.id() {
            openssl::pkey::Id::ED25519 => MessageDigest::null(),
            _ => MessageDigest::sha256(),
        };
        builder.sign(key, digest).unwrap();
        builder.build()
    }

    /// Two files, and what becomes of them.
    struct Pair {
        directory: tempfile::TempDir,
        files: Certificate,
    }

    impl Pair {
        fn of(chain: &[u8], key: &[u8]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let at = |name: &str, bytes: &[u8]| {
                let path = directory.path().join(name);
                fs::write(&path, bytes).unwrap();
                path
            };
            let files = Certificate::Files { chain: at("c.pem", chain), key: at("k.pem", key) };
            Self { directory, files }
        }

        fn accepted(&self) -> Result<TlsAcceptor, String> {
            acceptor(&self.files, self.directory.path(), "x")
        }

        /// The words of the refusal, in which the directory is `DIR`.
        fn refused(&self) -> String {
            let words = self.accepted().err().expect("a refusal");
            words.replace(self.directory.path().to_str().unwrap(), "DIR")
        }
    }

    /// Shakes hands in memory with a client that trusts these certificates, PEM; what both have
    /// agreed to speak.
    fn shake_hands(
        server: &TlsAcceptor,
        trusted: &[u8],
        name: &str,
        version: &'static SupportedProtocolVersion,
        protocols: &[&str],
    ) -> Result<Option<String>, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(trusted) {
            roots.add(certificate.unwrap())?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name)?;
        let mut server = ServerConnection::new(Arc::clone(server.config()))?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut &bytes[..]).unwrap();
            server.process_new_packets()?;
            bytes.clear();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut &bytes[..]).unwrap();
            client.process_new_packets()?;
        }
        Ok(server.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap()))
    }

    #[test]
    fn an_own_certificate_is_made_once_and_fits() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path().join("piranha");
        acceptor(&Certificate::Own, &state, "lvs1.example.net").unwrap();
        let key = state.join(OWN_KEY);
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let first = fs::read(&key).unwrap();
        let server = acceptor(&Certificate::Own, &state, "other").unwrap();
        assert_eq!(fs::read(&key).unwrap(), first);
        let trusted = fs::read(state.join(OWN_CERTIFICATE)).unwrap();
        for version in [&version::TLS12, &version::TLS13] {
            for name in ["lvs1.example.net", "localhost"] {
                shake_hands(&server, &trusted, name, version, &[]).unwrap();
            }
            let stranger = shake_hands(&server, &trusted, "other", version, &[]).unwrap_err();
            assert!(matches!(stranger, Error::InvalidCertificate(_)), "{stranger}");
        }
    }

    #[test]
    fn an_own_key_that_others_may_read_is_not_written_into() {
        let state = tempfile::tempdir().unwrap();
        let key = state.path().join(OWN_KEY);
        fs::write(&key, "left by somebody").unwrap();
        fs::set_permissions(&key, PermissionsExt::from_mode(0o666)).unwrap();
        acceptor(&Certificate::Own, state.path(), "lvs1").unwrap();
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_own_certificate_says_what_it_is_for() {
        let made = |host| X509::from_pem(make(host).unwrap().0.as_bytes()).unwrap();
        let host = format!("{}.example.net", "x".repeat(60));
        let certificate = made(&host);
        assert_eq!(certificate.version(), 2);
        let key = certificate.public_key().unwrap();
        assert!(certificate.verify(&key).unwrap());
        assert_eq!(key.ec_key().unwrap().group().curve_name(), Some(Nid::X9_62_PRIME256V1));
        let names = certificate.subject_alt_names().unwrap();
        let names: Vec<_> = names.iter().filter_map(|name| name.dnsname()).collect();
        assert_eq!(names, [&host, "localhost"]);
        let subject = certificate.subject_name();
        let common = subject.entries_by_nid(Nid::COMMONNAME).next().unwrap();
        assert_eq!(common.data().as_slice(), &host.as_bytes()[..64]);
        assert_eq!(subject.entries().count(), 1);
        let text = String::from_utf8(certificate.to_text().unwrap()).unwrap();
        let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("Basic Constraints: critical CA:FALSE"), "{text}");
        assert!(text.contains("Extended Key Usage: TLS Web Server Authentication"), "{text}");
        let serial = certificate.serial_number().to_bn().unwrap();
        assert!(!serial.is_negative() && serial.num_bits() == 127, "{serial}");
        assert_ne!(serial, made(&host).serial_number().to_bn().unwrap());
        let days = |from: &Asn1TimeRef, to: &Asn1TimeRef| from.diff(to).unwrap().days;
        assert_eq!(days(certificate.not_before(), certificate.not_after()), 3650);
        let now = Asn1Time::days_from_now(0).unwrap();
        assert!(certificate.not_before() <= now && days(certificate.not_before(), &now) <= 1);
        // An address is named as one.
        let names = made("2001:db8::1").subject_alt_names().unwrap();
        let address: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
        assert_eq!(names[0].ipaddress(), Some(&address.octets()[..]));
    }

    #[test]
    fn what_was_made_by_openssl_is_used_on() {
        let state = tempfile::tempdir().unwrap();
        let key = elliptic(Nid::X9_62_PRIME256V1);
        let certificate = by_openssl("lvs1.example.net", &key, 2).to_pem().unwrap();
        fs::write(state.path().join(OWN_CERTIFICATE), &certificate).unwrap();
        let pem = key.private_key_to_pem_pkcs8().unwrap();
        fs::write(state.path().join(OWN_KEY), &pem).unwrap();
        let server = acceptor(&Certificate::Own, state.path(), "lvs1.example.net").unwrap();
        shake_hands(&server, &certificate, "lvs1.example.net", &version::TLS13, &[]).unwrap();
        assert_eq!(fs::read(state.path().join(OWN_KEY)).unwrap(), pem);
    }

    #[test]
    fn keys_of_every_form_and_kind_serve() {
        let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let (p256, p384) = (elliptic(Nid::X9_62_PRIME256V1), elliptic(Nid::SECP384R1));
        let ed25519 = PKey::generate_ed25519().unwrap();
        let pkcs8 = |key: &PKey<Private>| key.private_key_to_pem_pkcs8().unwrap();
        let sec1 = |key: &PKey<Private>| key.ec_key().unwrap().private_key_to_pem().unwrap();
        // As openssl ecparam -genkey writes it.
        let parameters =
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let with_parameters = [&parameters[..], &sec1(&p256)].concat();
        let pkcs1 = rsa.rsa().unwrap().private_key_to_pem().unwrap();
        for (key, pem, begin) in [
            (&rsa, pkcs8(&rsa), "BEGIN PRIVATE KEY"),
            (&rsa, pkcs1, "BEGIN RSA PRIVATE KEY"),
            (&p256, pkcs8(&p256), "BEGIN PRIVATE KEY"),
            (&p256, sec1(&p256), "BEGIN EC PRIVATE KEY"),
            (&p256, with_parameters, "BEGIN EC PRIVATE KEY"),
            (&p384, pkcs8(&p384), "BEGIN PRIVATE KEY"),
            (&p384, sec1(&p384), "BEGIN EC PRIVATE KEY"),
            (&ed25519, pkcs8(&ed25519), "BEGIN PRIVATE KEY"),
        ] {
            assert!(String::from_utf8_lossy(&pem).contains(begin));
            let certificate = by_openssl("lvs1.example.net", key, 2).to_pem().unwrap();
            let server = Pair::of(&certificate, &pem).accepted();
            let server = server.unwrap_or_else(|words| panic!("{begin}: {words}"));
            let agreed =
                shake_hands(&server, &certificate, "lvs1.example.net", &version::TLS12, &[]);
            assert_eq!(agreed, Ok(None), "{begin}");
        }
    }

    #[test]
    fn the_protocol_is_http_1_1() {
        let key = elliptic(Nid::X9_62_PRIME256V1);
        let certificate = by_openssl("lvs1", &key, 2).to_pem().unwrap();
        let pair = Pair::of(&certificate, &key.private_key_to_pem_pkcs8().unwrap());
        let server = pair.accepted().unwrap();
        let speak = |protocols: &[&str]| {
            shake_hands(&server, &certificate, "lvs1", &version::TLS13, protocols)
        };
        assert_eq!(speak(&["h2", "http/1.1"]), Ok(Some("http/1.1".to_owned())));
        assert_eq!(speak(&["h2"]), Err(Error::NoApplicationProtocol));
    }

    #[test]
    fn unfit_files_are_named() {
        let key = elliptic(Nid::X9_62_PRIME256V1);
        let certificate = by_openssl("lvs1", &key, 2).to_pem().unwrap();
        let pem = key.private_key_to_pem_pkcs8().unwrap();
        let refused = |chain: &[u8], key: &[u8]| Pair::of(chain, key).refused();

        let missing = Pair::of(&certificate, &pem);
        fs::remove_file(missing.directory.path().join("k.pem")).unwrap();
        assert!(missing.refused().starts_with("read DIR/k.pem: "), "{}", missing.refused());
        fs::remove_file(missing.directory.path().join("c.pem")).unwrap();
        assert!(missing.refused().starts_with("read DIR/c.pem: "), "{}", missing.refused());

        let no_certificate = "DIR/c.pem holds no whole certificate in PEM (BEGIN CERTIFICATE)";
        for chain in [&b"nonsense"[..], b"", &pem, &certificate[..certificate.len() / 2]] {
            assert_eq!(refused(chain, &pem), no_certificate);
        }
        for key in [&b"nonsense"[..], b"", &certificate, &pem[..pem.len() / 2]] {
            let words = refused(&certificate, key);
            assert!(words.starts_with("DIR/k.pem holds no whole private key in PEM ("), "{words}");
        }

        let other = elliptic(Nid::X9_62_PRIME256V1).private_key_to_pem_pkcs8().unwrap();
        let words = "the key in DIR/k.pem is not that of the first certificate in DIR/c.pem";
        assert_eq!(refused(&certificate, &other), words);
        // The server's own stands first.
        let authority = by_openssl("authority", &elliptic(Nid::SECP384R1), 2).to_pem().unwrap();
        assert_eq!(refused(&[&authority[..], &certificate].concat(), &pem), words);
        Pair::of(&[&certificate[..], &authority].concat(), &pem).accepted().unwrap();

        let old = by_openssl("lvs1", &key, 0).to_pem().unwrap();
        let words = refused(&old, &pem);
        assert!(
            words.starts_with("the first certificate in DIR/c.pem is none of X.509"),
            "{words}"
        );
    }

    #[test]
    fn keys_that_do_not_serve_are_told_from_encrypted_ones() {
        let key = elliptic(Nid::X9_62_PRIME256V1);
        let certificate = by_openssl("lvs1", &key, 2).to_pem().unwrap();
        let cipher = Cipher::aes_128_cbc();
        let pkcs8 = key.private_key_to_pem_pkcs8_passphrase(cipher, b"secret").unwrap();
        let older = key.ec_key().unwrap().private_key_to_pem_passphrase(cipher, b"secret").unwrap();
        for encrypted in [pkcs8, older] {
            let words = Pair::of(&certificate, &encrypted).refused();
            assert!(words.starts_with("the key in DIR/k.pem is encrypted"), "{words}");
            assert!(words.contains("openssl pkey"), "{words}");
        }
        let short = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
        for key in [short, elliptic(Nid::SECP521R1)] {
            let certificate = by_openssl("lvs1", &key, 2).to_pem().unwrap();
            let words = Pair::of(&certificate, &key.private_key_to_pem_pkcs8().unwrap()).refused();
            assert!(words.starts_with("the key in DIR/k.pem is of a kind"), "{words}");
        }
    }
}

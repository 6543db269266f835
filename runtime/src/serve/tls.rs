//! TLS with a certificate of the box's own.
//!
//! In: the state folder, where certificate and key lie once they were made, and the box's names. Out: what accepts a
//! connection, and the fingerprint by which people know the box. Nobody else signs it: browsers say so once, and what
//! they show can be compared with what the console shows. Must never go on without TLS where it was wanted.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cloister_program::private;
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::api_error::ApiError;
use super::names::Names;

/// Encryption of the port.
pub struct Tls {
    /// Takes a connection on.
    pub acceptor: TlsAcceptor,
    names: Names,
}

impl Tls {
    /// With what lies in the state folder, made for these names and addresses if nothing of use does. What is of none, as
    /// after a power cut, is put aside.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn of(state: &Path, names: Names, addresses: &[Ipv4Addr]) -> anyhow::Result<Self> {
        let folder = state.join("tls");
        let config = match config_of(&folder) {
            Ok(config) => config,
            // The owner's to mend, and nothing that should be replaced.
            Err(wrong)
                if wrong
                    .downcast_ref::<std::io::Error>()
                    .is_some_and(|error| error.kind() != ErrorKind::NotFound) =>
            {
                return Err(wrong);
            }
            Err(wrong) => {
                if folder.join("cert.pem").exists() {
                    tracing::warn!(
                        "another certificate is made, which browsers ask about: {wrong:#}"
                    );
                }
                make(&folder, &names, addresses).context("cannot make a certificate")?;
                config_of(&folder)?
            }
        };
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            names,
        })
    }

    /// What a client of the network is told that does not encrypt.
    pub fn lead_to_it(&self, request: &Request) -> Response {
        let host = request.headers().get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        let host = host.filter(|host| self.names.has(host));
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match (host, request.uri().path_and_query()) {
            (Some(host), Some(path)) if reads => {
                let place = format!("https://{host}{path}");
                (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, place)]).into_response()
            }
            _ => ApiError::forbidden("from the network this box is asked with https:// alone")
                .into_response(),
        }
    }
}

/// What encrypts with the certificate and the key of this folder.
fn config_of(folder: &Path) -> anyhow::Result<ServerConfig> {
    let read = |name: &str| {
        let file = folder.join(name);
        std::fs::read(&file).with_context(|| file.display().to_string())
    };
    let wrong = |name: &'static str| move |error| anyhow!("{name}: {error}");
    let chain = CertificateDer::from_pem_slice(&read("cert.pem")?).map_err(wrong("cert.pem"))?;
    let secret = PrivateKeyDer::from_pem_slice(&read("key.pem")?).map_err(wrong("key.pem"))?;
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        // Fails where they do not belong together, too.
        .with_single_cert(vec![chain], secret)
        .context("cert.pem and key.pem")
}

/// The fingerprint of the certificate in a state folder, as browsers show it: SHA-256, in pairs.
///
/// # Errors
/// There is no certificate.
pub fn fingerprint(state: &Path) -> anyhow::Result<String> {
    let file = state.join("tls/cert.pem");
    let certificate = CertificateDer::from_pem_file(&file)
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| file.display().to_string())?;
    let digest = Sha256::digest(&certificate);
    Ok(digest.iter().fold(String::new(), |mut text, byte| {
        let separator = if text.is_empty() { "" } else { ":" };
        let _ = write!(text, "{separator}{byte:02X}");
        text
    }))
}

/// Good from 2020, as the clock of a board without a battery may be years behind, until 2100, as nobody is there to
/// renew it, and a new one would have to be compared again.
fn make(folder: &Path, names: &Names, addresses: &[Ipv4Addr]) -> anyhow::Result<()> {
    let loopback = ["127.0.0.1", "::1"].map(str::to_owned);
    let mut all: Vec<String> = names.all().to_vec();
    all.extend(
        loopback
            .into_iter()
            .chain(addresses.iter().map(Ipv4Addr::to_string)),
    );
    let mut params = CertificateParams::new(all)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Cloister");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    private::folder(folder)?;
    let files = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    for file in files.iter().filter(|file| file.exists()) {
        std::fs::rename(file, file.with_extension("pem.unusable"))?;
    }
    let [cert, secret] = files;
    private::replace(&secret, key.serialize_pem())?;
    private::replace(&cert, certificate.pem())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        assert!(fingerprint(state.path()).is_err());
        let tls = || Tls::of(state.path(), Names::new(&[]), &[]);
        tls().unwrap();
        let first = fingerprint(state.path()).unwrap();
        assert_eq!(first.len(), 32 * 3 - 1, "{first}");
        tls().unwrap();
        assert_eq!(fingerprint(state.path()).unwrap(), first);
        let key = state.path().join("tls/key.pem");
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_a_power_cut_left_of_a_certificate_is_put_aside_and_another_is_made() {
        let (state, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tls = |folder: &Path| Tls::of(folder, Names::new(&[]), &[]).map(drop);
        for folder in [&state, &other] {
            tls(folder.path()).unwrap();
        }
        let of_another = std::fs::read(other.path().join("tls/key.pem")).unwrap();
        for (name, left) in [
            ("key.pem", &b"no key"[..]),
            ("key.pem", b""),
            ("cert.pem", b""),
            ("key.pem", &of_another),
        ] {
            let file = state.path().join("tls").join(name);
            let before = fingerprint(state.path()).unwrap();
            std::fs::write(&file, left).unwrap();
            tls(state.path()).unwrap();
            assert_ne!(fingerprint(state.path()).unwrap(), before);
            let aside = std::fs::read(file.with_extension("pem.unusable")).unwrap();
            assert_eq!(aside, left);
        }
        // One that could not be put into its place alone.
        std::fs::remove_file(state.path().join("tls/cert.pem")).unwrap();
        tls(state.path()).unwrap();
    }
}

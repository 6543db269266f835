//! TLS with a certificate of the box's own.
//!
//! In: the state folder, where certificate and key lie once they were made, and the box's names. Out: what accepts a
//! connection, and the fingerprint by which people know the box. Nobody else signs it: browsers say so once, and what
//! they show can be compared with what the console shows. Must never go on without TLS where it was wanted.

use std::fmt::Write as _;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
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
    /// With what lies in the state folder, made for these names and addresses if nothing does.
    ///
    /// # Errors
    /// The folder cannot be read or written; what lies there is no certificate with its key.
    pub fn of(state: &Path, names: Names, addresses: &[Ipv4Addr]) -> anyhow::Result<Self> {
        let folder = state.join("tls");
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        if !certificate.exists() || !key.exists() {
            make(&folder, &names, addresses).context("cannot make a certificate")?;
        }
        let wrong = |file: &Path| format!("{}: remove it, and another is made", file.display());
        let chain = CertificateDer::from_pem_file(&certificate)
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| wrong(&certificate))?;
        let secret = PrivateKeyDer::from_pem_file(&key)
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| wrong(&key))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![chain], secret)
            .with_context(|| wrong(&certificate))?;
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
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let write = |name: &str, text: &str| {
        let new = folder.join(format!("{name}.new"));
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())
                    .and_then(|()| file.sync_all())
            })
            .and_then(|()| std::fs::rename(&new, folder.join(name)))
    };
    // The key first: a certificate without one is made again.
    write("key.pem", &key.serialize_pem())?;
    write("cert.pem", &certificate.pem())?;
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
        std::fs::write(&key, "no key").unwrap();
        let error = format!("{:#}", tls().err().unwrap());
        assert!(error.contains("key.pem"), "{error}");
    }
}

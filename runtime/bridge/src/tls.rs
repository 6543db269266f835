//! TLS with the house's own CA: the files that it needs, and what its errors mean to a person.
//!
//! In: the names of files, errors of `rustls`. Out: a configuration; sentences.
//! Must never trust a CA that is not in the file that the owner gave.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as TlsError, RootCertStore,
};

use crate::config::Tls;

/// Reads the files.
///
/// # Errors
/// One sentence about the file that is missing or of no use.
pub fn client_config(tls: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.cafile)? {
        roots.add(certificate).map_err(|error| {
            format!(
                "{} holds what is no CA's certificate: {error}",
                tls.cafile.display()
            )
        })?;
    }
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((certfile, keyfile)) = &tls.own else {
        return Ok(config.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_slice(&read(keyfile)?).map_err(|error| {
        format!(
            "{} holds no private key in PEM without a passphrase: {error}",
            keyfile.display()
        )
    })?;
    config
        .with_client_auth_cert(certificates(certfile)?, key)
        .map_err(|error| {
            format!(
                "{} and {} do not belong together: {error}",
                certfile.display(),
                keyfile.display()
            )
        })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file)?).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(format!("{} holds no certificate in PEM", file.display()))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

/// What a person needs to know of an error of TLS.
pub fn told(error: &TlsError, tls: Option<&Tls>) -> String {
    use CertificateError as Certificate;
    let certificate = match error {
        TlsError::InvalidCertificate(error) => error,
        TlsError::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure),
        ) => {
            return format!(
                "the broker does not take our certificate, or wants one ({alert:?}); look at --certfile and --keyfile"
            );
        }
        TlsError::InvalidMessage(_) => {
            return "what the broker speaks on this port is not TLS".into();
        }
        other => return format!("TLS: {other}"),
    };
    let days = |seconds: u64| seconds / (24 * 60 * 60);
    match certificate {
        // Bad is the signature where the true CA has the same name as one of ours.
        Certificate::UnknownIssuer | Certificate::BadSignature => format!(
            "the broker's certificate is signed by none of the CAs in {}",
            tls.map_or_else(|| "--cafile".into(), |tls| tls.cafile.display().to_string())
        ),
        Certificate::ExpiredContext { time, not_after } => format!(
            "the broker's certificate has expired, {} days ago by this machine's clock; renew it",
            days(time.as_secs().saturating_sub(not_after.as_secs()))
        ),
        Certificate::NotValidYetContext { time, not_before } => format!(
            "the broker's certificate is not valid for another {} days by this machine's clock; set the clock",
            days(not_before.as_secs().saturating_sub(time.as_secs()))
        ),
        Certificate::NotValidForNameContext { presented, .. } => format!(
            "the broker's certificate is for {}, not for the host in the URL; give one of these, with its address in /etc/hosts if it is a name",
            names(presented)
        ),
        other => format!("the broker's certificate cannot be trusted: {other}"),
    }
}

/// Names as `rustls` shows them, `DnsName("a")`, without their wrapping.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
    match presented {
        [] => "no host".into(),
        names => names.iter().map(bare).collect::<Vec<_>>().join(", "),
    }
}

//! From an address to a stream of bytes: TCP, TLS where the URL asks for it, WebSocket where it does.
//!
//! In: a [`Broker`]. Out: an open stream, or one sentence about what keeps it from opening.
//! Must never ask a name server, trust a CA that is not in the house's file, or wait on without an end: the
//! MQTT library bounds the time of it all.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::Error as TlsError;
use tokio_rustls::rustls::pki_types::ServerName;

use super::websocket;
use crate::config::{Broker, Tls};
use crate::tls;

/// What MQTT goes over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// Why there is no connection, where trying again helps only once somebody has mended it: a sentence.
#[derive(Debug)]
pub struct Obstacle(pub String);

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Obstacle {}

impl Obstacle {
    /// The obstacle in an error of the MQTT library, if there is one.
    pub fn among(error: &(dyn Error + 'static)) -> Option<String> {
        let mut next = Some(error);
        while let Some(error) = next {
            let inner = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref);
            if let Some(inner) = inner {
                if let Some(Self(why)) = inner.downcast_ref() {
                    return Some(why.clone());
                }
                // With TLS 1.3 the broker judges our certificate after the handshake.
                if let Some(error) = inner.downcast_ref::<TlsError>() {
                    return Some(tls::told(error, None));
                }
            }
            next = error.source();
        }
        None
    }
}

/// Connections to the broker that were opened since the start.
pub static OPENED: AtomicU64 = AtomicU64::new(0);

fn obstacle(why: impl Into<String>) -> io::Error {
    io::Error::other(Obstacle(why.into()))
}

/// Opens a connection. Our own in place of the library's, which would ask a resolver. The files of TLS are
/// read each time, so that a renewed certificate needs no restart.
pub async fn dial(broker: Broker, largest: usize) -> io::Result<Box<dyn Stream>> {
    let config = broker.tls.as_ref().map(tls::client_config);
    let config = config.transpose().map_err(obstacle)?;
    let tcp = TcpStream::connect(broker.address).await?;
    OPENED.fetch_add(1, Ordering::Relaxed);
    tcp.set_nodelay(true)?;
    let mut stream: Box<dyn Stream> = Box::new(tcp);
    if let (Some(config), Some(files)) = (config, &broker.tls) {
        let name = ServerName::try_from(broker.host.clone())
            .map_err(|_| obstacle(format!("{:?} cannot stand in a certificate", broker.host)))?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
        stream = Box::new(connected.await.map_err(|error| handshake(error, files))?);
    }
    match &broker.websocket {
        Some(path) => {
            let stream = websocket::open(stream, &broker, path, largest).await;
            Ok(Box::new(
                stream.map_err(|error| error.unwrap_or_else(obstacle))?,
            ))
        }
        None => Ok(stream),
    }
}

fn handshake(error: io::Error, files: &Tls) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(inner) => obstacle(tls::told(inner, Some(files))),
        None if is_end(&error) => obstacle(
            "the broker ends the connection when TLS begins; is it another port that speaks TLS?",
        ),
        None => error,
    }
}

/// Whether the other side went away.
pub fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

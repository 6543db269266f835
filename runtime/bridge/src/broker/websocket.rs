//! MQTT over WebSocket: a stream of bytes, whatever messages they come in.
//!
//! In: an open connection. Out: the bytes of its binary messages, and one message for each write.
//! Must never take a ping, or an empty message, for bytes or for an end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, error::ProtocolError};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::dial::{Stream, is_end};
use crate::config::Broker;

/// More than MQTT adds to the largest packet.
const OVERHEAD: usize = 1024;

/// The bytes in the messages of a WebSocket.
pub struct Bytestream {
    socket: WebSocketStream<Box<dyn Stream>>,
    left: Bytes,
}

/// Asks for MQTT on this path. The error is a sentence where somebody has to mend something.
pub async fn open(
    stream: Box<dyn Stream>,
    broker: &Broker,
    path: &str,
    largest: usize,
) -> Result<Bytestream, Result<io::Error, String>> {
    let host = match broker.host.contains(':') {
        true => format!("[{}]", broker.host),
        false => broker.host.clone(),
    };
    let mut request = format!("ws://{host}:{}{path}", broker.address.port())
        .into_client_request()
        .map_err(|error| {
            Err(format!(
                "the URL of the WebSocket cannot be asked for: {error}"
            ))
        })?;
    let mqtt = HeaderValue::from_static("mqtt");
    request.headers_mut().insert("Sec-WebSocket-Protocol", mqtt);
    let largest = Some(largest.saturating_add(OVERHEAD));
    let config = WebSocketConfig::default()
        .max_message_size(largest)
        .max_frame_size(largest);
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(Bytestream {
            socket,
            left: Bytes::new(),
        }),
        Err(Error::Io(error)) if !is_end(&error) => Err(Ok(error)),
        Err(Error::Io(_) | Error::Protocol(ProtocolError::HandshakeIncomplete)) => Err(Err(
            "the broker ends the connection when WebSocket begins; is it another port that speaks it?"
                .into(),
        )),
        Err(Error::Http(response)) => Err(Err(format!(
            "there is no WebSocket at {path:?}: the answer has status {}",
            response.status()
        ))),
        Err(error) => Err(Err(format!("there is no WebSocket for MQTT at {path:?}: {error}"))),
    }
}

impl AsyncRead for Bytestream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.left = bytes,
                Some(Ok(Message::Text(_))) => {
                    let error = "the broker sends text over WebSocket, where MQTT is binary";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                // Answered, or followed by the end, by the library.
                Some(Ok(
                    Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_),
                )) => {}
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.left.len().min(buffer.remaining());
        buffer.put_slice(&self.left[..length]);
        self.left.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bytestream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(cx)).map_err(io_error)?;
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        socket.start_send(message).map_err(io_error)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(io_error)
    }
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

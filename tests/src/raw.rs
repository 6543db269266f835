//! Bytes over TCP as nobody's client would send them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than any limit in time that the box has.
const LONG: Duration = Duration::from_secs(90);

/// A connection to `host:port`.
pub struct Raw(TcpStream);

impl Raw {
    /// Connects.
    pub fn to(place: &str) -> Self {
        let stream = TcpStream::connect(place).expect("the port accepts");
        stream
            .set_read_timeout(Some(LONG))
            .expect("a limit can be set");
        Self(stream)
    }

    /// Sends bytes; `false` if the other side has closed.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).is_ok()
    }

    /// The first line of what comes.
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.0.read(&mut byte).is_ok_and(|length| length == 1) && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line).trim().to_owned()
    }

    /// Everything until the other side closes.
    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => bytes.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("it is not closed: {}", String::from_utf8_lossy(&bytes))
                }
                Err(_) => break,
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether the other side has closed; waits for a while.
    pub fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }
}

/// What is answered to these bytes, until the other side closes.
pub fn exchange(place: &str, bytes: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::to(place);
    raw.send(bytes);
    raw.rest()
}

//! A broker that goes away or goes mad after any byte: the bridge comes through, and loses nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use tempfile::TempDir;

use crate::parts::{BOTH_VERSIONS, Bridge, Broker};

/// How many connections of each bridge are spoilt.
const SPOILT: usize = 2;

/// What becomes of a connection after some bytes from the broker.
#[derive(Clone, Copy, Debug)]
enum Spoil {
    Close,
    Garbage(u64),
    /// Nothing more comes, and nothing ends it.
    Silence,
}

/// A port of its own before the real broker, whose first connections go wrong after so many bytes.
fn before(broker: &Broker, after: usize, spoil: Spoil) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let real = broker.port;
    std::thread::spawn(move || {
        for (n, near) in listener.incoming().map_while(Result::ok).enumerate() {
            let Ok(far) = TcpStream::connect(("127.0.0.1", real)) else {
                return;
            };
            let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
            std::thread::spawn(move || {
                if n < SPOILT {
                    spoil_after(far, near, after, spoil);
                } else {
                    let (mut far, mut near) = (far, near);
                    let _ = std::io::copy(&mut far, &mut near);
                    let _ = near.shutdown(Shutdown::Both);
                }
            });
        }
    });
    port
}

/// Errors are the other side's going away, which is what may happen here.
fn spoil_after(far: TcpStream, mut near: TcpStream, after: usize, spoil: Spoil) {
    let mut right = Vec::new();
    // Where the broker has no more to say, what it said is all.
    let _ = far.set_read_timeout(Some(Duration::from_millis(300)));
    let _ = (&far).take(after as u64).read_to_end(&mut right);
    let _ = near.write_all(&right);
    match spoil {
        Spoil::Close => {}
        Spoil::Garbage(mut seed) => {
            let garbage: Vec<u8> = (0..2000)
                .map(|_| {
                    // Marsaglia's xorshift.
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed as u8
                })
                .collect();
            let _ = near.write_all(&garbage);
        }
        Spoil::Silence => std::thread::sleep(Duration::from_secs(20)),
    }
    let _ = near.shutdown(Shutdown::Both);
    let _ = far.shutdown(Shutdown::Both);
}

#[test]
fn a_broker_that_closes_or_sends_garbage_after_any_byte_costs_only_the_connection() {
    let broker = Broker::start();
    let answers = broker.listen(&["cloister/n/status", "cloister/n/answer/#"]);
    for version in BOTH_VERSIONS {
        // Its first packets, CONNACK and SUBACK, have less than 40 bytes.
        for after in (0..10).chain([12, 15, 20, 30, 40]) {
            for spoil in [Spoil::Close, Spoil::Garbage(after as u64 + 1)] {
                comes_through(&broker, &answers, version, after, spoil);
            }
        }
    }
}

#[test]
fn a_broker_that_falls_silent_is_left() {
    let broker = Broker::start();
    let answers = broker.listen(&["cloister/n/status", "cloister/n/answer/#"]);
    for version in BOTH_VERSIONS {
        comes_through(&broker, &answers, version, 4, Spoil::Silence);
    }
}

fn comes_through(
    broker: &Broker,
    answers: &crate::parts::Listener,
    version: &str,
    after: usize,
    spoil: Spoil,
) {
    println!("{version}: {spoil:?} after {after} bytes");
    let folder = TempDir::new().unwrap();
    let url = format!("mqtt://127.0.0.1:{}", before(broker, after, spoil));
    let mut bridge = Bridge::start_at(&url, folder.path(), version, |command| {
        command.args(["--keep-alive", "5"]);
    });
    answers.wait_online();
    let id = format!("s{after}");
    broker.publish("cloister/n/ask", format!(r#"{{"id":"{id}"}}"#));
    answers.next_on(&format!("cloister/n/answer/{id}"));
    assert!(!bridge.log().contains("panicked"), "{}", bridge.log());
    bridge.stop();
    // What the last will and the farewell say of this one is not the next one's.
    while answers.next_on("cloister/n/status").payload != "offline" {}
}

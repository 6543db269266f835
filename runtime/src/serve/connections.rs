//! Connections: accepted, encrypted where that is wanted, and served one request after the other.
//!
//! In: the two listeners and the router. Out: served connections. Must never let one client keep the others out: what
//! comes slowly, or too often at once, is closed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;

use super::gate::is_own;
use super::peer::Peer;
use super::rate::{CLIENTS_OF_A_NETWORK, network};
use super::tls::Tls;

/// The longest time until a request's head is there, and that a connection may be idle.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// The longest time that TLS may take to agree.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// The longest time for which a client of the port may take nothing of what it is sent: what answers it is held meanwhile.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// The most bytes of a head. Browsers send the cookies of all ports of a host to each.
const MAX_HEAD: usize = 32 << 10;
/// Connections of one client of the network, and of all of them together. A browser opens six for a page.
const MOST_OF_ONE: usize = 32;
const MOST_OF_ALL: usize = 256;
/// Connections of the machine's own programs.
const MOST_OWN: usize = 512;

/// The first byte of a TLS connection: a record with a handshake.
const HANDSHAKE: u8 = 0x16;

/// Serves the port.
pub async fn over_tcp(listener: TcpListener, app: Router, tls: Option<Arc<Tls>>) {
    let room = Room::default();
    loop {
        let (stream, ip) = match listener.accept().await {
            Ok((stream, address)) => (stream, address.ip().to_canonical()),
            Err(error) => {
                wait_after(&error).await;
                continue;
            }
        };
        let Some(place) = room.take(ip) else {
            tracing::debug!("a connection too many is closed");
            continue;
        };
        let (app, tls) = (app.clone(), tls.clone());
        tokio::spawn(async move {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!("no TCP_NODELAY for a connection: {error}");
            }
            connection(stream, ip, app, tls).await;
            drop(place);
        });
    }
}

/// Serves the Unix socket: local programs, which may take their time.
pub async fn over_unix(listener: UnixListener, app: Router) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let user = stream.peer_cred().ok().map(|cred| cred.uid());
                tokio::spawn(serve(stream, Peer::LocalUser(user), app.clone(), None));
            }
            Err(error) => wait_after(&error).await,
        }
    }
}

async fn wait_after(error: &std::io::Error) {
    tracing::error!("no connection can be accepted: {error}");
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn connection(stream: TcpStream, ip: IpAddr, app: Router, tls: Option<Arc<Tls>>) {
    let peer = |encrypted| Peer::Address {
        ip,
        encrypted,
        key: None,
    };
    let Some(tls) = tls else {
        return serve(patient(stream), peer(false), app, Some(HEAD_WITHIN)).await;
    };
    let mut first = [0];
    let peeked = timeout(HEAD_WITHIN, stream.peek(&mut first)).await;
    let stream = patient(stream);
    match peeked {
        Ok(Ok(1)) if first[0] == HANDSHAKE => {
            match timeout(HANDSHAKE_WITHIN, tls.acceptor.accept(stream)).await {
                Ok(Ok(stream)) => serve(stream, peer(true), app, Some(HEAD_WITHIN)).await,
                Ok(Err(error)) => tracing::debug!("no TLS with a client: {error}"),
                Err(_) => tracing::debug!("a client takes too long over TLS"),
            }
        }
        // What the machine says to itself nobody overhears.
        Ok(Ok(1)) if is_own(ip) => serve(stream, peer(false), app, Some(HEAD_WITHIN)).await,
        Ok(Ok(1)) => {
            let lead = service_fn(move |request: hyper::Request<Incoming>| {
                let answer = tls.lead_to_it(&request.map(Body::new));
                async move { Ok::<_, Infallible>(answer) }
            });
            speak(stream, lead, Some(HEAD_WITHIN)).await;
        }
        _ => {}
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    app: Router,
    head_within: Option<Duration>,
) {
    let app = TowerToHyperService::new(app);
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer.clone()));
        app.call(request)
    });
    speak(stream, answer, head_within).await;
}

/// With an end to the patience for who does not read.
fn patient<S: AsyncRead + AsyncWrite>(stream: S) -> Pin<Box<TimeoutStream<S>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(TAKEN_WITHIN));
    Box::pin(stream)
}

/// Speaks HTTP/1 until the connection ends.
async fn speak<S>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: S,
    head_within: Option<Duration>,
) where
    S: Service<hyper::Request<Incoming>, Response = Response, Error = Infallible>,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(head_within)
        .max_header_size(MAX_HEAD)
        .max_buf_size(2 * MAX_HEAD);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("a connection ended: {error}");
    }
}

/// Who has how many connections.
#[derive(Clone, Default)]
struct Room(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection's place, given back when dropped.
struct Place {
    room: Room,
    client: IpAddr,
}

impl Room {
    fn take(&self, ip: IpAddr) -> Option<Place> {
        let client = ip.to_canonical();
        let mut room = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |own: bool| {
            let clients = room.iter().filter(move |(ip, _)| is_own(**ip) == own);
            clients.map(|(_, count)| count).sum::<usize>()
        };
        let own = is_own(ip);
        let there = room.get(&client).copied().unwrap_or_default();
        let fits = match own {
            true => of(true) < MOST_OWN,
            false => {
                let net = network(client);
                let beside = room.iter().filter(|(ip, _)| network(**ip) == net);
                let beside = beside.map(|(_, count)| count).sum::<usize>();
                let fits = net.is_none() || beside < MOST_OF_ONE * CLIENTS_OF_A_NETWORK;
                fits && there < MOST_OF_ONE && of(false) < MOST_OF_ALL
            }
        };
        fits.then(|| {
            *room.entry(client).or_default() += 1;
            Place {
                room: self.clone(),
                client,
            }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut room = self.room.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = room.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                room.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_an_answer_is_let_go_after_a_while_and_who_is_slow_is_not() {
        let endless = || {
            service_fn(|_: hyper::Request<Incoming>| async {
                let body = Body::from_stream(async_stream::stream! {
                    loop {
                        yield Ok::<_, Infallible>(vec![b'x'; 4096]);
                    }
                });
                Ok::<_, Infallible>(Response::new(body))
            })
        };
        for reads in [false, true] {
            let (mut client, box_side) = tokio::io::duplex(1024);
            client
                .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                .await
                .unwrap();
            let reader = async {
                let mut some = [0; 512];
                for _ in 0..10 {
                    tokio::time::sleep(TAKEN_WITHIN / 2).await;
                    if reads {
                        client.read_exact(&mut some).await.unwrap();
                    }
                }
            };
            let spoken = speak(patient(box_side), endless(), None);
            tokio::select! {
                () = spoken => assert!(!reads),
                () = reader => assert!(reads),
            }
        }
    }

    #[test]
    fn one_machine_of_a_network_leaves_places_to_the_others_and_its_addresses_are_few_clients() {
        let room = Room::default();
        let address = |n: u16| IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, n]);
        let one = (0..100).filter_map(|_| room.take(address(1)));
        let one: Vec<Place> = one.collect();
        assert_eq!(one.len(), MOST_OF_ONE);
        assert!(room.take(address(2)).is_some());
        let all = (2..1000).filter_map(|n| room.take(address(n)));
        let all: Vec<Place> = all.collect();
        assert_eq!(one.len() + all.len(), MOST_OF_ONE * CLIENTS_OF_A_NETWORK);
    }

    #[test]
    fn one_client_cannot_take_all_places_and_all_cannot_take_the_owners() {
        let room = Room::default();
        let client = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut places: Vec<Place> = (0..100).filter_map(|_| room.take(client(1))).collect();
        assert_eq!(places.len(), MOST_OF_ONE);
        for n in 2..100 {
            places.extend((0..100).filter_map(|_| room.take(client(n))));
        }
        assert_eq!(places.len(), MOST_OF_ALL);
        let own = [127, 0, 0, 1].into();
        let mine: Vec<Place> = (0..1000).filter_map(|_| room.take(own)).collect();
        assert_eq!(mine.len(), MOST_OWN);
        drop((places, mine));
        assert!(room.take(client(1)).is_some() && room.0.lock().unwrap().is_empty());
    }
}

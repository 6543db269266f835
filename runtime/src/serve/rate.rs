//! How often a client of the network may come.
//!
//! In: a client's address. Out: whether it may go on, or after how many seconds. The machine's own programs are not
//! counted: they are the owner's, and the engine's queue keeps them from crowding out others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Requests that may come at once. A page sends some tens when it opens, and eight a second while an answer grows.
const BURST: f64 = 200.0;
/// Requests a second, from then on.
const PER_SECOND: f64 = 20.0;
/// How many clients all addresses of one network of IPv6 may be together: a machine there has more addresses than can be
/// counted, and the house's machines are in one.
pub const CLIENTS_OF_A_NETWORK: usize = 4;
/// Addresses that are remembered.
const MOST_CLIENTS: usize = 4096;

/// Wrong codes within [`WINDOW`]: of one client, and of all together. A code of eight digits, good for ten minutes, is
/// guessed by one attacker of 100,000.
const MOST_WRONG: usize = 10;
const MOST_WRONG_OF_ALL: usize = 100;
const WINDOW: Duration = Duration::from_secs(60);

/// What is left to each client, and to each network of them: an address, and whether it stands for its network.
#[derive(Default)]
pub struct Rate(Mutex<HashMap<(IpAddr, bool), (f64, Instant)>>);

impl Rate {
    /// Counts a request of this client.
    ///
    /// # Errors
    /// The seconds after which it may come again.
    pub fn count(&self, client: IpAddr, now: Instant) -> Result<(), u32> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let share = |of_network: bool| match of_network {
            true => CLIENTS_OF_A_NETWORK as f64,
            false => 1.0,
        };
        let filled = |of_network: bool, left: f64, since: Instant| {
            let more = now.saturating_duration_since(since).as_secs_f64() * PER_SECOND;
            (left + more * share(of_network)).min(BURST * share(of_network))
        };
        if clients.len() + 1 >= MOST_CLIENTS {
            clients.retain(|(_, of_network), (left, since)| {
                filled(*of_network, *left, *since) < BURST * share(*of_network)
            });
            if clients.len() + 1 >= MOST_CLIENTS {
                return Err(10);
            }
        }
        let network = network(client).map(|network| (network, true));
        let client = (client.to_canonical(), false);
        let keys = || network.into_iter().chain([client]);
        let left =
            |clients: &HashMap<_, (f64, Instant)>, key: (IpAddr, bool)| match clients.get(&key) {
                Some((left, since)) => filled(key.1, *left, *since),
                None => BURST * share(key.1),
            };
        // Who is refused is not counted: one client would use up what its network has.
        if keys().any(|key| left(&clients, key) < 1.0) {
            return Err(1);
        }
        for key in keys() {
            let left = left(&clients, key) - 1.0;
            clients.insert(key, (left, now));
        }
        Ok(())
    }
}

/// The network of an address of IPv6; others stand for themselves.
pub fn network(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            Some(IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()))
        }
        _ => None,
    }
}

/// When wrong codes came, and from whom.
#[derive(Default)]
pub struct Wrong(Mutex<Vec<(Instant, IpAddr)>>);

impl Wrong {
    /// Whether another guess may be looked at.
    ///
    /// # Errors
    /// The seconds after which one may.
    pub fn check(&self, client: IpAddr, now: Instant) -> Result<(), u32> {
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let past = |then: Instant| now.saturating_duration_since(then);
        wrong.retain(|(then, _)| past(*then) < WINDOW);
        let first_of = |most: usize, is_theirs: &dyn Fn(IpAddr) -> bool| {
            let mut theirs = wrong.iter().filter(|(_, from)| is_theirs(*from));
            theirs.next().filter(|_| theirs.count() + 1 >= most)
        };
        let (client, net) = (client.to_canonical(), network(client));
        let first = first_of(MOST_WRONG, &|from| from == client).or_else(|| {
            let all = MOST_WRONG * CLIENTS_OF_A_NETWORK;
            first_of(all, &|from| net.is_some() && network(from) == net)
        });
        let first = first.or_else(|| wrong.first().filter(|_| wrong.len() >= MOST_WRONG_OF_ALL));
        match first {
            Some((first, _)) => {
                let left = WINDOW.saturating_sub(past(*first));
                Err(u32::try_from(left.as_secs()).unwrap_or(u32::MAX) + 1)
            }
            None => Ok(()),
        }
    }

    /// Counts a wrong one; whether all together are now as many as may be.
    pub fn count(&self, client: IpAddr, now: Instant) -> bool {
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.push((now, client.to_canonical()));
        wrong.len() >= MOST_WRONG_OF_ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_slowed_down_and_the_others_are_not() {
        let (rate, now) = (Rate::default(), Instant::now());
        let (one, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for _ in 0..BURST as u32 {
            assert!(rate.count(one, now).is_ok());
        }
        assert!(rate.count(one, now).is_err() && rate.count(other, now).is_ok());
        let later = now + Duration::from_secs(1);
        let allowed = (0..100).filter(|_| rate.count(one, later).is_ok()).count();
        assert_eq!(allowed, PER_SECOND as usize);
    }

    #[test]
    fn many_addresses_of_one_network_are_few_clients_and_none_is_all_of_them() {
        let (rate, now) = (Rate::default(), Instant::now());
        let address = |n: u16| IpAddr::from([0xfd00, 1, 2, 3, 0, 0, 0, n]);
        let one = (0..1000).filter(|_| rate.count(address(0), now).is_ok());
        assert_eq!(one.count(), BURST as usize, "one leaves the others theirs");
        let others = (1..1000).filter(|n| rate.count(address(*n), now).is_ok());
        assert_eq!(
            others.count() + BURST as usize,
            CLIENTS_OF_A_NETWORK * BURST as usize
        );
        let mapped = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 1]);
        assert_eq!(network(mapped), None);
        let own = IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(network(own), None);
    }

    #[test]
    fn the_table_of_clients_is_bounded_and_empties_itself() {
        let (rate, now) = (Rate::default(), Instant::now());
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..MOST_CLIENTS as u32 - 1 {
            assert!(rate.count(address(n), now).is_ok());
        }
        assert!(rate.count(address(1 << 20), now).is_err());
        assert!(
            rate.count(address(1 << 20), now + Duration::from_secs(1))
                .is_ok()
        );
    }

    #[test]
    fn guesses_are_few() {
        let (wrong, now) = (Wrong::default(), Instant::now());
        let client = |n: u8| IpAddr::from([10, 0, 0, n]);
        assert!((0..MOST_WRONG).all(|_| !wrong.count(client(0), now)));
        assert_eq!(wrong.check(client(0), now), Err(61));
        assert!(wrong.check(client(0), now + WINDOW).is_ok());
        assert!(wrong.check(client(1), now).is_ok(), "others may go on");
        let all: Vec<bool> = (0..MOST_WRONG_OF_ALL as u8)
            .map(|n| wrong.count(client(n), now))
            .collect();
        assert_eq!(all.iter().position(|all| *all), Some(MOST_WRONG_OF_ALL - 1));
        assert_eq!(wrong.check(client(200), now), Err(61));
    }
}

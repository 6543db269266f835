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
/// Addresses that are remembered.
const MOST_CLIENTS: usize = 4096;

/// Wrong codes within [`WINDOW`]: of one client, and of all together. A code of eight digits, good for ten minutes, is
/// guessed by one attacker of 100,000.
const MOST_WRONG: usize = 10;
const MOST_WRONG_OF_ALL: usize = 100;
const WINDOW: Duration = Duration::from_secs(60);

/// What is left to each client.
#[derive(Default)]
pub struct Rate(Mutex<HashMap<IpAddr, (f64, Instant)>>);

impl Rate {
    /// Counts a request of this client.
    ///
    /// # Errors
    /// The seconds after which it may come again.
    pub fn count(&self, client: IpAddr, now: Instant) -> Result<(), u32> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = |left: f64, since: Instant| {
            let more = now.saturating_duration_since(since).as_secs_f64() * PER_SECOND;
            (left + more).min(BURST)
        };
        if clients.len() >= MOST_CLIENTS {
            clients.retain(|_, (left, since)| filled(*left, *since) < BURST);
            if clients.len() >= MOST_CLIENTS {
                return Err(10);
            }
        }
        let entry = clients.entry(household(client)).or_insert((BURST, now));
        *entry = (filled(entry.0, entry.1), now);
        if entry.0 < 1.0 {
            return Err(1);
        }
        entry.0 -= 1.0;
        Ok(())
    }
}

/// One network of IPv6 is one client: a machine there has more addresses than can be counted.
pub fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into())
        }
        other => other,
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
        let client = household(client);
        let mut own = wrong.iter().filter(|(_, from)| *from == client);
        let first = own.next().filter(|_| own.count() + 1 >= MOST_WRONG);
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
        wrong.push((now, household(client)));
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
    fn many_addresses_of_one_network_are_one_client() {
        let (rate, now) = (Rate::default(), Instant::now());
        let address = |n: u16| IpAddr::from([0xfd00, 1, 2, 3, 0, 0, 0, n]);
        let allowed = (0..1000).filter(|n| rate.count(address(*n), now).is_ok());
        assert_eq!(allowed.count(), BURST as usize);
        let mapped = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 1]);
        assert_eq!(household(mapped), IpAddr::from([10, 0, 0, 1]));
        let own = IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(
            household(own),
            own,
            "the machine's own programs are no client of the network"
        );
    }

    #[test]
    fn the_table_of_clients_is_bounded_and_empties_itself() {
        let (rate, now) = (Rate::default(), Instant::now());
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..MOST_CLIENTS as u32 {
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

//! How many bytes of requests' bodies there may be in memory at once.
//!
//! In: a body as it grows. Out: room for it, or the error that says to come again. What is made of a body, as JSON, takes
//! up to thirty times its bytes; all the bodies that as many connections as there may be could send would not fit.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::MAX_BODY;
use super::api_error::ApiError;

/// Bytes of all large bodies together: of two of the largest.
const MOST: usize = 2 * MAX_BODY;
/// A body of no more bytes than this needs no room: who asks something ordinary is not kept out by who does not.
const SMALL: usize = 64 << 10;

/// The bodies that some clients are sending.
#[derive(Default)]
pub struct Bodies(AtomicUsize);

/// The room that one body has, given back when dropped.
pub struct Room<'a> {
    bodies: &'a Bodies,
    taken: usize,
}

impl Bodies {
    /// For a body of which nothing has come yet.
    pub fn room(&self) -> Room<'_> {
        Room {
            bodies: self,
            taken: 0,
        }
    }
}

impl Room<'_> {
    /// Takes room for so many bytes.
    ///
    /// # Errors
    /// Others have it. Nobody waits for it, or those would hold on to theirs who wait for each other.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), ApiError> {
        if bytes <= SMALL || bytes <= self.taken {
            return Ok(());
        }
        let more = bytes - self.taken;
        let fits = |taken: usize| Some(taken + more).filter(|sum| *sum <= MOST);
        let all = &self.bodies.0;
        match all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => {
                self.taken = bytes;
                Ok(())
            }
            Err(_) => Err(ApiError::unavailable(
                "too many large requests are being read: try again in a moment",
            )),
        }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.bodies.0.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_share_what_there_is_and_small_ones_need_none() {
        let bodies = Bodies::default();
        let [mut one, mut two, mut three] = [bodies.room(), bodies.room(), bodies.room()];
        assert!(one.grow_to(MAX_BODY).is_ok());
        for bytes in [SMALL + 1, MAX_BODY / 2, MAX_BODY] {
            assert!(two.grow_to(bytes).is_ok());
        }
        assert!(three.grow_to(SMALL).is_ok() && three.grow_to(SMALL + 1).is_err());
        assert!(two.grow_to(MAX_BODY).is_ok(), "it has that already");
        drop(one);
        assert!(three.grow_to(MAX_BODY).is_ok());
        drop((two, three));
        assert_eq!(bodies.0.load(Ordering::Relaxed), 0);
    }
}

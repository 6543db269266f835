//! ggml's threads, shared by all contexts of this process, and whose turn it is to compute on them.
//!
//! ggml's threads spin at barriers and for a while after their work, so that two contexts that computed at the same
//! time, or one after the other on threads of their own, would wait for each other most of the time.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use llama_cpp_sys_2 as sys;
use parking_lot::{FairMutex, FairMutexGuard};

/// Who waits gets it in turn, rather than whoever comes back first.
static TURN: FairMutex<()> = FairMutex::new(());

/// The pools that contexts hold, by their number of threads.
static POOLS: Mutex<Vec<(usize, Weak<Threads>)>> = Mutex::new(Vec::new());

/// A pool of threads.
pub struct Threads(NonNull<sys::ggml_threadpool>);

// SAFETY: ggml locks a pool's own state; only one context computes at a time, see `turn`.
unsafe impl Send for Threads {}
// SAFETY: as above.
unsafe impl Sync for Threads {}

impl Threads {
    /// The pool of `n` threads. `None` when it cannot be made.
    pub fn of(n: usize) -> Option<Arc<Self>> {
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|(_, pool)| pool.strong_count() > 0);
        let mut pools_of_n = pools.iter().filter(|(threads, _)| *threads == n);
        if let Some(pool) = pools_of_n.find_map(|(_, pool)| pool.upgrade()) {
            return Some(pool);
        }
        // SAFETY: the params live for the call.
        let pool = unsafe {
            let mut params = sys::ggml_threadpool_params_default(n as i32);
            Arc::new(Self(NonNull::new(sys::ggml_threadpool_new(&mut params))?))
        };
        pools.push((n, Arc::downgrade(&pool)));
        Some(pool)
    }

    pub(super) fn as_ptr(&self) -> *mut sys::ggml_threadpool {
        self.0.as_ptr()
    }

    /// Waits until it is the caller's turn to compute.
    pub(super) fn turn(&self) -> FairMutexGuard<'static, ()> {
        TURN.lock()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // SAFETY: freed once; the contexts that compute on it hold it.
        unsafe { sys::ggml_threadpool_free(self.as_ptr()) }
    }
}

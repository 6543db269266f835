//! Whether the engine still computes, tried out: for watchdogs, which must take neither a busy nor a closed engine for a
//! dead one.
//!
//! In: questions, past the queue and past the privacy switch. Out: an answer to each once a batch has been computed after
//! it came: one of whoever is answered, or of a single token whose trace is cut from the cache.

use tokio::sync::oneshot;

use super::Scheduler;
use crate::llama::Token;

/// Who asks; dropped where nothing could be computed.
pub type Question = oneshot::Sender<()>;

/// Any token does.
const TOKEN: Token = 0;

impl Scheduler {
    /// Answers who asked, once this is so: `computed` says whether a batch was just now.
    pub(super) fn answer_tests(&mut self, computed: bool) {
        if self.tests.is_empty() {
            return;
        }
        let passed = computed
            || match self.slots.iter().rposition(|slot| slot.work.is_none()) {
                Some(free) => self.compute_one(free),
                // Who works in all of them computes soon.
                None => return,
            };
        for question in self.tests.drain(..).filter(|_| passed) {
            let _ = question.send(());
        }
    }

    /// Computes one token behind what a free slot holds.
    fn compute_one(&mut self, free: usize) -> bool {
        let slot = &mut self.slots[free];
        let most = self.context.n_ctx_seq() as usize - 1;
        if slot.cached.len() > most {
            let kept = self.context.truncate(slot.seq, most);
            slot.cached.truncate(kept);
        }
        self.batch.clear();
        self.batch.push(TOKEN, slot.next_pos(), slot.seq, true);
        let computed = self.context.decode(&self.batch);
        let kept = self.context.truncate(slot.seq, slot.cached.len());
        slot.cached.truncate(kept);
        computed
            .inspect_err(|error| tracing::error!("the self-test fails: {error:?}"))
            .is_ok()
    }
}

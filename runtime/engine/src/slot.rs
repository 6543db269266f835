//! A slot: one sequence of the KV cache, and the request that it works on.

use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use crate::decoder::Utf8Decoder;
use crate::engine::{Client, Request};
use crate::event::{Completion, Event, FinishReason, Timings, Usage};
use crate::llama::{Model, Pos, Sampler, SeqId, Token};
use crate::reasoning::{Parted, Splitter};
use crate::stop::StopMatcher;

/// One sequence of the KV cache. Keeps its tokens after a request, so that the next turn of the same
/// conversation need not compute them again.
pub struct Slot {
    pub seq: SeqId,
    /// The tokens whose keys and values the cache holds, from position 0.
    pub cached: Vec<Token>,
    /// Whose tokens they are: nobody else may build on them.
    pub owner: Option<Client>,
    pub work: Option<Work>,
}

impl Slot {
    pub fn new(seq: SeqId) -> Self {
        Self {
            seq,
            cached: Vec::new(),
            owner: None,
            work: None,
        }
    }

    /// How many tokens of `request`'s prompt this slot holds. At least one is left to compute, for
    /// its logits.
    pub fn shared_prefix(&self, request: &Request) -> usize {
        if self.owner.as_ref() != Some(&request.client) {
            return 0;
        }
        let prompt = &request.prompt.tokens;
        let same = self
            .cached
            .iter()
            .zip(prompt)
            .take_while(|(a, b)| a == b)
            .count();
        same.min(prompt.len().saturating_sub(1))
    }

    /// The position that the next token goes to.
    pub fn next_pos(&self) -> Pos {
        self.cached.len() as Pos
    }
}

/// A request in a slot.
pub struct Work {
    pub events: UnboundedSender<Event>,
    /// What is to be read before the next token is drawn.
    pub prompt: Vec<Token>,
    n_prompt: usize,
    pub taken_over: usize,
    /// The token drawn last, not yet in the KV cache. `None` while the prompt is read.
    pub next: Option<Token>,
    pub sampler: Sampler,
    max_tokens: usize,
    text: TextPipeline,
    started: Instant,
    first_token: Option<Instant>,
    generated: usize,
    reasoning: usize,
}

impl Work {
    pub fn new(
        request: Request,
        events: UnboundedSender<Event>,
        taken_over: usize,
        model: &Model,
    ) -> Self {
        let seed = request.sampling.seed.unwrap_or_else(fresh_seed);
        Self {
            events,
            taken_over,
            next: None,
            sampler: Sampler::new(&request.sampling, model, seed),
            max_tokens: request.max_tokens,
            text: TextPipeline::new(request.prompt.opens_thought, request.stop),
            n_prompt: request.prompt.tokens.len(),
            prompt: request.prompt.tokens,
            started: Instant::now(),
            first_token: None,
            generated: 0,
            reasoning: 0,
        }
    }

    pub fn cancelled(&self) -> bool {
        self.events.is_closed()
    }

    /// The `cached` tokens have been lost: they are to be read once more, and what was drawn after them.
    pub fn read_again(&mut self, cached: Vec<Token>) {
        if let Some(next) = self.next.take() {
            self.prompt = cached;
            self.prompt.push(next);
        }
        self.taken_over = 0;
    }

    /// Reports how far the prompt has been read, until the answer begins.
    pub fn report_prefill(&self, processed: usize) {
        if self.first_token.is_some() {
            return;
        }
        self.send(Event::Prefill {
            total: self.prompt.len(),
            cached: self.taken_over,
            processed,
            elapsed: self.started.elapsed(),
        });
    }

    /// Takes a drawn token; sends its text. Gives the reason when it was the last.
    pub fn accept(&mut self, token: Token, model: &Model) -> Option<FinishReason> {
        self.first_token.get_or_insert_with(Instant::now);
        self.generated += 1;
        if model.is_end_of_generation(token) {
            return Some(FinishReason::Stop);
        }
        let mut bytes = model.piece(token, false);
        if bytes.is_empty() && matches!(model.token_text(token).as_str(), "<think>" | "</think>") {
            // Some vocabularies mark the tags as control tokens, which have no text of their own.
            bytes = model.piece(token, true);
        }
        if self.text.thinking() {
            self.reasoning += 1;
        }
        let (parted, stopped) = self.text.push(&bytes);
        self.send_text(parted);
        if stopped {
            return Some(FinishReason::Stop);
        }
        self.next = Some(token);
        (self.generated >= self.max_tokens).then_some(FinishReason::Length)
    }

    /// Sends what text was held back, and the end.
    pub fn finish(mut self, finish_reason: FinishReason) -> Timings {
        let parted = self.text.finish();
        self.send_text(parted);
        let first = self.first_token.unwrap_or(self.started);
        let timings = Timings {
            prompt_tokens: self.n_prompt - self.taken_over,
            prompt: first - self.started,
            predicted_tokens: self.generated.saturating_sub(1),
            predicted: first.elapsed(),
        };
        let usage = Usage {
            prompt: self.n_prompt,
            cached: self.taken_over,
            completion: self.generated,
            reasoning: self.reasoning,
        };
        self.send(Event::Done(Completion {
            finish_reason,
            usage,
            timings,
        }));
        timings
    }

    fn send_text(&self, parted: Parted) {
        if !parted.content.is_empty() || !parted.reasoning.is_empty() {
            self.send(Event::Text {
                content: parted.content,
                reasoning: parted.reasoning,
            });
        }
    }

    fn send(&self, event: Event) {
        // A closed channel is a cancel, which the scheduler sees by itself.
        let _ = self.events.send(event);
    }
}

/// Bytes of tokens in; reasoning and answer out, ended by stop sequences (in the answer only).
struct TextPipeline {
    utf8: Utf8Decoder,
    splitter: Splitter,
    stop: StopMatcher,
    stopped: bool,
}

impl TextPipeline {
    fn new(opens_thought: bool, stop: Vec<String>) -> Self {
        Self {
            utf8: Utf8Decoder::default(),
            splitter: Splitter::new(opens_thought),
            stop: StopMatcher::new(stop),
            stopped: false,
        }
    }

    fn thinking(&self) -> bool {
        self.splitter.thinking()
    }

    fn push(&mut self, bytes: &[u8]) -> (Parted, bool) {
        let text = self.utf8.push(bytes);
        let Parted { reasoning, content } = self.splitter.push(&text);
        let (content, stopped) = self.stop.push(&content);
        self.stopped = stopped;
        (Parted { reasoning, content }, stopped)
    }

    fn finish(&mut self) -> Parted {
        if self.stopped {
            return Parted::default();
        }
        let text = self.utf8.finish();
        let mut parted = self.splitter.push(&text);
        let rest = self.splitter.finish();
        parted.reasoning += &rest.reasoning;
        let (content, stopped) = self.stop.push(&(parted.content + &rest.content));
        parted.content = if stopped {
            content
        } else {
            content + &self.stop.finish()
        };
        parted
    }
}

fn fresh_seed() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() as u32
}

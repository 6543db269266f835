//! A slot: one sequence of the KV cache, and the request that it works on.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::draft_model::DraftModel;
use crate::engine::{Client, Phase, Priority, Request};
use crate::error::GenerateError;
use crate::event::{Completion, Event, FinishReason, Timings, Usage};
use crate::grammar::{Grammar, Next};
use crate::llama::{Context, Model, Pos, Sampler, SeqId, Token};
use crate::prefix_store::WORTH_READING;
use crate::queue::Job;
use crate::reasoning::{CLOSING, Parted};
use crate::restraint::Restraint;
use crate::speculation::{Chance, Costs, Drafter, MOST_DRAFTED};
use crate::text_pipeline::{Said, TextPipeline};
use crate::tools::Hold;

/// How long tokens may be tried one by one before all that may come is found out: others wait meanwhile.
const TRYING: Duration = Duration::from_millis(10);

/// One sequence of the KV cache. Keeps its tokens after a request, so that the next turn of the same
/// conversation need not compute them again.
pub struct Slot {
    pub seq: SeqId,
    /// The tokens whose keys and values the cache holds, from position 0.
    pub cached: Vec<Token>,
    /// Whose tokens they are: nobody else may build on them.
    pub owner: Option<Client>,
    /// Tokens of the last prompt, of which these are a beginning: what was answered is seldom asked again.
    pub asked: usize,
    /// When it was asked last: it counts the requests.
    pub used: u64,
    pub work: Option<Work>,
}

impl Slot {
    pub fn new(seq: SeqId) -> Self {
        Self {
            seq,
            cached: Vec::new(),
            owner: None,
            asked: 0,
            used: 0,
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

    /// How many tokens its request may compute at once: none after what may be stored together with some of it,
    /// so that whether it was stored makes no difference to how the rest is computed, and so none to rounding.
    pub fn at_once(&self) -> usize {
        let template = self.work.as_ref().map_or(0, |work| work.template);
        match template.saturating_sub(self.cached.len()) {
            0 => usize::MAX,
            rest => rest,
        }
    }

    /// The tokens of its request that the cache does not hold yet.
    pub fn pending(&self) -> &[Token] {
        let work = self.work.as_ref();
        work.map_or(&[], |work| &work.tokens[self.cached.len()..])
    }

    /// The position that the next token goes to.
    pub fn next_pos(&self) -> Pos {
        self.cached.len() as Pos
    }
}

/// A request in a slot.
pub struct Work {
    pub events: UnboundedSender<Event>,
    /// As in its job.
    pub number: u64,
    pub priority: Priority,
    pub deadline: Option<Instant>,
    /// The prompt and what was generated after it. The slot's cache holds a beginning of it; the rest is to be
    /// computed, and then the next token is drawn.
    pub tokens: Vec<Token>,
    n_prompt: usize,
    /// How many of them come before anything that a user says; 0 where that is not worth storing.
    template: usize,
    taken_over: usize,
    sampler: Sampler,
    max_tokens: usize,
    /// Tokens that the thought may have.
    budget: Option<usize>,
    grammar: Option<Grammar>,
    /// Whether it is done when the prompt has been read, which is then stored.
    pub stores: bool,
    /// Whether the grammar begins to hold with the first call.
    waits_for_call: bool,
    text: TextPipeline,
    pub drafter: Drafter,
    started: Instant,
    first_token: Option<Instant>,
    generated: usize,
    forced: usize,
    reasoning: usize,
}

impl Work {
    pub fn new(
        Job {
            request,
            events,
            number,
            ..
        }: Job,
        taken_over: usize,
        model: &Model,
    ) -> Self {
        let seed = request.sampling.seed.unwrap_or_else(fresh_seed);
        Self {
            events,
            number,
            priority: request.priority,
            taken_over,
            sampler: Sampler::new(&request.sampling, model, seed),
            max_tokens: request.max_tokens,
            deadline: request.deadline,
            stores: request.stores,
            budget: request.thinking_budget,
            waits_for_call: matches!(request.grammar, Some((_, Hold::Call))),
            grammar: request.grammar.map(|(grammar, _)| grammar),
            text: TextPipeline::new(request.prompt.stage, request.stop, &request.calls),
            drafter: Drafter::new(match model.can_forget() {
                true => request.most_drafted.unwrap_or(MOST_DRAFTED),
                false => 0,
            }),
            n_prompt: request.prompt.tokens.len(),
            template: Some(request.prompt.template)
                .filter(|template| *template >= WORTH_READING)
                .unwrap_or(0),
            tokens: request.prompt.tokens,
            started: Instant::now(),
            first_token: None,
            generated: 0,
            forced: 0,
            reasoning: 0,
        }
    }

    pub fn cancelled(&self) -> bool {
        self.events.is_closed()
    }

    /// Whether its deadline has passed; tells that to who waits.
    pub fn too_late(&self, now: Instant) -> bool {
        let late = self.deadline.is_some_and(|deadline| now >= deadline);
        if late {
            self.send(Event::Failed(GenerateError::Deadline));
        }
        late
    }

    /// Whether it is not to be answered any more; tells why to who waits.
    pub fn is_ended_by(&self, restraint: &Restraint) -> bool {
        let why = restraint.ends(self.number);
        let ends = why.is_some();
        if let Some(why) = why {
            self.send(Event::Failed(why));
        }
        ends
    }

    /// Whether the prompt is still being read.
    pub fn reads_prompt(&self) -> bool {
        self.first_token.is_none()
    }

    /// How far its answer is.
    pub fn phase(&self) -> Phase {
        match (self.reads_prompt(), self.text.thinking()) {
            (true, _) => Phase::Reading,
            (false, true) => Phase::Thinking,
            (false, false) => Phase::Answering,
        }
    }

    /// What the cache held of it has been lost.
    pub fn read_again(&mut self) {
        self.taken_over = 0;
    }

    /// Reports how far the prompt has been read.
    pub fn report_prefill(&self, processed: usize) {
        self.send(Event::Prefill {
            total: self.n_prompt,
            cached: self.taken_over,
            processed,
            elapsed: self.started.elapsed(),
        });
    }

    /// Tokens generated so far.
    pub fn generated(&self) -> usize {
        self.generated
    }

    /// Tokens that may come next, to be computed with the last `pending`.
    pub fn draft(
        &mut self,
        pending: usize,
        costs: &Costs,
        model: Option<&mut DraftModel>,
    ) -> Vec<Token> {
        let chance = Chance {
            pending,
            // The last token that may be drawn need not be computed.
            room: self.max_tokens.saturating_sub(self.generated + 1),
            costs,
        };
        let (of_text, saves) = self.drafter.look_up(&self.tokens, &chance);
        if let Some(model) = model {
            let most = self.drafter.most(&chance);
            let proposed = model.draft(&self.tokens, &chance, most, saves, self.generated);
            if !proposed.is_empty() {
                self.drafter.is_of_model();
                return proposed;
            }
        }
        of_text.to_vec()
    }

    /// Goes on from the logits of batch index `i`: takes the next token, and what must follow it; sends their
    /// text. Gives the reason when that was the end.
    pub fn go_on(
        &mut self,
        context: &mut Context,
        i: i32,
        model: &Model,
    ) -> Result<Option<FinishReason>, GenerateError> {
        let first = self.first_token.is_none();
        self.first_token.get_or_insert_with(Instant::now);
        // The answer may begin with what it must, of which nothing has been read yet.
        if first && let Some(reason) = self.follow(model) {
            return Ok(Some(reason));
        }
        if self.generated > 0 && first {
            return Ok(None);
        }
        let Some(token) = self.draw(context, i, model)? else {
            return Ok(Some(FinishReason::Stop));
        };
        if let Some(reason) = self.take(token, model) {
            return Ok(Some(reason));
        }
        Ok(self.follow(model))
    }

    /// Draws a token that the grammar, if there is one and the answer has begun, allows. None at its end.
    fn draw(
        &mut self,
        context: &mut Context,
        i: i32,
        model: &Model,
    ) -> Result<Option<Token>, GenerateError> {
        let drawn = self.sampler.draw(context, i, None);
        let free = self.text.thinking() || self.waits_for_call;
        let (false, Some(grammar)) = (free, &mut self.grammar) else {
            return Ok(drawn);
        };
        // Most of the time the model keeps to it by itself, and what all may be need not be found out. Drawing
        // again from what is allowed gives the same odds as drawing from that at first.
        let mut fits = |token| grammar.allows(token, model.is_end_of_generation(token));
        let fitting = match drawn.filter(|token| fits(*token)) {
            Some(token) => Some(token),
            None => {
                let until = Instant::now() + TRYING;
                let fits = |token| Instant::now() < until && fits(token);
                self.sampler.draw_fitting(context, i, fits)
            }
        };
        let token = match fitting {
            Some(token) => token,
            None => match grammar.allowed() {
                Next::End => return Ok(None),
                Next::Broken(reason) => return Err(GenerateError::Grammar(reason)),
                Next::OneOf(allowed) => match self.sampler.draw(context, i, Some(&allowed)) {
                    Some(token) => token,
                    None => return Ok(None),
                },
            },
        };
        if !model.is_end_of_generation(token) {
            grammar.take(token);
        }
        Ok(Some(token))
    }

    /// Takes the tokens that must come now: those that close a thought whose budget is used up, those between
    /// a thought and an answer that a grammar holds, and those that leave the grammar no choice.
    fn follow(&mut self, model: &Model) -> Option<FinishReason> {
        let spent = self.reasoning;
        if self.budget.is_some_and(|budget| spent >= budget)
            && self.text.thinking()
            && let Some(reason) = self.force(model.tokenize(CLOSING, false), model)
        {
            return Some(reason);
        }
        if self.grammar.is_none() || self.text.thinking() {
            return None;
        }
        if self.waits_for_call {
            let (begun, grammar) = (self.text.call_begun()?, self.grammar.as_mut()?);
            grammar.take_text(begun, model);
            self.waits_for_call = false;
        } else if self.text.thought_has_just_ended()
            && let Some(reason) = self.force(model.tokenize("\n\n", false), model)
        {
            return Some(reason);
        }
        let grammar = self.grammar.as_mut()?;
        let (forced, ended) = (grammar.take_forced(), grammar.ended());
        self.force(forced, model)
            .or_else(|| ended.then_some(FinishReason::Stop))
    }

    /// Takes tokens that are not drawn.
    fn force(&mut self, tokens: Vec<Token>, model: &Model) -> Option<FinishReason> {
        tokens.into_iter().find_map(|token| {
            self.forced += 1;
            self.take(token, model)
        })
    }

    /// Takes one token: its text goes out, and it is to be computed. Gives the reason when it was the last.
    fn take(&mut self, token: Token, model: &Model) -> Option<FinishReason> {
        self.sampler.accept(token);
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
        let (said, stopped) = self.text.push(&bytes);
        self.send_said(said);
        if stopped {
            return Some(FinishReason::Stop);
        }
        self.tokens.push(token);
        (self.generated >= self.max_tokens).then_some(FinishReason::Length)
    }

    /// Sends what text was held back, and the end.
    pub fn finish(mut self, finish_reason: FinishReason) -> Timings {
        let said = self.text.finish();
        self.send_said(said);
        let finish_reason = match finish_reason {
            FinishReason::Stop if self.text.called() => FinishReason::ToolCalls,
            reason => reason,
        };
        let first = self.first_token.unwrap_or(self.started);
        let timings = Timings {
            prompt_tokens: self.n_prompt - self.taken_over,
            prompt: first - self.started,
            predicted_tokens: self.generated.saturating_sub(1),
            predicted: first.elapsed(),
            forced_tokens: self.forced,
            drafted_tokens: self.drafter.drafted,
            accepted_tokens: self.drafter.accepted,
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

    fn send_said(&self, said: Said) {
        let Parted { content, reasoning } = said.text;
        if !content.is_empty() || !reasoning.is_empty() {
            self.send(Event::Text { content, reasoning });
        }
        for call in said.calls {
            self.send(Event::Call(call));
        }
    }

    fn send(&self, event: Event) {
        // A closed channel is a cancel, which the scheduler sees by itself.
        let _ = self.events.send(event);
    }
}

fn fresh_seed() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() as u32
}

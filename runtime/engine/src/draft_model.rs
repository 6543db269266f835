//! A small model with the same vocabulary that says what may come next, for [`crate::speculation`] to weigh.
//!
//! In: the tokens of the one answer that is worked on. Out: those that the small model likes best after them, as long as
//! it is sure of them, and how long that took. It keeps what it has read of that answer. Nothing that it says is ever
//! part of an answer by itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cloister_gguf::{Array, ContextShape, Gguf, Metadata, Value};

use crate::engine::Options;
use crate::error::LoadError;
use crate::llama::{Batch, Context, ContextParams, DecodeError, KvType, Model, Token, first_error};
use crate::memory;
use crate::rehearsal::Trial;
use crate::speculation::{Chance, ModelRecord};

/// Tokens that it reads at once of what it has not read yet: between two steps of an answer, who cancels waits for it.
pub const SLICE: usize = 64;

/// A token that it likes no better than this ends a draft: what follows would be cut with it as a rule.
const SURE: f64 = 0.5;

/// A token that it likes no better than this is not worth its place in a batch, though it has been found.
const WORTH_A_PLACE: f64 = 0.25;

/// Tokens of answers without a draft of it after which what it took is forgotten.
const FORGOTTEN: u32 = 200;

/// Tokens by which vocabularies may differ in length, as llama.cpp has it: some are filled up at the end.
const FILLED_UP: usize = 128;

/// A file that can be the draft model of another one.
pub struct DraftFile {
    pub file: Gguf,
    /// Tokens that both models have.
    n_vocab: usize,
}

impl DraftFile {
    /// Opens the file at `path` for the model in `target`.
    ///
    /// # Errors
    /// [`LoadError::File`]: no sound GGUF; [`LoadError::Draft`]: its vocabulary is another one.
    pub fn open(path: &Path, target: &Gguf) -> Result<Self, LoadError> {
        let file = Gguf::open(path)?;
        let n_vocab = same_vocabulary(&target.metadata, &file.metadata);
        let n_vocab = n_vocab.map_err(|reason| LoadError::Draft {
            path: path.to_owned(),
            reason,
        })?;
        Ok(Self { file, n_vocab })
    }

    /// Its context for slots of `n_ctx` tokens, as memory knows it.
    pub fn shape(n_ctx: u32, kv_type: KvType) -> ContextShape {
        memory::shape(n_ctx, 1, n_ctx.min(SLICE as u32), 1, kv_type)
    }
}

/// The loaded model.
pub struct DraftModel {
    context: Context,
    batch: Batch,
    /// What the context holds.
    cached: Vec<Token>,
    /// Tokens that both models have.
    n_vocab: usize,
    /// What came of its drafts.
    pub record: ModelRecord,
    /// Seconds of one token after the other, and of each of a slice.
    one: Took,
    of_many: Took,
    /// Tokens of answers since it was last worth its time.
    idle: u32,
}

/// What something takes: of late, and at best, which other programs did not disturb.
struct Took {
    now: f64,
    least: f64,
}

impl Took {
    const UNKNOWN: Self = Self {
        now: f64::INFINITY,
        least: f64::INFINITY,
    };

    /// It took so long this time, which counts as this share of what it takes.
    fn learn(&mut self, took: f64, share: f64) {
        self.least = self.least.min(took);
        self.now = match self.now.is_finite() {
            true => self.now + share * (took - self.now),
            false => took,
        };
    }

    fn forget(&mut self) {
        self.now = self.least;
    }
}

impl DraftModel {
    /// Loads `file`, for a model whose slots are of `params`.
    ///
    /// # Errors
    /// [`LoadError`]: as for any model.
    pub fn load(
        file: &DraftFile,
        params: ContextParams,
        options: &Options,
    ) -> Result<Self, LoadError> {
        let path = file.file.path();
        let params = ContextParams {
            n_seq: 1,
            n_batch: params.n_ctx_seq.min(SLICE as u32),
            ..params
        };
        if let Some(rehearse) = options.rehearse {
            rehearse(path, &Trial::of(params, Some(1))).map_err(LoadError::Rehearsal)?;
        }
        let repack = crate::llama::repacking_pays(&file.file);
        let model = Model::load(path, repack).ok_or_else(|| LoadError::unsupported(path))?;
        let context = Context::for_slots(Arc::new(model), params, 1);
        let context = context.ok_or_else(|| LoadError::Context {
            path: path.to_owned(),
            slots: 1,
            n_ctx: params.n_ctx_seq,
            reason: first_error().unwrap_or_else(|| "it gave no reason".to_owned()),
        })?;
        let mut draft = Self {
            batch: Batch::new(params.n_batch as usize),
            context,
            cached: Vec::new(),
            n_vocab: file.n_vocab,
            record: ModelRecord::default(),
            one: Took::UNKNOWN,
            of_many: Took::UNKNOWN,
            idle: 0,
        };
        draft.measure();
        Ok(draft)
    }

    /// How long its tokens take, to begin with.
    fn measure(&mut self) {
        let slice = vec![0; self.batch.capacity()];
        for _ in 0..2 {
            let _ = self.context.truncate(0, 0);
            self.cached.clear();
            self.read(&slice, slice.len());
        }
        let _ = self.context.truncate(0, 0);
        self.cached.clear();
        for n in 1..=3 {
            if let Ok(took) = self.decode(&slice[..n.min(slice.len())]) {
                self.one.learn(took.as_secs_f64(), 1.0);
            }
        }
        self.one.forget();
        self.of_many.forget();
    }

    /// What may follow `tokens`, at most `most` of them, if that is expected to save more seconds of each token than
    /// `others` would; none as long as it has to read what came before. The answer has `said` tokens so far.
    pub fn draft(
        &mut self,
        tokens: &[Token],
        chance: &Chance<'_>,
        most: usize,
        others: f64,
        said: usize,
    ) -> Vec<Token> {
        let behind = self.behind(tokens);
        let reading = self.of_many.now * behind as f64;
        let best = self.record.best(chance, most, self.one.now, reading, said);
        if best.n == 0 {
            // One measurement that another program disturbed must not end its drafts for good.
            self.idle += 1;
            if self.idle > FORGOTTEN {
                self.idle = 0;
                self.one.forget();
                self.of_many.forget();
            }
        }
        if best.n == 0 || best.saves <= others {
            return Vec::new();
        }
        self.idle = 0;
        if behind > SLICE {
            self.read(tokens, SLICE);
            return Vec::new();
        }
        if behind > 1 {
            self.record.reads(reading, chance);
        }
        let (proposed, took) = self.propose(tokens, best.n);
        self.record.drafted_in(took, chance.costs);
        proposed
    }

    /// How many of these tokens it has not read. Forgets what it has read that is not one of them.
    fn behind(&mut self, tokens: &[Token]) -> usize {
        let pairs = self.cached.iter().zip(tokens);
        let same = pairs.take_while(|(a, b)| a == b).count();
        // The last one is computed again where need be, for its logits.
        let same = same.min(tokens.len().saturating_sub(1));
        if same < self.cached.len() {
            let kept = self.context.truncate(0, same);
            self.cached.truncate(kept);
        }
        tokens.len() - self.cached.len()
    }

    /// Reads at most `most` of the tokens that it has not read.
    fn read(&mut self, tokens: &[Token], most: usize) {
        let begin = self.cached.len();
        let end = tokens.len().min(begin + most.min(self.batch.capacity()));
        if let Ok(took) = self.decode(&tokens[..end]) {
            let each = took.as_secs_f64() / (end - begin).max(1) as f64;
            self.of_many.learn(each, 1.0);
        }
    }

    /// What follows `tokens`, at most `n` tokens, and how long they took to find. It must not be further behind than
    /// a slice.
    fn propose(&mut self, tokens: &[Token], n: usize) -> (Vec<Token>, Duration) {
        let mut all = Duration::ZERO;
        let (mut tokens, mut proposed) = (tokens.to_vec(), Vec::new());
        // What had to be read first would have had to be read for any later draft, too.
        let mut first = Duration::ZERO;
        while proposed.len() < n {
            let Ok(took) = self.decode(&tokens) else {
                break;
            };
            all += took;
            match proposed.is_empty() {
                true => first = took,
                false => self.one.learn(took.as_secs_f64(), 0.1),
            }
            let Some((token, share)) = self.likeliest() else {
                break;
            };
            if share >= WORTH_A_PLACE {
                tokens.push(token);
                proposed.push(token);
            }
            if share < SURE {
                break;
            }
        }
        let read = first.saturating_sub(Duration::from_secs_f64(self.one.now));
        (proposed, all.saturating_sub(read))
    }

    /// Computes what it has not read of `tokens`.
    fn decode(&mut self, tokens: &[Token]) -> Result<Duration, DecodeError> {
        self.batch.clear();
        let begin = self.cached.len();
        for (pos, token) in (begin..).zip(&tokens[begin..]) {
            let last = pos + 1 == tokens.len();
            self.batch.push(*token, pos as i32, 0, last);
        }
        let took = self.context.decode(&self.batch);
        match took {
            Ok(_) => self.cached.extend(&tokens[begin..]),
            Err(_) => {
                let kept = self.context.truncate(0, begin);
                self.cached.truncate(kept);
            }
        }
        took
    }

    /// The token that it likes best next, of those that both models have, and how well, from 0 to 1.
    fn likeliest(&mut self) -> Option<(Token, f64)> {
        let last = self.batch.len() as i32 - 1;
        let n_vocab = self.n_vocab;
        let logits = &self.context.logits_of(last)?[..n_vocab];
        let (token, best) = logits
            .iter()
            .enumerate()
            .max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let sum: f64 = logits.iter().map(|l| f64::from(l - best).exp()).sum();
        Some((token as Token, 1.0 / sum))
    }
}

/// How many tokens both vocabularies have, which are the same; else the first difference.
fn same_vocabulary(target: &Metadata, draft: &Metadata) -> Result<usize, String> {
    let tokens = |of: &'_ Metadata| match of.get("tokenizer.ggml.tokens") {
        Some(Value::Array(Array::String(tokens))) => Ok(tokens.clone()),
        _ => Err("a file has no tokens".to_owned()),
    };
    let (ours, theirs) = (tokens(target)?, tokens(draft)?);
    if ours.len().abs_diff(theirs.len()) > FILLED_UP {
        let (ours, theirs) = (ours.len(), theirs.len());
        return Err(format!("it has {theirs} tokens, and the model {ours}"));
    }
    let mut pairs = ours.iter().zip(theirs.iter()).enumerate();
    if let Some((token, (ours, theirs))) = pairs.find(|(_, (ours, theirs))| ours != theirs) {
        let [ours, theirs] = [ours, theirs].map(String::from_utf8_lossy);
        return Err(format!(
            "token {token} is {theirs:?}, and {ours:?} in the model"
        ));
    }
    for name in ["model", "bos_token_id", "eos_token_id", "add_bos_token"] {
        let key = format!("tokenizer.ggml.{name}");
        if target.get(&key) != draft.get(&key) {
            return Err(format!("{key} is another one"));
        }
    }
    Ok(ours.len().min(theirs.len()))
}

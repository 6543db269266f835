//! A chain of llama.cpp's samplers, behind a top-k of our own.
//!
//! llama.cpp's chain begins with an array of the whole vocabulary for each token that is drawn: a
//! millisecond for 150,000 entries, while no other slot computes. Where nothing needs the whole
//! vocabulary, the chain sees the likeliest `k` only.

use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::{Context, Model, Token};
use crate::sampling::Sampling;
use crate::top_k::top_k;

/// How many of the likeliest tokens are tried one by one: more than a grammar that allows much refuses of them.
const TRIED: usize = 256;

/// Draws the next token from the logits of a position.
pub struct Sampler {
    chain: NonNull<sys::llama_sampler>,
    /// How many of the likeliest tokens the chain is shown; `None` shows it all.
    shown: Option<usize>,
    /// Tokens that are never drawn.
    never: Vec<Token>,
}

// SAFETY: the chain owns its state and nothing else points at it.
unsafe impl Send for Sampler {}

impl Sampler {
    /// The chain that `sampling` describes, in llama.cpp's own order: bias, penalties, top-k, top-p, min-p,
    /// temperature, draw. Temperature 0 is greedy.
    pub fn new(sampling: &Sampling, model: &Model, seed: u32) -> Self {
        let never: Vec<Token> = if sampling.ignore_eos {
            let all = 0..model.n_vocab();
            all.filter(|&token| model.is_end_of_generation(token))
                .collect()
        } else {
            Vec::new()
        };
        let greedy = sampling.temperature <= 0.0;
        let shown = match sampling.top_k {
            // A penalty or a bias may move any token, and so may a draw from all.
            _ if sampling.moves_logits() => None,
            _ if greedy => Some(1),
            0 => None,
            k => Some(k as usize),
        };
        // SAFETY: the chain takes ownership of each sampler that is added to it.
        let chain = unsafe {
            let chain = sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params());
            let add = |sampler| sys::llama_sampler_chain_add(chain, sampler);
            if !sampling.logit_bias.is_empty() {
                let bias = sampling.logit_bias.iter();
                let bias = bias.map(|&(token, bias)| sys::llama_logit_bias { token, bias });
                let bias: Vec<_> = bias.collect();
                // It copies them.
                add(sys::llama_sampler_init_logit_bias(
                    model.n_vocab(),
                    bias.len() as i32,
                    bias.as_ptr(),
                ));
            }
            if sampling.has_penalties() {
                add(sys::llama_sampler_init_penalties(
                    model.n_vocab(),
                    sampling.repeat_last_n,
                    sampling.repeat_penalty,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                ));
            }
            if greedy {
                add(sys::llama_sampler_init_greedy());
            } else {
                add(sys::llama_sampler_init_top_k(sampling.top_k));
                add(sys::llama_sampler_init_top_p(sampling.top_p, 1));
                add(sys::llama_sampler_init_min_p(sampling.min_p, 1));
                add(sys::llama_sampler_init_temp(sampling.temperature));
                add(sys::llama_sampler_init_dist(seed));
            }
            chain
        };
        Self {
            chain: NonNull::new(chain).expect("llama.cpp aborts when out of memory"),
            shown,
            never,
        }
    }

    /// Draws from the logits of batch index `i` of the last decode call; with `allowed`, from the tokens whose
    /// bits are set in these words. None where none of them is.
    ///
    /// # Panics
    /// When that token asked for no logits.
    pub fn draw(
        &mut self,
        context: &mut Context,
        i: i32,
        allowed: Option<&[u32]>,
    ) -> Option<Token> {
        let logits = logits(context, i);
        let masked = allowed.map(|words| masked(logits, words));
        let logits = masked.as_deref().unwrap_or(logits);
        let mut candidates: Vec<_> = match self.shown {
            Some(k) => {
                let best = top_k(logits, k + self.never.len());
                best.into_iter().map(candidate).collect()
            }
            None => logits.iter().copied().enumerate().map(candidate).collect(),
        };
        candidates.retain(|candidate| !self.never.contains(&candidate.id));
        candidates.truncate(self.shown.unwrap_or(usize::MAX));
        if allowed.is_some() {
            candidates.retain(|candidate| candidate.logit > f32::NEG_INFINITY);
            if candidates.is_empty() {
                return None;
            }
        }
        if candidates.is_empty() {
            // No logit is a number. Whatever is drawn is wrong; the first token is at least a token.
            candidates.push(candidate((0, 0.0)));
        }
        Some(self.select(&mut candidates))
    }

    /// What [`Sampler::draw`] draws from all tokens that `fit`, where the likeliest [`TRIED`] tell: then few need be tried.
    ///
    /// # Panics
    /// When that token asked for no logits.
    pub fn draw_fitting(
        &mut self,
        context: &mut Context,
        i: i32,
        mut fits: impl FnMut(Token) -> bool,
    ) -> Option<Token> {
        let shown = self.shown?;
        let likeliest = top_k(logits(context, i), TRIED);
        let fitting = likeliest.into_iter().map(candidate);
        let fitting = fitting.filter(|one| !self.never.contains(&one.id) && fits(one.id));
        let mut candidates: Vec<_> = fitting.take(shown).collect();
        (candidates.len() == shown).then(|| self.select(&mut candidates))
    }

    /// Has the chain select one of these, of which there must be one.
    fn select(&mut self, candidates: &mut [sys::llama_token_data]) -> Token {
        let mut array = sys::llama_token_data_array {
            data: candidates.as_mut_ptr(),
            size: candidates.len(),
            selected: -1,
            sorted: self.shown.is_some(),
        };
        // SAFETY: the array's entries live and are `size` many; a sampler may reorder them and lower
        // `size`, and the last one of the chain selects one of them.
        unsafe {
            sys::llama_sampler_apply(self.chain.as_ptr(), &mut array);
            let selected = usize::try_from(array.selected).expect("the last sampler selects");
            assert!(selected < array.size, "the selected token is a candidate");
            (*array.data.add(selected)).id
        }
    }

    /// Remembers a token of the answer, drawn or not.
    pub fn accept(&mut self, token: Token) {
        // SAFETY: the chain lives.
        unsafe { sys::llama_sampler_accept(self.chain.as_ptr(), token) }
    }
}

fn logits(context: &mut Context, i: i32) -> &[f32] {
    context
        .logits_of(i)
        .expect("the batch asked for these logits")
}

fn candidate((token, logit): (usize, f32)) -> sys::llama_token_data {
    sys::llama_token_data {
        id: token as Token,
        logit,
        p: 0.0,
    }
}

/// The logits with all but the allowed ones at minus infinity.
fn masked(logits: &[f32], words: &[u32]) -> Vec<f32> {
    let allowed = |token: usize| {
        let word = words.get(token / 32).copied().unwrap_or(0);
        word >> (token % 32) & 1 != 0
    };
    let logits = logits.iter().enumerate();
    logits
        .map(|(token, &logit)| {
            if allowed(token) {
                logit
            } else {
                f32::NEG_INFINITY
            }
        })
        .collect()
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: freed once; frees the samplers in it.
        unsafe { sys::llama_sampler_free(self.chain.as_ptr()) }
    }
}

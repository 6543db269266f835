//! A chain of llama.cpp's samplers.

use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::{Context, Model, Token};
use crate::sampling::Sampling;

/// Draws the next token from the logits of a position.
pub struct Sampler {
    chain: NonNull<sys::llama_sampler>,
}

// SAFETY: the chain owns its state and nothing else points at it.
unsafe impl Send for Sampler {}

impl Sampler {
    /// The chain that `sampling` describes, in llama.cpp's own order: bias, penalties, top-k, top-p,
    /// min-p, temperature, draw. Temperature 0 is greedy.
    pub fn new(sampling: &Sampling, model: &Model, seed: u32) -> Self {
        // SAFETY: the chain takes ownership of each sampler that is added to it.
        unsafe {
            let chain = sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params());
            let add = |sampler| sys::llama_sampler_chain_add(chain, sampler);
            if sampling.ignore_eos {
                let never: Vec<_> = (0..model.n_vocab())
                    .filter(|&token| model.is_end_of_generation(token))
                    .map(|token| sys::llama_logit_bias {
                        token,
                        bias: f32::NEG_INFINITY,
                    })
                    .collect();
                add(sys::llama_sampler_init_logit_bias(
                    model.n_vocab(),
                    never.len() as i32,
                    never.as_ptr(),
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
            if sampling.temperature <= 0.0 {
                add(sys::llama_sampler_init_greedy());
            } else {
                add(sys::llama_sampler_init_top_k(sampling.top_k));
                add(sys::llama_sampler_init_top_p(sampling.top_p, 1));
                add(sys::llama_sampler_init_min_p(sampling.min_p, 1));
                add(sys::llama_sampler_init_temp(sampling.temperature));
                add(sys::llama_sampler_init_dist(seed));
            }
            Self {
                chain: NonNull::new(chain).expect("llama.cpp aborts when out of memory"),
            }
        }
    }

    /// Draws from the logits of batch index `i` of the last decode call, and remembers the token.
    pub fn sample(&mut self, context: &mut Context, i: i32) -> Token {
        // SAFETY: both live; the caller asked for the logits of batch index `i`.
        unsafe { sys::llama_sampler_sample(self.chain.as_ptr(), context.as_ptr(), i) }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: freed once; frees the samplers in it.
        unsafe { sys::llama_sampler_free(self.chain.as_ptr()) }
    }
}

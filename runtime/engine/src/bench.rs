//! The work that `llama-bench` times: a prompt of `p` random tokens, or `n` tokens one by one, from
//! an empty cache, after one warm-up run, several times over.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

pub use cloister_kernels::peak;

use crate::error::LoadError;
use crate::llama::{Batch, Context, ContextParams, KvType, Model, Token, first_error};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// A prompt of this many tokens.
    Prefill(u32),
    /// This many tokens, one by one.
    Decode(u32),
    /// As [`Test::Prefill`], with what comes after each token: the work of checking a draft, or of a step of
    /// several clients.
    Verify(u32),
}

impl Test {
    /// Number of tokens.
    pub fn tokens(self) -> u32 {
        match self {
            Self::Prefill(n) | Self::Decode(n) | Self::Verify(n) => n,
        }
    }
}

/// A loaded model under test.
pub struct Bench {
    model: Arc<Model>,
    n_threads: usize,
}

/// Facts for the head of the table.
#[derive(Clone, Debug)]
pub struct BenchModel {
    /// `general.architecture`.
    pub architecture: String,
    /// llama.cpp's name of the quantization.
    pub quantization: String,
    /// Bytes of all weights.
    pub size: u64,
    /// Number of weights.
    pub n_params: u64,
}

/// As `llama-bench` has it by default.
const N_BATCH: u32 = 2048;

impl Bench {
    /// Loads the model at `path` as the engine would, with [`crate::Options::kernels`] as given.
    ///
    /// # Errors
    /// As [`crate::Engine::load`].
    pub fn load(path: &Path, n_threads: Option<usize>, kernels: bool) -> Result<Self, LoadError> {
        cloister_kernels::enable(kernels);
        let repack = crate::llama::repacking_pays(&cloister_gguf::Gguf::open(path)?);
        let model = Model::load(path, repack).ok_or_else(|| LoadError::Unsupported {
            path: path.to_owned(),
            reason: first_error().unwrap_or_else(|| "it gave no reason".to_owned()),
        })?;
        Ok(Self {
            model: Arc::new(model),
            n_threads: n_threads.unwrap_or_else(crate::usable_cores),
        })
    }

    /// Facts of the model.
    pub fn model(&self) -> BenchModel {
        BenchModel {
            architecture: self
                .model
                .metadata("general.architecture")
                .unwrap_or_default(),
            quantization: self.model.quantization(),
            size: self.model.size(),
            n_params: self.model.n_params(),
        }
    }

    /// Threads in use.
    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// Runs `test` `repetitions` times after a warm-up. Gives tokens per second of each; calls
    /// `tick` after each run.
    ///
    /// # Errors
    /// llama.cpp's words when a context cannot be made or a batch not computed.
    pub fn run(
        &self,
        test: Test,
        repetitions: usize,
        mut tick: impl FnMut(),
    ) -> Result<Vec<f64>, String> {
        let params = ContextParams {
            n_ctx_seq: test.tokens().max(1),
            n_seq: 1,
            n_batch: N_BATCH.min(test.tokens().max(1)),
            n_threads: self.n_threads,
            kv_type: KvType::F16,
        };
        let mut context = Context::new(self.model.clone(), params).ok_or_else(|| {
            first_error().unwrap_or_else(|| "no memory for the context".to_owned())
        })?;
        let mut batch = Batch::new(params.n_batch as usize);
        let mut random = Random(1);
        let mut speeds = Vec::with_capacity(repetitions);
        let warm_up = match test {
            Test::Decode(_) => Test::Decode(1),
            test => test,
        };
        self.work(&mut context, &mut batch, warm_up, &mut random)?;
        for _ in 0..repetitions {
            context.clear();
            let begin = Instant::now();
            self.work(&mut context, &mut batch, test, &mut random)?;
            speeds.push(f64::from(test.tokens()) / begin.elapsed().as_secs_f64());
            tick();
        }
        Ok(speeds)
    }

    fn work(
        &self,
        context: &mut Context,
        batch: &mut Batch,
        test: Test,
        random: &mut Random,
    ) -> Result<(), String> {
        let (tokens, step) = match test {
            Test::Prefill(n) | Test::Verify(n) => (n, context.n_batch()),
            Test::Decode(n) => (n, 1),
        };
        let mut pos = 0;
        while pos < tokens {
            batch.clear();
            let end = tokens.min(pos + step);
            for p in pos..end {
                let token = if p == 0 { self.model.bos() } else { None };
                let token = token.unwrap_or_else(|| random.below(self.model.n_vocab()));
                let wanted = p + 1 == end || matches!(test, Test::Verify(_));
                batch.push(token, p as i32, 0, wanted);
            }
            context
                .decode(batch)
                .map_err(|error| format!("llama_decode failed: {error:?}"))?;
            pos = end;
        }
        Ok(())
    }
}

/// A small generator (Knuth's MMIX constants): which tokens are timed does not matter, only that it
/// is the same work each time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: Token) -> Token {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n.max(1) as u64) as Token
    }
}

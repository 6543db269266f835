//! From a file to an engine that answers.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cloister_gguf::Gguf;
use tokio::sync::watch;

use super::{Engine, Options};
use crate::card::Card;
use crate::chat::ChatTemplate;
use crate::chat::control::ControlTokens;
use crate::draft_model::{DraftFile, DraftModel};
use crate::error::LoadError;
use crate::llama::{Batch, Context, ContextParams, LLAMA_CPP, Model, Token, first_error};
use crate::memory;
use crate::model::{ModelInfo, id_of};
use crate::prefix_store::{Identity, PrefixStore};
use crate::queue::Admission;
use crate::rehearsal::Trial;
use crate::scheduler::Scheduler;
use crate::speculation::MOST_DRAFTED;

impl Engine {
    /// Whether the GGUF file at `path` is sound and fits this machine, once what now takes `leaving` bytes has gone.
    ///
    /// # Errors
    /// [`LoadError`], as [`Engine::load`] as far as it can be told from the file's header.
    pub fn check(path: &Path, options: &Options, leaving: u64) -> Result<(), LoadError> {
        let file = Gguf::open(path)?;
        let draft_file = draft_file(&file, options)?;
        check_memory(&file, draft_file.as_ref(), options, leaving)?;
        Ok(())
    }

    /// Checks and loads the GGUF file at `path` and starts its scheduler. Takes as long as reading
    /// the file's header and mapping its weights.
    ///
    /// # Errors
    /// [`LoadError`]: no sound GGUF, an architecture llama.cpp does not know, no memory.
    pub fn load(path: &Path, options: &Options) -> Result<Self, LoadError> {
        let file = Gguf::open(path)?;
        let draft_file = draft_file(&file, options)?;
        let need = check_memory(&file, draft_file.as_ref(), options, 0)?;
        let params = context_params(&file, options);
        if let Some(rehearse) = options.rehearse {
            let trial = Trial::of(params, Some(n_outputs(options)));
            rehearse(path, &trial).map_err(LoadError::Rehearsal)?;
        }
        cloister_kernels::enable(options.kernels);
        let repack = crate::llama::repacking_pays(&file);
        let progress = |share| {
            if let Some(progress) = &options.progress {
                progress.send_replace(share);
            }
        };
        let model = Model::load_with_progress(path, repack, &progress);
        let model = Arc::new(model.ok_or_else(|| LoadError::unsupported(path))?);
        let text = |token: Option<Token>| token.map_or_else(String::new, |t| model.token_text(t));
        let template = match model.chat_template() {
            None => None,
            Some(source) => {
                let (bos, eos) = (text(model.bos()), text(model.eos()));
                let template = ChatTemplate::new(source, bos, eos, options.template);
                Some(template.map_err(|reason| LoadError::Template {
                    path: path.to_owned(),
                    reason,
                })?)
            }
        };
        let trained = model.n_ctx_train().max(1);
        let n_ctx = params.n_ctx_seq;
        if options.n_ctx.is_some_and(|wanted| wanted > n_ctx) {
            tracing::warn!(
                "{}: slots of {n_ctx} tokens: the model has no weights for later positions",
                path.display()
            );
        }
        if n_ctx > trained {
            tracing::warn!(
                "{}: slots of {n_ctx} tokens, and the model was trained for {trained}: beyond these its answers get worse",
                path.display()
            );
        }
        let draft_model = draft_file.map(|file| DraftModel::load(&file, params, options));
        let draft_model = draft_model.transpose()?;
        let mut context = Context::for_slots(model.clone(), params, n_outputs(options))
            .ok_or_else(|| LoadError::Context {
                path: path.to_owned(),
                slots: options.n_slots,
                n_ctx,
                reason: first_error().unwrap_or_else(|| "it gave no reason".to_owned()),
            })?;
        let step = warm_up(&model, &mut context);
        let info = ModelInfo {
            path: path.to_owned(),
            id: id_of(path),
            architecture: model.metadata("general.architecture").unwrap_or_default(),
            quantization: model.quantization(),
            n_vocab: model.n_vocab().max(0) as usize,
            n_params: model.n_params(),
            size: model.size(),
            n_ctx_train: trained,
            n_ctx: context.n_ctx_seq(),
            n_slots: options.n_slots,
            memory: need,
            thinks: template.as_ref().is_some_and(|template| template.thinks),
        };

        let prefixes = match &options.prefixes {
            None => None,
            Some(folder) => {
                let identity = identity(path, options, context.n_ctx_seq())?;
                Some(Arc::new(PrefixStore::new(folder.clone(), identity)))
            }
        };
        let (sender, inbox) = std::sync::mpsc::channel();
        let (stats_sender, stats) = watch::channel(options.counted.at_rest());
        let stopping = Arc::new(AtomicBool::new(false));
        let waiting = Arc::new(Admission::new(options.queue));
        let scheduler = Scheduler::new(
            context,
            options,
            inbox,
            waiting.clone(),
            prefixes.clone(),
            stats_sender,
            stopping.clone(),
        )
        .with_step(step);
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || scheduler.with_draft_model(draft_model).run())
            .expect("the system has room for one more thread");
        Ok(Self {
            longest_token: model.longest_token().max(1),
            control: ControlTokens::new(model.control_tokens()),
            tokenizing: Mutex::new(()),
            compiling: Mutex::new(()),
            grammars: OnceLock::new(),
            model,
            template,
            info,
            inbox: Some(sender),
            waiting,
            prefixes,
            restraint: options.restraint.clone(),
            stats,
            stopping,
            thread: Some(thread),
        })
    }
}

/// The draft model's file, where there is one and it goes with `file`.
fn draft_file(file: &Gguf, options: &Options) -> Result<Option<DraftFile>, LoadError> {
    let path = options.draft_model.as_deref();
    path.map(|path| DraftFile::open(path, file)).transpose()
}

/// What stored prefixes of this model depend on. llama.cpp's state knows its own layout, but not the model.
fn identity(path: &Path, options: &Options, n_ctx: u32) -> Result<Identity, LoadError> {
    let card = Card::read(path)?;
    Ok(Identity::of(&[
        env!("CARGO_PKG_VERSION"),
        LLAMA_CPP,
        &card.digest,
        // The digest samples the weights; a file that was changed between the samples has another time.
        &format!("{:?}", card.modified),
        &format!("{:?} {n_ctx} {}", options.kv_type, options.n_slots),
    ]))
}

/// The context that the model of this file is to have.
fn context_params(file: &Gguf, options: &Options) -> ContextParams {
    let architecture = file.metadata.str("general.architecture");
    let key = format!("{}.context_length", architecture.unwrap_or_default());
    let trained = file.metadata.u64(&key);
    let trained = trained.map_or(u32::MAX, |n| u32::try_from(n).unwrap_or(u32::MAX));
    // Where each position has weights of its own, there are no more.
    let most = match file.tensor("position_embd.weight") {
        Some(_) => trained.max(1),
        None => u32::MAX,
    };
    let n_ctx = options.n_ctx.map_or_else(
        || trained.clamp(1, Options::DEFAULT_CTX),
        |n_ctx| n_ctx.min(most),
    );
    ContextParams {
        n_ctx_seq: n_ctx,
        n_seq: options.n_slots,
        n_batch: n_ctx.min(512).max(options.n_slots),
        n_threads: options.n_threads.unwrap_or_else(crate::usable_cores),
        kv_type: options.kv_type,
    }
}

/// Most tokens of a batch whose logits are looked at: the last one of each slot, or a draft.
fn n_outputs(options: &Options) -> u32 {
    options.n_slots.max(MOST_DRAFTED as u32 + 1)
}

/// Fails when the model with its context does not fit this machine, of which `leaving` bytes will soon be free. Gives
/// how many bytes it needs.
fn check_memory(
    file: &Gguf,
    draft: Option<&DraftFile>,
    options: &Options,
    leaving: u64,
) -> Result<u64, LoadError> {
    let params = context_params(file, options);
    let context = memory::shape(
        params.n_ctx_seq,
        params.n_seq,
        params.n_batch,
        n_outputs(options),
        params.kv_type,
    );
    let mut models = vec![(file, context)];
    if let Some(draft) = draft {
        models.push((
            &draft.file,
            DraftFile::shape(params.n_ctx_seq, params.kv_type),
        ));
    }
    memory::check(&models, leaving).map_err(|reason| LoadError::Memory {
        path: file.path().to_owned(),
        reason,
    })
}

/// Computes one token and forgets it, so that the first request does not wait for weights to come from
/// the disk and threads to start; once more, and gives the time of that.
fn warm_up(model: &Model, context: &mut Context) -> Option<Duration> {
    let mut batch = Batch::new(1);
    batch.push(model.bos().unwrap_or(0), 0, 0, true);
    let mut took = None;
    for _ in 0..2 {
        match context.decode(&batch) {
            Ok(time) => took = Some(time),
            Err(error) => tracing::warn!("the first token could not be computed: {error:?}"),
        }
        context.clear();
    }
    took
}

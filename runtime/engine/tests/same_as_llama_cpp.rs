//! The engine against the pinned llama.cpp itself, used as its C API shows it: its own template, its own
//! tokenizer, its own kernels, one sequence, default parameters, the highest logit.

mod support;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cloister_engine::{Client, Engine, Event, Generation, Message, Options, Request, Sampling};
use llama_cpp_sys_2 as sys;

const N_CTX: u32 = 512;
const MAX_TOKENS: usize = 32;
/// Two logits nearer than this may change places, as batches of another shape round otherwise.
const NEAR_TIE: f32 = 0.25;

const SYSTEM: &str = "You answer in one short sentence.";
const QUESTIONS: [&str; 8] = [
    "What is the capital of France?",
    "Name three fruits.",
    "Écris « bonjour » en allemand, s'il te plaît.",
    "What does `for i in range(3): print(i)` print?",
    "猫はどこで寝ますか。",
    "Tell me a fact about the moon 🌙.",
    "Count from one to twelve in words.",
    "List the days of the week.",
];

/// One model and one context, freed with it.
struct Reference {
    model: *mut sys::llama_model,
    context: *mut sys::llama_context,
    vocab: *const sys::llama_vocab,
}

impl Reference {
    fn load(path: &Path) -> Self {
        let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path");
        // SAFETY: the path outlives the call; the parameters are llama.cpp's own.
        unsafe {
            sys::llama_backend_init();
            let params = sys::llama_model_default_params();
            let model = sys::llama_model_load_from_file(path.as_ptr(), params);
            assert!(!model.is_null(), "llama.cpp loads the model");
            let mut params = sys::llama_context_default_params();
            params.n_ctx = N_CTX;
            params.n_threads = 2;
            params.n_threads_batch = 2;
            let context = sys::llama_init_from_model(model, params);
            assert!(!context.is_null(), "llama.cpp makes a context");
            let vocab = sys::llama_model_get_vocab(model);
            Self {
                model,
                context,
                vocab,
            }
        }
    }

    /// The conversation as llama.cpp's built-in copy of the model's template writes it, tokenized.
    fn prompt(&self, messages: &[Message]) -> Vec<i32> {
        let c = |text: &str| CString::new(text).expect("no NUL in a message");
        let texts: Vec<_> = messages
            .iter()
            .map(|m| (c(&m.role), c(&m.content)))
            .collect();
        let chat: Vec<_> = texts
            .iter()
            .map(|(role, content)| sys::llama_chat_message {
                role: role.as_ptr(),
                content: content.as_ptr(),
            })
            .collect();
        let mut text = vec![0u8; 4096];
        let mut tokens = vec![0; N_CTX as usize];
        // SAFETY: each buffer is passed with its own length, and the texts outlive the calls.
        unsafe {
            let template = sys::llama_model_chat_template(self.model, std::ptr::null());
            let len = sys::llama_chat_apply_template(
                template,
                chat.as_ptr(),
                chat.len(),
                true,
                text.as_mut_ptr().cast(),
                text.len() as i32,
            );
            assert!(len > 0 && (len as usize) < text.len(), "the template fits");
            let n = sys::llama_tokenize(
                self.vocab,
                text.as_ptr().cast(),
                len,
                tokens.as_mut_ptr(),
                tokens.len() as i32,
                true,
                true,
            );
            tokens.truncate(usize::try_from(n).expect("the prompt fits"));
        }
        tokens
    }

    /// The greedy answer to `prompt`: each token's text, with how far its logit is above the next best.
    fn answer(&self, prompt: &[i32]) -> Vec<(Vec<u8>, f32)> {
        let mut answer = Vec::new();
        let mut next = prompt.to_vec();
        // SAFETY: context and vocabulary live; `next` outlives each decode call.
        unsafe {
            let n_vocab = sys::llama_vocab_n_tokens(self.vocab) as usize;
            sys::llama_memory_clear(sys::llama_get_memory(self.context), true);
            while answer.len() < MAX_TOKENS {
                let batch = sys::llama_batch_get_one(next.as_mut_ptr(), next.len() as i32);
                assert_eq!(sys::llama_decode(self.context, batch), 0);
                let logits = std::slice::from_raw_parts(
                    sys::llama_get_logits_ith(self.context, -1),
                    n_vocab,
                );
                let best = (0..n_vocab)
                    .max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
                    .expect("a vocabulary");
                let second = (0..n_vocab)
                    .filter(|token| *token != best)
                    .map(|token| logits[token])
                    .fold(f32::NEG_INFINITY, f32::max);
                let token = best as i32;
                if sys::llama_vocab_is_eog(self.vocab, token) {
                    break;
                }
                let mut piece = vec![0u8; 256];
                let len = sys::llama_token_to_piece(
                    self.vocab,
                    token,
                    piece.as_mut_ptr().cast(),
                    piece.len() as i32,
                    0,
                    false,
                );
                piece.truncate(usize::try_from(len).expect("a piece is short"));
                answer.push((piece, logits[best] - second));
                next = vec![token];
            }
        }
        answer
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // SAFETY: each freed once, the context before its model.
        unsafe {
            sys::llama_free(self.context);
            sys::llama_model_free(self.model);
        }
    }
}

async fn text(mut generation: Generation) -> String {
    let mut text = String::new();
    while let Some(event) = generation.next().await {
        match event {
            Event::Text { content, reasoning } => text += &(reasoning + &content),
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    text
}

/// Asks both; all questions at once of the engine. Answers must be equal up to a near tie.
async fn agrees(name: &str) {
    let path = support::cached(name);
    let conversations = QUESTIONS.map(|question| {
        [("system", SYSTEM), ("user", question)].map(|(role, content)| Message::new(role, content))
    });

    let load = |kernels| {
        let options = Options {
            n_ctx: Some(N_CTX),
            kernels,
            ..Options::default()
        };
        Engine::load(&path, &options).expect("the model loads; tests/fetch brings it")
    };

    // An engine takes llama.cpp's log, and this one leaves our kernels turned off.
    drop(load(false));
    let reference = Reference::load(&path);
    let expected: Vec<_> = conversations
        .iter()
        .map(|messages| {
            let prompt = reference.prompt(messages);
            let answer = reference.answer(&prompt);
            (prompt, answer)
        })
        .collect();
    drop(reference);

    let engine = load(true);
    let mut generations = Vec::new();
    for (messages, (tokens, _)) in conversations.iter().zip(&expected) {
        let prompt = engine.prompt(&messages.to_vec().into()).expect("a prompt");
        assert_eq!(&prompt.tokens, tokens, "{messages:?}");
        let request = Request {
            sampling: Sampling {
                temperature: 0.0,
                ..Sampling::default()
            },
            ..Request::new(prompt, MAX_TOKENS, Client("test".to_owned()))
        };
        generations.push(engine.submit(request).expect("room in the queue"));
    }

    let mut compared = 0;
    for (generation, (_, expected)) in generations.into_iter().zip(expected) {
        let answer = text(generation).await;
        let sure: Vec<_> = expected
            .into_iter()
            .take_while(|(_, lead)| *lead >= NEAR_TIE)
            .map(|(piece, _)| piece)
            .collect();
        compared += sure.len();
        // The last character may lack its last bytes there.
        let sure = String::from_utf8_lossy(&sure.concat()).into_owned();
        let sure = sure.trim_end_matches(char::REPLACEMENT_CHARACTER);
        assert!(answer.starts_with(sure), "{answer:?}, not {sure:?}...");
    }

    assert!(compared >= 40, "only {compared} tokens could be compared");
}

#[tokio::test]
async fn smollm2_answers_as_the_pinned_llama_cpp() {
    agrees("smollm2-135m-instruct-q4_1.gguf").await;
}

#[tokio::test]
async fn qwen2_answers_as_the_pinned_llama_cpp() {
    agrees("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf").await;
}

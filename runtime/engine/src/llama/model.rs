//! A loaded model: weights, vocabulary and metadata. Read-only, so it may be shared between threads.

use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::Token;

/// What llama.cpp answers for a special token that the vocabulary has not got.
const NO_TOKEN: Token = -1;

/// Weights, vocabulary and metadata of one GGUF file.
pub struct Model {
    raw: NonNull<sys::llama_model>,
}

// SAFETY: after loading, llama.cpp only reads a model; its accessors take it as const and are
// called by llama.cpp's own server from several threads at once.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

impl Model {
    /// Loads `path` with its weights mapped; or, to `repack`, read into memory, with those for which
    /// this CPU has a faster layout brought into it. `None` when llama.cpp refuses the file; the reason
    /// is then in [`super::first_error`].
    pub fn load(path: &Path, repack: bool) -> Option<Self> {
        Self::load_with_progress(path, repack, &|_| {})
    }

    /// As [`Model::load`]; `progress` is told the share of the weights that is loaded, 0 to 1.
    pub fn load_with_progress(path: &Path, repack: bool, progress: &dyn Fn(f32)) -> Option<Self> {
        super::route_logs();
        super::log::forget_errors();
        if !repack {
            super::huge_pages::read_ahead(path);
        }
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        // SAFETY: path, which is NUL-terminated, and progress outlive the call, which alone uses them; the
        // params are llama.cpp's own.
        let raw = unsafe {
            let mut params = sys::llama_model_default_params();
            params.use_extra_bufts = repack;
            params.progress_callback = Some(tell);
            params.progress_callback_user_data = (&raw const progress).cast_mut().cast();
            // A mapped file would stay resident beside the repacked copy.
            params.load_mode = if repack {
                sys::LLAMA_LOAD_MODE_NONE
            } else {
                sys::LLAMA_LOAD_MODE_MMAP
            };
            sys::llama_model_load_from_file(path.as_ptr(), params)
        };
        NonNull::new(raw).map(|raw| Self { raw })
    }

    /// Loads what `path` has besides its weights.
    #[cfg(test)]
    pub(super) fn vocabulary(path: &Path) -> Option<Self> {
        super::route_logs();
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        // SAFETY: path, which is NUL-terminated, outlives the call; the params are llama.cpp's own.
        let raw = unsafe {
            let mut params = sys::llama_model_default_params();
            params.vocab_only = true;
            sys::llama_model_load_from_file(path.as_ptr(), params)
        };
        NonNull::new(raw).map(|raw| Self { raw })
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_model {
        self.raw.as_ptr()
    }

    pub(super) fn vocab(&self) -> *const sys::llama_vocab {
        // SAFETY: the model lives; its vocabulary lives as long.
        unsafe { sys::llama_model_get_vocab(self.as_ptr()) }
    }

    /// The context length that the model was trained for, in tokens.
    pub fn n_ctx_train(&self) -> u32 {
        // SAFETY: the model lives.
        unsafe { sys::llama_model_n_ctx_train(self.as_ptr()) }.max(0) as u32
    }

    /// Numbers of a vector that it makes.
    pub fn n_embd(&self) -> usize {
        // SAFETY: the model lives.
        unsafe { sys::llama_model_n_embd_out(self.as_ptr()) }.max(0) as usize
    }

    /// Number of tokens in the vocabulary.
    pub fn n_vocab(&self) -> i32 {
        // SAFETY: the vocabulary lives.
        unsafe { sys::llama_vocab_n_tokens(self.vocab()) }
    }

    /// Bytes of all weights.
    pub fn size(&self) -> u64 {
        // SAFETY: the model lives.
        unsafe { sys::llama_model_size(self.as_ptr()) }
    }

    /// Number of weights.
    pub fn n_params(&self) -> u64 {
        // SAFETY: the model lives.
        unsafe { sys::llama_model_n_params(self.as_ptr()) }
    }

    /// llama.cpp's name of the file's quantization, such as `Q4_K - Medium`.
    pub fn quantization(&self) -> String {
        // SAFETY: the model lives.
        file_type_name(unsafe { sys::llama_model_ftype(self.as_ptr()) }.into())
    }

    /// The metadata value of `key` as text, if the file has it.
    pub fn metadata(&self, key: &str) -> Option<String> {
        let key = CString::new(key).ok()?;
        // SAFETY: the key is NUL-terminated; a null buffer of length 0 only asks for the length.
        let len = unsafe {
            sys::llama_model_meta_val_str(self.as_ptr(), key.as_ptr(), std::ptr::null_mut(), 0)
        };
        let mut buffer = vec![0u8; usize::try_from(len).ok()? + 1];
        // SAFETY: the buffer holds the announced length and its NUL.
        unsafe {
            sys::llama_model_meta_val_str(
                self.as_ptr(),
                key.as_ptr(),
                buffer.as_mut_ptr().cast::<c_char>(),
                buffer.len(),
            )
        };
        buffer.pop();
        String::from_utf8(buffer).ok()
    }

    /// The chat template that the file carries.
    pub fn chat_template(&self) -> Option<String> {
        // SAFETY: the model lives, and so does the string it hands out; null asks for the default.
        unsafe {
            let template = sys::llama_model_chat_template(self.as_ptr(), std::ptr::null());
            (!template.is_null()).then(|| CStr::from_ptr(template).to_string_lossy().into_owned())
        }
    }

    /// Whether what it makes of tokens can be cut back to an earlier one, unlike a recurrent state.
    pub fn can_forget(&self) -> bool {
        // SAFETY: the model lives.
        unsafe {
            !sys::llama_model_is_recurrent(self.as_ptr())
                && !sys::llama_model_is_hybrid(self.as_ptr())
        }
    }

    /// Whether generation ends at `token` (end of sequence, of turn, of message).
    pub fn is_end_of_generation(&self, token: Token) -> bool {
        // SAFETY: the vocabulary lives; llama.cpp checks the range.
        unsafe { sys::llama_vocab_is_eog(self.vocab(), token) }
    }

    /// Whether `token` is a control token: no text.
    pub fn is_control(&self, token: Token) -> bool {
        // SAFETY: the vocabulary lives; llama.cpp checks the range.
        unsafe { sys::llama_vocab_is_control(self.vocab(), token) }
    }

    /// Whether the tokenizer is byte-level BPE, as of Qwen and Llama 3: it adds nothing to a text.
    pub fn is_byte_level(&self) -> bool {
        // SAFETY: the vocabulary lives.
        unsafe { sys::llama_vocab_type(self.vocab()) == sys::LLAMA_VOCAB_TYPE_BPE }
    }

    /// The begin-of-sequence token.
    pub fn bos(&self) -> Option<Token> {
        // SAFETY: the vocabulary lives.
        let token = unsafe { sys::llama_vocab_bos(self.vocab()) };
        (token != NO_TOKEN).then_some(token)
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<Token> {
        // SAFETY: the vocabulary lives.
        let token = unsafe { sys::llama_vocab_eos(self.vocab()) };
        (token != NO_TOKEN).then_some(token)
    }

    /// Whether the tokenizer puts [`Self::bos`] before a prompt.
    pub fn adds_bos(&self) -> bool {
        // SAFETY: the vocabulary lives.
        unsafe { sys::llama_vocab_get_add_bos(self.vocab()) }
    }

    /// The vocabulary's own spelling of `token`.
    pub fn token_text(&self, token: Token) -> String {
        // SAFETY: the vocabulary lives and the string with it; the caller's tokens come from it.
        unsafe {
            let text = sys::llama_vocab_get_text(self.vocab(), token);
            if text.is_null() {
                String::new()
            } else {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            }
        }
    }

    /// The most bytes of text that one token can stand for. An upper bound: of the vocabulary's own
    /// spellings, which are never shorter than the text.
    pub fn longest_token(&self) -> usize {
        (0..self.n_vocab())
            .map(|token| {
                // SAFETY: the vocabulary lives and the string with it; the token is in it.
                unsafe {
                    let text = sys::llama_vocab_get_text(self.vocab(), token);
                    if text.is_null() {
                        0
                    } else {
                        CStr::from_ptr(text).count_bytes()
                    }
                }
            })
            .max()
            .unwrap_or(0)
    }

    /// How each control token is written.
    pub fn control_tokens(&self) -> impl Iterator<Item = String> {
        let control = (0..self.n_vocab()).filter(|token| self.is_control(*token));
        control.map(|token| String::from_utf8_lossy(&self.piece(token, true)).into_owned())
    }

    /// The bytes that `token` stands for; may be part of a UTF-8 character. Control tokens give
    /// nothing unless `special`.
    pub fn piece(&self, token: Token, special: bool) -> Vec<u8> {
        let mut buffer = vec![0u8; 64];
        loop {
            // SAFETY: the buffer is passed with its own length.
            let n = unsafe {
                sys::llama_token_to_piece(
                    self.vocab(),
                    token,
                    buffer.as_mut_ptr().cast::<c_char>(),
                    buffer.len() as i32,
                    0,
                    special,
                )
            };
            if n >= 0 {
                buffer.truncate(n as usize);
                return buffer;
            }
            buffer.resize(n.unsigned_abs() as usize, 0);
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: nothing else frees it, and contexts borrow the model through an `Arc`.
        unsafe { sys::llama_model_free(self.as_ptr()) }
    }
}

/// llama.cpp's name of a `general.file_type`, such as `Q4_K - Medium`.
pub fn file_type_name(file_type: u64) -> String {
    let Ok(file_type) = sys::llama_ftype::try_from(file_type) else {
        return String::new();
    };
    // SAFETY: the name of any number is a static string, or null.
    unsafe {
        let name = sys::llama_ftype_name(file_type);
        if name.is_null() {
            String::new()
        } else {
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }
}

/// Passes on how far loading has come; `true` to go on.
unsafe extern "C" fn tell(share: f32, progress: *mut c_void) -> bool {
    // SAFETY: `load_with_progress` passes this reference, which lives for its call.
    let progress = unsafe { *progress.cast::<&dyn Fn(f32)>() };
    progress(share);
    true
}

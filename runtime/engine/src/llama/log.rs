//! Sends llama.cpp's log lines to `tracing`, and keeps the first error line of an action for error messages:
//! the first says what was wrong, those after it what could not be done therefore.

use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, Once};

use llama_cpp_sys_2 as sys;

static FIRST_ERROR: Mutex<Option<String>> = Mutex::new(None);
static INSTALL: Once = Once::new();

/// Starts llama.cpp's backend and routes its log, once for the process.
pub fn route_logs() {
    INSTALL.call_once(|| {
        // SAFETY: `on_line` and `on_abort` are functions for the whole life of the process and use no user data.
        unsafe {
            sys::llama_log_set(Some(on_line), std::ptr::null_mut());
            sys::ggml_set_abort_callback(Some(on_abort));
            sys::llama_backend_init();
        }
    });
}

/// Begins an action whose errors are to be told apart from earlier ones.
pub fn forget_errors() {
    *FIRST_ERROR.lock().expect("no panic while held") = None;
}

/// The first error line that llama.cpp logged since [`forget_errors`], without its function prefix.
pub fn first_error() -> Option<String> {
    let line = FIRST_ERROR.lock().expect("no panic while held").take()?;
    let line = line.trim();
    Some(
        line.split_once(": ")
            .map_or(line, |(_, rest)| rest)
            .to_owned(),
    )
}

/// llama.cpp's last words before it ends the process: one line on stderr, in place of the backtrace that it would have
/// a debugger print, with what the functions were called with.
unsafe extern "C" fn on_abort(message: *const c_char) {
    // SAFETY: ggml passes a NUL-terminated line that lives for this call.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    // `/folders/of/the/build/file.c:123: what failed`
    let (place, what) = message.split_once(": ").unwrap_or(("", &message));
    let file = place.rsplit('/').next().unwrap_or_default();
    eprintln!("{} ({file})", what.trim());
}

unsafe extern "C" fn on_line(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    // SAFETY: llama.cpp passes a NUL-terminated line that lives for this call.
    let line = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    match level {
        sys::GGML_LOG_LEVEL_ERROR => {
            tracing::debug!(target: "llama", "{}", line.trim_end());
            let mut first = FIRST_ERROR.lock().expect("no panic while held");
            first.get_or_insert_with(|| line.into_owned());
        }
        sys::GGML_LOG_LEVEL_WARN => tracing::debug!(target: "llama", "{}", line.trim_end()),
        _ => tracing::trace!(target: "llama", "{}", line.trim_end()),
    }
}

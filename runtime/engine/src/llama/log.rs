//! Sends llama.cpp's log lines to `tracing`, and keeps the last error line for error messages.

use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, Once};

use llama_cpp_sys_2 as sys;

static LAST_ERROR: Mutex<Option<String>> = Mutex::new(None);
static INSTALL: Once = Once::new();

/// Starts llama.cpp's backend and routes its log, once for the process.
pub fn route_logs() {
    INSTALL.call_once(|| {
        // SAFETY: `on_line` is a function for the whole life of the process and uses no user data.
        unsafe {
            sys::llama_log_set(Some(on_line), std::ptr::null_mut());
            sys::llama_backend_init();
        }
    });
}

/// The last error line that llama.cpp logged since the previous call, without its function prefix.
pub fn last_error() -> Option<String> {
    let line = LAST_ERROR.lock().expect("no panic while held").take()?;
    let line = line.trim();
    Some(
        line.split_once(": ")
            .map_or(line, |(_, rest)| rest)
            .to_owned(),
    )
}

/// From now on llama.cpp's last words before it ends the process are one line on stderr, without the
/// backtrace that it would print.
pub fn print_aborts() {
    // SAFETY: `on_abort` is a function for the whole life of the process.
    unsafe { sys::ggml_set_abort_callback(Some(on_abort)) };
}

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
            *LAST_ERROR.lock().expect("no panic while held") = Some(line.into_owned());
        }
        sys::GGML_LOG_LEVEL_WARN => tracing::debug!(target: "llama", "{}", line.trim_end()),
        _ => tracing::trace!(target: "llama", "{}", line.trim_end()),
    }
}

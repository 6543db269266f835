//! The web page of Cloister: the files that a browser loads, and the renderer that turns what a model
//! wrote into HTML that is safe to show.
//!
//! In: a path, or a model's Markdown, whole or half-finished. Out: bytes with their headers, or sanitised
//! HTML. It must never open a file or a socket, keep a text, or name another host.

mod assets;
mod highlight;
mod markdown;
mod math;
mod mathml;
mod sanitise;

pub use assets::{Asset, asset};
pub use markdown::render_markdown;

/// The `Content-Security-Policy` header to send with every file of the page.
///
/// Scripts, styles, pictures and connections come from and go to this server alone; inline script and
/// style, style attributes, plug-ins, frames and form posts do not exist.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

//! `POST /pair`: a browser shows the code that the owner reads from the console, and gets a cookie.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::api_error::ApiError;
use super::ask::body;
use super::fields::Fields;
use super::gate::{Gate, is_own};
use super::peer::Peer;
use crate::access;

/// The name of the cookie.
pub const COOKIE: &str = "cloister";

/// Seconds for which a browser keeps it: browsers cut it to 400 days.
const COOKIE_LASTS: u32 = 400 * 24 * 60 * 60;

/// `{"code", "name"?}` to a cookie with a key of the code's scope.
pub async fn pair(
    State(gate): State<Arc<Gate>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let mut fields = Fields::parse(&body(&headers, bytes)?)?;
    let code = fields
        .text("code")?
        .ok_or_else(|| ApiError::field("code", "code is missing"))?;
    let name = fields.text("name")?.unwrap_or_else(|| "browser".to_owned());
    fields.finish()?;
    access::check_name(&name).map_err(|wrong| ApiError::field("name", wrong))?;
    let (ip, encrypted) = match peer {
        Peer::Address { ip, encrypted, .. } if !is_own(ip) => (ip, encrypted),
        // It is let in as it is; the code stays good for who needs it.
        Peer::Address { .. } | Peer::LocalUser(_) => {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    };
    let now = Instant::now();
    gate.wrong.check(ip, now).map_err(ApiError::too_often)?;
    let redeemed = gate.access.redeem(&code, &name).map_err(|error| {
        tracing::error!("nobody can be paired: {error:#}");
        ApiError::failed("the box cannot write down who is let in; see its log")
    })?;
    let Some(key) = redeemed else {
        if gate.wrong.count(ip, now) {
            tracing::warn!("too many wrong pairing codes: the code is void");
            let voided = gate.access.void_codes();
            voided.unwrap_or_else(|error| tracing::error!("a code stays good: {error:#}"));
        }
        return Err(ApiError::forbidden(
            "this code is wrong, used or too old: the console of the box, or `cloister pair` on it, shows another",
        ));
    };
    tracing::info!("a browser was paired");
    let secure = if encrypted { "; Secure" } else { "" };
    let cookie = format!(
        "{COOKIE}={key}; Path=/; Max-Age={COOKIE_LASTS}; HttpOnly; SameSite=Strict{secure}"
    );
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

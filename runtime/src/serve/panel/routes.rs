//! What the panel asks for over HTTP.
//!
//! In: requests of the panel's user, over the Unix socket. Out: what holds, or how one gets in. Must never answer anybody else.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::Json;
use cloister_program::panel::PanelReport;
use serde_json::{Value, json};

use super::super::api_error::ApiError;
use super::super::ask::body;
use super::super::fields::parsed;
use super::super::peer::Peer;
use super::Panel;
use crate::access::{Access, Scope};

/// How one gets in from outside, for who stands before the box.
pub struct Door {
    /// The page's address.
    pub url: String,
    /// Of the certificate there; none without encryption.
    pub fingerprint: Option<String>,
    /// Where pairing codes are made.
    pub access: Access,
}

impl Panel {
    fn check(&self, peer: &Peer, headers: &HeaderMap) -> Result<(), ApiError> {
        match self.users.speak(peer, headers) {
            true => Ok(()),
            false => Err(ApiError::forbidden(
                "only the box's own panel may say this, over the Unix socket",
            )),
        }
    }
}

/// `PUT /api/panel`: what is to hold from now on, and how the board is. Answers what holds.
pub async fn tell(
    State(panel): State<Arc<Panel>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    panel.check(&peer, &headers)?;
    let report: PanelReport = parsed(&body(&headers, bytes)?, "this is no report of a panel")?;
    if let Err(error) = panel.obey(report) {
        tracing::error!("{error:#}");
        return Err(ApiError::failed(&format!("{error:#}")));
    }
    Ok(Json(json!({
        "private": panel.restraint.private(),
        "throttle": panel.throttle(),
    })))
}

/// `GET /api/panel/door`: the page's address, and the fingerprint of the certificate there.
pub async fn door(
    State(panel): State<Arc<Panel>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    panel.check(&peer, &headers)?;
    let Door {
        url, fingerprint, ..
    } = &panel.door;
    Ok(Json(json!({"url": url, "fingerprint": fingerprint})))
}

/// `POST /api/panel/pair`: a new pairing code, for the display of the box.
pub async fn pair(
    State(panel): State<Arc<Panel>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    panel.check(&peer, &headers)?;
    let code = panel.door.access.new_code(Scope::Ask).map_err(|error| {
        tracing::error!("nobody can be paired: {error:#}");
        ApiError::failed("the box cannot write down who is let in; see its log")
    })?;
    tracing::info!("the box shows a pairing code: its button was pressed");
    Ok(Json(json!({"code": code})))
}

/// `POST /api/panel/test`: whether the loaded model computes, tried out, past the queue and the privacy switch.
pub async fn test(
    State(panel): State<Arc<Panel>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    panel.check(&peer, &headers)?;
    Ok(Json(json!({"computes": panel.models.computes().await})))
}

/// `POST /api/panel/stop`: ends every answer that runs or waits.
pub async fn stop(
    State(panel): State<Arc<Panel>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    panel.check(&peer, &headers)?;
    panel.restraint.stop_all();
    tracing::info!("all answers are stopped, by the button of the box");
    Ok(Json(json!({"stopped": true})))
}

//! `DELETE /api/box/files/{name}`: the owner has a model removed.
//!
//! In: the name of its file, from who has the scope admin. Out: an empty file `NAME.remove` in the inbox, at which the system
//! removes the model and tells by [`super::super::notices`]: `serve` may only read it. Must never ask for the last
//! model that answers: a box without one has no page by which to bring another.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use axum::extract::{ConnectInfo, Path as Named, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;

use super::super::api_error::ApiError;
use super::super::models::Models;
use super::super::peer::Peer;
use super::{Files, check_name, failed};

/// Leaves word for the system that this model is to go.
pub async fn remove(
    State((files, models)): State<(Arc<Files>, Arc<Models>)>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Named(name): Named<String>,
) -> Result<Response, ApiError> {
    let inbox = files.inbox_for(&peer)?;
    if models.is_one_file() {
        return Err(ApiError::invalid(
            "this box runs one model alone, as its settings say, and sees no other: take the line model out of cloister.txt first",
        ));
    }
    let there = models.files();
    let there = there.map_err(|error| ApiError::unavailable(error.to_string()))?;
    let named = |file: &&PathBuf| file.file_name() == Some(OsStr::new(&name));
    let Some(model) = there.iter().find(named) else {
        check_name(&name)?;
        let names = there.iter().filter_map(|file| file.file_name());
        let names: Vec<String> = names.map(|name| name.display().to_string()).collect();
        return Err(ApiError::no_model(&name, &names));
    };
    let stays = |file: &&PathBuf| *file != model && !word(inbox, file).exists();
    let stay: Vec<&PathBuf> = there.iter().filter(stays).collect();
    let cards = models.cards().await;
    let answers = |file: &PathBuf| {
        let card = cards.iter().find(|card| card.path == *file);
        card.is_some_and(|card| !card.pooling.embeds())
    };
    if stay.is_empty() || answers(model) && !stay.iter().any(|file| answers(file)) {
        return Err(ApiError::invalid(format!(
            "{name} is the last model here that answers: bring another first, and remove this one when that is here"
        )));
    }
    let left = File::create(word(inbox, model)).context("a file cannot be made");
    left.map_err(failed)?;
    tracing::info!("the owner has a model removed");
    Ok((StatusCode::ACCEPTED, Json(json!({"name": name}))).into_response())
}

/// The file in the inbox that asks for this model to go.
fn word(inbox: &Path, model: &Path) -> PathBuf {
    let mut name = model.file_name().unwrap_or_default().to_owned();
    name.push(".remove");
    inbox.join(name)
}

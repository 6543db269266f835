//! A request's body: read whole, as long and as slow as it may be.
//!
//! In: a body as it comes. Out: the same in memory, or why not. Must never hold more of them than there is room for.

use std::pin::Pin;
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::Request;
use axum::http::header;
use futures_core::Stream;

use super::super::api_error::ApiError;
use super::super::bodies::Room;

/// The longest time that a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// The longest time in which nothing of it arrives.
const BODY_PAUSE: Duration = Duration::from_secs(10);
/// The most bytes of a refused request that are waited for, and how long.
const MOST_DISCARDED: usize = 256 << 10;
const DISCARD_WITHIN: Duration = Duration::from_secs(2);
/// Reads a body as far and as long as a refused client may go on sending, and forgets it.
pub async fn discard(body: Body) {
    let mut left = MOST_DISCARDED;
    let mut chunks = body.into_data_stream();
    let all = async {
        while let Some(Ok(bytes)) = next(&mut chunks).await {
            match left.checked_sub(bytes.len()) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_WITHIN, all).await;
}

/// The next piece of a body.
pub async fn next(chunks: &mut BodyDataStream) -> Option<Result<Bytes, axum::Error>> {
    std::future::poll_fn(|context| Pin::new(&mut *chunks).poll_next(context)).await
}

/// Reads the whole body, as long and as slow as it may be, while there is room for it.
pub async fn whole(
    request: Request,
    largest: usize,
    mut room: Room<'_>,
) -> Result<(Request, Room<'_>), ApiError> {
    let (parts, body) = request.into_parts();
    let said = parts.headers.get(header::CONTENT_LENGTH);
    let said = said.and_then(|said| said.to_str().ok()?.parse().ok());
    if said.is_some_and(|said: u64| said > largest as u64) {
        return Err(ApiError::body_too_large(largest));
    }
    // Told before the client sends it.
    room.grow_to(said.unwrap_or_default() as usize)?;
    let began = Instant::now();
    let mut read = Vec::new();
    let mut chunks = body.into_data_stream();
    loop {
        let left = BODY_WITHIN.saturating_sub(began.elapsed()).min(BODY_PAUSE);
        let chunk = tokio::time::timeout(left, next(&mut chunks));
        match chunk.await {
            Err(_) => return Err(ApiError::too_slow()),
            Ok(None) => return Ok((Request::from_parts(parts, Body::from(read)), room)),
            Ok(Some(Err(_))) => return Err(ApiError::invalid("the body did not arrive")),
            Ok(Some(Ok(bytes))) if read.len() + bytes.len() > largest => {
                return Err(ApiError::body_too_large(largest));
            }
            Ok(Some(Ok(bytes))) => {
                room.grow_to(read.len() + bytes.len())?;
                read.extend_from_slice(&bytes);
            }
        }
    }
}

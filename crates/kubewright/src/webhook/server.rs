//! The HTTP side: one POST of an API server a question, limits on everything that a caller could make large, deep or
//! slow, and answers from the handlers. What a handler does wrong ends its own answer and nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;

use super::admission::{Admission, Erased, caught};
use super::bodies::{Bodies, BodyError, Held};
use super::conversion::{self, Converts};
use super::metrics::PathMetrics;
use super::review::{self, ReviewError};
use crate::Error;
use crate::client::MapperError;
use crate::context::{Context, Scoped, View};
use crate::queue::Reasons;
use crate::serving::Answer;

/// A review has an object twice, which API servers take up to 3 MiB of; as controller-runtime.
const MAX_REVIEW: usize = 7 * 1024 * 1024;
/// A conversion may be of a whole list.
const MAX_CONVERSION: usize = 128 * 1024 * 1024;
/// What takes longer to convert than the runtime's other tasks should wait.
const LARGE: usize = 64 * 1024;
/// API servers wait no longer for an answer.
const MAX_TIME: Duration = Duration::from_secs(30);

/// One webhook, ready to answer.
pub(super) struct Hook {
    pub handler: Arc<dyn Erased>,
    pub scoped: Arc<Scoped>,
}

/// What is served at a path.
pub(super) enum Route {
    Admission(Hook),
    Conversion(Vec<Arc<dyn Converts>>),
}

/// What is served where.
#[derive(Default)]
pub(super) struct Router {
    pub(super) routes: HashMap<String, (Route, Arc<PathMetrics>)>,
    bodies: Bodies,
}

/// Why there is no verdict. The texts are for whoever calls: the API server tells them to its client.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("not found")]
    NoRoute,
    #[error("only POST is answered here")]
    Method,
    #[error("expected a body of application/json")]
    ContentType,
    #[error("{}", text(.0))]
    Body(BodyError),
    #[error(transparent)]
    Review(ReviewError),
    #[error("{0}")]
    Conversion(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{}", .0.chain())]
    Handler(Error),
    #[error("the webhook panicked")]
    Panicked,
}

impl Refusal {
    fn code(&self) -> StatusCode {
        match self {
            Refusal::NoRoute => StatusCode::NOT_FOUND,
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::Body(BodyError::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Body(BodyError::Broken(_)) | Refusal::Review(_) | Refusal::Conversion(_) => {
                StatusCode::BAD_REQUEST
            }
            Refusal::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Refusal::Handler(_) | Refusal::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Router {
    /// Answers a request. It never fails and never panics.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Some((route, metrics)) = self.routes.get(request.uri().path()) else {
            return refuse(&Refusal::NoRoute);
        };
        let _in_flight = metrics.entered();
        let began = Instant::now();
        let limit = time_limit(request.uri().query());
        let result = match tokio::time::timeout(limit, route.answer(request, &self.bodies, metrics)).await {
            Ok(result) => result,
            Err(_) => Err(Refusal::Timeout(limit)),
        };
        let response = match result {
            Ok(body) => {
                let mut response = Response::new(Full::new(Bytes::from(body)));
                let json = header::HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            Err(refusal) => {
                if refusal.code().is_server_error() {
                    tracing::warn!(error = %refusal, "a webhook has no answer");
                }
                refuse(&refusal)
            }
        };
        metrics.answered(response.status().as_u16(), began.elapsed());
        response
    }
}

impl Answer for Router {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        Router::answer(self, request).await
    }
}

impl Route {
    async fn answer<B>(
        &self,
        request: Request<B>,
        bodies: &Bodies,
        metrics: &PathMetrics,
    ) -> Result<Vec<u8>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if request.method() != Method::POST {
            return Err(Refusal::Method);
        }
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
        if !media_type.trim().eq_ignore_ascii_case("application/json") {
            return Err(Refusal::ContentType);
        }
        match self {
            Route::Admission(hook) => {
                let body = bodies.read(request.into_body(), MAX_REVIEW).await.map_err(Refusal::Body)?;
                hook.answer(body.bytes(), metrics).await
            }
            Route::Conversion(conversions) => {
                let body = bodies.read(request.into_body(), MAX_CONVERSION).await.map_err(Refusal::Body)?;
                let (answer, panicked) = convert(conversions, body).await?;
                if panicked {
                    metrics.panicked();
                }
                Ok(answer)
            }
        }
    }
}

impl Hook {
    async fn answer(&self, body: &[u8], metrics: &PathMetrics) -> Result<Vec<u8>, Refusal> {
        let (request, asked) = review::read(body).map_err(Refusal::Review)?;
        let cx =
            Admission::new(request, |key| Context::new(Arc::clone(&self.scoped), key, Reasons::default()));
        // What it reads has to be there before it is asked.
        usable(cx.view()).await.map_err(Refusal::Handler)?;
        let answered = match caught(&self.handler, &cx).await {
            Ok(result) => result.map_err(Refusal::Handler)?,
            Err(message) => {
                metrics.panicked();
                tracing::error!(webhook = ?cx, message, "a webhook panicked");
                return Err(Refusal::Panicked);
            }
        };
        tracing::debug!(review = ?cx, allowed = answered.verdict.is_allowed(), "reviewed");
        Ok(review::answer(&asked, &answered.verdict, answered.original.as_ref()))
    }
}

/// Waits for what a webhook reads; an error at once, if some of it is not served.
async fn usable(view: &View) -> crate::Result {
    for informer in view.informers() {
        informer.usable().await.map_err(MapperError::from)?;
    }
    Ok(())
}

/// The answer to a conversion review, and whether something panicked. A large one is not to hold up the runtime's thread.
async fn convert(conversions: &[Arc<dyn Converts>], body: Held) -> Result<(Vec<u8>, bool), Refusal> {
    if body.bytes().len() <= LARGE {
        return conversion::review(conversions, body.bytes()).map_err(Refusal::Conversion);
    }
    let conversions = conversions.to_vec();
    // It goes on, and the body keeps its room, even if nobody waits for the answer any more.
    let review = tokio::task::spawn_blocking(move || conversion::review(&conversions, body.bytes()));
    review.await.map_err(|_| Refusal::Panicked)?.map_err(Refusal::Conversion)
}

/// An error with its cause.
fn text(error: &BodyError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// What the caller says it will wait (`?timeout=10s`), within bounds.
fn time_limit(query: Option<&str>) -> Duration {
    let given = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("timeout="));
    let given = given.and_then(|time| match time.strip_suffix("ms") {
        Some(millis) => millis.parse().ok().map(Duration::from_millis),
        None => time.strip_suffix('s')?.parse().ok().map(Duration::from_secs),
    });
    given.unwrap_or(MAX_TIME).clamp(Duration::from_millis(1), MAX_TIME)
}

fn refuse(refusal: &Refusal) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{refusal}\n"))));
    *response.status_mut() = refusal.code();
    let text = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

#[cfg(test)]
mod tests;

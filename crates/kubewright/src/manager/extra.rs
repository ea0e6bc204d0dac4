//! Endpoints of the program's own, served where metrics are and to whom these are. What they answer is the program's
//! matter; that one panics harms nobody else.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Limited};

use crate::controller::panic_message;
use crate::{Error, Result};

/// Bodies of requests are read up to this size.
const MAX_BODY: usize = 1 << 20;
/// What the runtime serves itself.
const TAKEN: [&str; 4] = ["/metrics", "/healthz", "/livez", "/readyz"];

type Answers = dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync;

/// Answers at one path.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(super) path: String,
    answers: Arc<Answers>,
}

impl Endpoint {
    pub(crate) fn new<F, Fut>(path: &str, answer: F) -> Endpoint
    where
        F: Fn(Request<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response<Bytes>> + Send + 'static,
    {
        let path = format!("/{}", path.trim_start_matches('/'));
        Endpoint { path, answers: Arc::new(move |request| answer(request).boxed()) }
    }

    /// Whether nothing else is served there.
    ///
    /// # Errors
    /// When the path is the runtime's.
    pub(super) fn check(&self) -> Result {
        if TAKEN.contains(&&*self.path) || self.path.starts_with("/debug/") {
            let path = &self.path;
            return Err(Error::Usage(format!(
                "{path} is served by the runtime; give the endpoint another path"
            )));
        }
        Ok(())
    }

    /// The answer to a request.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Response<Bytes>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
            return failed(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long or broken\n");
        };
        let request = Request::from_parts(parts, body.to_bytes());
        let answer = AssertUnwindSafe(async { (self.answers)(request).await });
        match answer.catch_unwind().await {
            Ok(response) => response,
            Err(panic) => {
                let message = panic_message(&*panic);
                tracing::error!(path = self.path, message, "an endpoint panicked");
                failed(StatusCode::INTERNAL_SERVER_ERROR, "the endpoint panicked\n")
            }
        }
    }
}

fn failed(status: StatusCode, text: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = status;
    response
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.path)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn an_endpoint_is_given_the_body_and_may_panic() {
        let endpoint = Endpoint::new("echo", |request: Request<Bytes>| async move {
            assert_ne!(request.body(), "panic", "as asked");
            Response::new(request.into_body())
        });
        assert_eq!(endpoint.path, "/echo");
        let ask = async |body: Vec<u8>| {
            let answer = endpoint.answer(Request::post("/echo").body(Full::from(body)).unwrap()).await;
            (answer.status().as_u16(), answer.into_body())
        };
        assert_eq!(ask(b"hello".to_vec()).await, (200, Bytes::from("hello")));
        assert_eq!(ask(b"panic".to_vec()).await.0, 500);
        assert_eq!(ask(vec![0; MAX_BODY + 1]).await.0, 413);
        assert_eq!(ask(b"again".to_vec()).await.0, 200);
    }

    #[test]
    fn what_the_runtime_serves_is_not_an_endpoints_place() {
        let at = |path: &str| Endpoint::new(path, |_| async { Response::new(Bytes::new()) }).check().is_ok();
        assert!(at("/version") && at("debugging"));
        assert!(!at("/metrics") && !at("readyz") && !at("/debug/mine"));
    }
}

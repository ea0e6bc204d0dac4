//! A client whose requests get prepared answers, in order, by what their path and query contain. It
//! knows nothing of Kubernetes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use tokio::sync::mpsc;
use tower::BoxError;

type Stream = StreamBody<BoxStream<'static, Result<Frame<Bytes>, BoxError>>>;

/// A prepared answer.
pub struct Answer {
    /// The part of `METHOD path?query` that it is for.
    matches: String,
    status: u16,
    chunks: Vec<String>,
    then: Then,
}

/// What follows the prepared chunks of a body.
enum Then {
    /// Its end.
    End,
    /// Nothing, with the connection open.
    Silence,
    /// A broken connection.
    Break,
    /// What the test sends.
    Lines(mpsc::UnboundedReceiver<String>),
    /// No answer at all was given: the connection was refused.
    Refuse,
}

impl Answer {
    /// A complete body.
    pub fn body(matches: &str, status: u16, body: &str) -> Answer {
        Answer { matches: matches.into(), status, chunks: vec![body.into()], then: Then::End }
    }

    /// A watch that sends these lines and stays open.
    pub fn watch(matches: &str, lines: &[&str]) -> Answer {
        let chunks = lines.iter().map(|line| format!("{line}\n")).collect();
        Answer { matches: matches.into(), status: 200, chunks, then: Then::Silence }
    }

    /// The same, but the server ends it.
    pub fn ended(self) -> Answer {
        Answer { then: Then::End, ..self }
    }

    /// The same, but the connection breaks.
    pub fn broken(self) -> Answer {
        Answer { then: Then::Break, ..self }
    }

    /// The same, but the test sends more lines.
    pub fn live(self, lines: mpsc::UnboundedReceiver<String>) -> Answer {
        Answer { then: Then::Lines(lines), ..self }
    }

    /// A connection that is refused.
    pub fn refused(matches: &str) -> Answer {
        Answer { matches: matches.into(), status: 0, chunks: Vec::new(), then: Then::Refuse }
    }
}

/// A request as it was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub line: String,
    pub body: serde_json::Value,
}

#[derive(Clone, Default)]
pub struct Canned {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Canned {
    pub fn new(answers: impl IntoIterator<Item = Answer>) -> Canned {
        Canned { answers: Arc::new(Mutex::new(answers.into_iter().collect())), sent: Arc::default() }
    }

    /// The requests so far whose line contains a text.
    pub fn sent(&self, text: &str) -> Vec<Sent> {
        self.sent.lock().unwrap().iter().filter(|sent| sent.line.contains(text)).cloned().collect()
    }

    pub fn client(&self) -> kube::Client {
        let canned = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let canned = canned.clone();
            async move { canned.answer(request).await }
        });
        kube::Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Stream>, BoxError> {
        let line = format!("{} {}", request.method(), request.uri());
        let body = request.into_body().collect().await?.to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        self.sent.lock().unwrap().push(Sent { line: line.clone(), body });
        let answer = {
            let mut answers = self.answers.lock().unwrap();
            let found = answers.iter().position(|answer| line.contains(&answer.matches));
            found.and_then(|index| answers.remove(index))
        };
        let not_found = r#"{"kind":"Status","code":404,"reason":"NotFound","message":"not found"}"#;
        let answer = answer.unwrap_or_else(|| Answer::body("", 404, not_found));
        let chunks = stream::iter(answer.chunks).map(|chunk| Ok(Frame::data(Bytes::from(chunk))));
        let chunks = match answer.then {
            Then::End => chunks.boxed(),
            Then::Silence => chunks.chain(stream::pending()).boxed(),
            Then::Break => chunks.chain(stream::iter([Err(BoxError::from("connection reset"))])).boxed(),
            Then::Lines(lines) => {
                let lines = stream::unfold(lines, |mut lines| async { Some((lines.recv().await?, lines)) });
                chunks.chain(lines.map(|line| Ok(Frame::data(Bytes::from(format!("{line}\n")))))).boxed()
            }
            Then::Refuse => return Err("connection refused".into()),
        };
        let mut response = Response::new(StreamBody::new(chunks));
        *response.status_mut() = StatusCode::from_u16(answer.status)?;
        Ok(response)
    }
}

//! Who may ask the endpoints that tell of the process: the API server says whom a bearer token stands for (TokenReview)
//! and whether that user may do the request (SubjectAccessReview of the path), as for Kubernetes' own components. What it
//! says is remembered for a while; that it did not answer is not, and lets nobody in. No token is kept, only its digest.

use std::time::Duration;

use http::{Request, StatusCode, header, request};
use jiff::{SignedDuration, Timestamp};
use kubewright_machinery::answers::Answers;
use kubewright_machinery::reviews::{self, Decision, Vouched};
use kubewright_machinery::user::UserInfo;
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::client::{Permit, Permits, Verb};

/// Tokens, and questions, whose answers are remembered.
const REMEMBERED: usize = 1024;
/// How long the answers hold: about a token, that something may be done, and that it may not (controller-runtime's times).
const TOKEN: SignedDuration = SignedDuration::from_secs(60);
const ALLOWED: SignedDuration = SignedDuration::from_secs(300);
const DENIED: SignedDuration = SignedDuration::from_secs(30);
/// How long a review may take.
const TIMEOUT: Duration = Duration::from_secs(10);

const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// What asking takes.
pub(crate) fn permits() -> Permits {
    let mut permits = Permits::default();
    permits.add(Permit::on_resource("authentication.k8s.io", "tokenreviews", [Verb::Create]));
    permits.add(Permit::on_resource("authorization.k8s.io", "subjectaccessreviews", [Verb::Create]));
    permits
}

/// Lets requests pass.
pub(super) struct Gate {
    client: kube::Client,
    tokens: Mutex<Answers<[u8; 32], Option<UserInfo>>>,
    access: Mutex<Answers<String, bool>>,
}

/// Why a request does not pass. The texts are for whoever asks.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("Unauthorized")]
    Unauthorized,
    #[error("Authorization denied for user {0}")]
    Forbidden(String),
    #[error("{0} failed")]
    NoReview(&'static str, #[source] Box<kube::Error>),
}

impl Refused {
    pub(super) fn code(&self) -> StatusCode {
        match self {
            Refused::Unauthorized => StatusCode::UNAUTHORIZED,
            Refused::Forbidden(_) => StatusCode::FORBIDDEN,
            Refused::NoReview(..) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Gate {
    /// Asks through this client, which needs [`permits`].
    pub(super) fn new(client: kube::Client) -> Gate {
        Gate {
            client,
            tokens: Mutex::new(Answers::new(REMEMBERED)),
            access: Mutex::new(Answers::new(REMEMBERED)),
        }
    }

    /// Lets a request pass whose token stands for somebody who may do it.
    pub(super) async fn admit(&self, request: &request::Parts, now: Timestamp) -> Result<(), Refused> {
        let Some(token) = bearer_token(request) else { return Err(Refused::Unauthorized) };
        let user = self.user(token, now).await?.ok_or(Refused::Unauthorized)?;
        let verb = request.method.as_str().to_ascii_lowercase();
        match self.may(&user, &verb, request.uri.path(), now).await? {
            true => Ok(()),
            false => Err(Refused::Forbidden(user.name)),
        }
    }

    async fn user(&self, token: &str, now: Timestamp) -> Result<Option<UserInfo>, Refused> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.tokens.lock().get(&digest, now) {
            return Ok(known);
        }
        let review = reviews::token_review("v1", token, &[]);
        let answer = self.ask(TOKEN_REVIEWS, &review).await;
        let answer = answer.map_err(|error| Refused::NoReview("Authentication", error))?;
        let vouched = Vouched::read(&answer["status"]);
        if let Some(error) = &vouched.error {
            tracing::debug!(error, "a token was refused");
        }
        let user = vouched.user.map(|(user, _)| user);
        self.tokens.lock().keep(digest, user.clone(), now, TOKEN);
        Ok(user)
    }

    async fn may(&self, user: &UserInfo, verb: &str, path: &str, now: Timestamp) -> Result<bool, Refused> {
        let spec = reviews::path_access(user, verb, path);
        let question = spec.to_string();
        if let Some(known) = self.access.lock().get(&question, now) {
            return Ok(known);
        }
        let answer = self.ask(ACCESS_REVIEWS, &reviews::access_review("v1", &spec)).await;
        let answer = answer.map_err(|error| Refused::NoReview("Authorization", error))?;
        let decision = Decision::read(&answer["status"]);
        let allowed = matches!(decision, Decision::Allow(_));
        tracing::debug!(user = user.name, verb, path, ?decision, "reviewed");
        self.access.lock().keep(question, allowed, now, if allowed { ALLOWED } else { DENIED });
        Ok(allowed)
    }

    async fn ask(&self, path: &str, review: &Value) -> Result<Value, Box<kube::Error>> {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(review.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        match tokio::time::timeout(TIMEOUT, self.client.request(request)).await {
            Ok(answer) => Ok(answer?),
            Err(late) => Err(Box::new(kube::Error::Service(Box::new(late)))),
        }
    }
}

/// The token of a request, if it has one.
fn bearer_token(request: &request::Parts) -> Option<&str> {
    let value = request.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use http::Response;
    use http_body_util::BodyExt;
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server that vouches for the token `good`, lets `jane` get `/metrics`, and counts what it is asked.
    fn server(asked: &Arc<Mutex<Vec<String>>>) -> Gate {
        let asked = Arc::clone(asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let asked = Arc::clone(&asked);
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                let review: Value = serde_json::from_slice(&body).expect("a review");
                asked.lock().push(path.rsplit('/').next().unwrap_or_default().to_owned());
                let spec = &review["spec"];
                let status = match (path.as_str(), spec["token"].as_str()) {
                    (TOKEN_REVIEWS, Some("good")) => {
                        json!({"authenticated": true, "user": {"username": "jane"}})
                    }
                    (TOKEN_REVIEWS, Some("other")) => {
                        json!({"authenticated": true, "user": {"username": "joe"}})
                    }
                    (TOKEN_REVIEWS, Some("down")) => {
                        return Ok::<_, Infallible>(
                            Response::builder().status(503).body(Body::empty()).expect("a response"),
                        );
                    }
                    (TOKEN_REVIEWS, _) => json!({"error": "no such token"}),
                    _ => json!({"allowed": spec["user"] == "jane"
                        && spec["nonResourceAttributes"] == json!({"path": "/metrics", "verb": "get"})}),
                };
                let answer = json!({"kind": "Review", "apiVersion": "v1", "status": status});
                Ok(Response::new(Body::from(answer.to_string().into_bytes())))
            }
        });
        Gate::new(kube::Client::new(service, "default"))
    }

    async fn ask(gate: &Gate, method: &str, authorization: &str, seconds: i64) -> u16 {
        let request = Request::builder().method(method).uri("/metrics");
        let request = request.header(header::AUTHORIZATION, authorization).body(()).expect("a request");
        let now = Timestamp::from_second(seconds).expect("a time");
        gate.admit(&request.into_parts().0, now)
            .await
            .map_or_else(|refused| refused.code().as_u16(), |()| 200)
    }

    #[tokio::test]
    async fn a_token_passes_whose_user_may_and_answers_hold_for_their_times() {
        let asked = Arc::default();
        let gate = server(&asked);
        let count = |what: &str| asked.lock().iter().filter(|asked| **asked == what).count();
        assert_eq!(ask(&gate, "GET", "Bearer good", 0).await, 200);
        assert_eq!(ask(&gate, "GET", "bearer  good", 59).await, 200);
        assert_eq!((count("tokenreviews"), count("subjectaccessreviews")), (1, 1));
        assert_eq!(ask(&gate, "GET", "Bearer good", 60).await, 200);
        assert_eq!((count("tokenreviews"), count("subjectaccessreviews")), (2, 1));
        assert_eq!(ask(&gate, "PUT", "Bearer good", 61).await, 403);
        assert_eq!(ask(&gate, "GET", "Bearer other", 61).await, 403);
        assert_eq!(ask(&gate, "GET", "Bearer other", 90).await, 403);
        assert_eq!(count("subjectaccessreviews"), 3);
        assert_eq!(ask(&gate, "GET", "Bearer other", 91).await, 403);
        assert_eq!(count("subjectaccessreviews"), 4);
    }

    #[tokio::test]
    async fn without_a_token_that_somebody_vouches_for_nobody_passes() {
        let asked = Arc::default();
        let gate = server(&asked);
        for authorization in ["", "Bearer", "Bearer ", "Basic good", "good"] {
            assert_eq!(ask(&gate, "GET", authorization, 0).await, 401, "{authorization}");
        }
        assert!(asked.lock().is_empty());
        assert_eq!(ask(&gate, "GET", "Bearer bad", 0).await, 401);
        // A server that does not answer is asked again.
        assert_eq!(ask(&gate, "GET", "Bearer down", 0).await, 500);
        assert_eq!(ask(&gate, "GET", "Bearer down", 0).await, 500);
        assert_eq!(asked.lock().len(), 3);
    }
}

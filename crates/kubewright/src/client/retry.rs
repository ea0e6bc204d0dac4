//! Which requests may be sent again, as a pure decision. A request whose effect is unknown is repeated
//! only when doing it twice is the same as doing it once; a create never is. None is sent earlier than the server
//! asked for.

use std::time::Duration;

use http::{Method, StatusCode};

/// Attempts in all.
pub(crate) const ATTEMPTS: u32 = 5;
/// How long a call may wait between its attempts in all. One that would wait longer ends with the server's answer, for
/// the caller to come back later.
const PATIENCE: Duration = Duration::from_secs(30);

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server answered, perhaps saying when to come back.
    Answered(StatusCode, Option<Duration>),
    /// No answer: it may or may not have reached the server.
    Lost,
}

/// What matters of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempted<'a> {
    pub method: &'a Method,
    pub content_type: Option<&'a str>,
    pub subresource: Option<&'a str>,
}

impl Attempted<'_> {
    /// Whether doing it twice is the same as doing it once.
    fn is_idempotent(&self) -> bool {
        match *self.method {
            Method::GET | Method::HEAD => true,
            Method::PATCH => self.content_type.is_some_and(|kind| {
                kind.starts_with("application/apply-patch") || kind.starts_with("application/merge-patch")
            }),
            _ => false,
        }
    }
}

/// How long to wait before the next attempt; `None` when this one stands. `attempt` counts from 1; `waited` is how long
/// the call has waited before.
pub(crate) fn next(
    request: Attempted<'_>,
    attempt: u32,
    waited: Duration,
    outcome: Outcome,
) -> Option<Duration> {
    if attempt >= ATTEMPTS {
        return None;
    }
    let backoff = Duration::from_millis(50 << attempt.min(6));
    match outcome {
        // An eviction's 429 says that a disruption budget is used up: that is an answer.
        Outcome::Answered(StatusCode::TOO_MANY_REQUESTS, _) if request.subresource == Some("eviction") => {
            None
        }
        // Flow control refuses before anything is done, so every verb may come again.
        Outcome::Answered(StatusCode::TOO_MANY_REQUESTS, after) => {
            Some(after.unwrap_or(backoff).max(backoff))
        }
        Outcome::Answered(
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT | StatusCode::BAD_GATEWAY,
            after,
        ) if request.is_idempotent() => Some(after.unwrap_or(backoff).max(backoff)),
        Outcome::Lost if request.is_idempotent() => Some(backoff),
        _ => None,
    }
    .filter(|wait| *wait <= PATIENCE.saturating_sub(waited))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(request: Attempted<'_>, attempt: u32, outcome: Outcome) -> Option<Duration> {
        super::next(request, attempt, Duration::ZERO, outcome)
    }

    fn request<'a>(method: &'a Method, content_type: Option<&'a str>) -> Attempted<'a> {
        Attempted { method, content_type, subresource: None }
    }

    #[test]
    fn a_create_is_never_repeated_blindly() {
        let create = request(&Method::POST, None);
        assert_eq!(next(create, 1, Outcome::Lost), None);
        assert_eq!(next(create, 1, Outcome::Answered(StatusCode::SERVICE_UNAVAILABLE, None)), None);
        assert!(next(create, 1, Outcome::Answered(StatusCode::TOO_MANY_REQUESTS, None)).is_some());
    }

    #[test]
    fn reads_and_applies_come_again_until_the_attempts_are_used_up() {
        let apply = request(&Method::PATCH, Some("application/apply-patch+yaml"));
        assert!(next(apply, 1, Outcome::Lost).is_some());
        assert!(next(apply, ATTEMPTS - 1, Outcome::Lost).is_some());
        assert_eq!(next(apply, ATTEMPTS, Outcome::Lost), None);
        assert_eq!(
            next(request(&Method::PATCH, Some("application/json-patch+json")), 1, Outcome::Lost),
            None
        );
        assert!(
            next(request(&Method::GET, None), 1, Outcome::Answered(StatusCode::BAD_GATEWAY, None)).is_some()
        );
        assert_eq!(
            next(request(&Method::GET, None), 1, Outcome::Answered(StatusCode::NOT_FOUND, None)),
            None
        );
    }

    #[test]
    fn the_servers_time_to_wait_is_kept() {
        let after = Some(Duration::from_secs(3));
        let answer = Outcome::Answered(StatusCode::TOO_MANY_REQUESTS, after);
        assert_eq!(next(request(&Method::PUT, None), 1, answer), after);
        let eviction = Attempted { method: &Method::POST, content_type: None, subresource: Some("eviction") };
        assert_eq!(next(eviction, 1, answer), None);
    }

    #[test]
    fn a_call_ends_with_the_answer_rather_than_come_again_earlier_than_the_server_asked() {
        let asked = |seconds, waited| {
            let after = Some(Duration::from_secs(seconds));
            let answer = Outcome::Answered(StatusCode::TOO_MANY_REQUESTS, after);
            super::next(request(&Method::GET, None), 1, Duration::from_secs(waited), answer)
        };
        assert_eq!(asked(30, 0), Some(Duration::from_secs(30)));
        assert_eq!(asked(31, 0), None);
        assert_eq!(asked(20, 10), Some(Duration::from_secs(20)));
        assert_eq!(asked(20, 11), None);
        assert_eq!(asked(u64::MAX, 0), None);
    }
}

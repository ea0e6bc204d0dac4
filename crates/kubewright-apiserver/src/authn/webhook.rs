//! Asking somebody else whom a token stands for: TokenReviews to a server that a kubeconfig names.
//!
//! A token flows out as a review, and the user in its status comes back. Answers are remembered for a while, failures to
//! answer are not, and nobody is let in because of one. What is remembered is found by a digest: no token is kept.

use std::time::Duration;

use jiff::SignedDuration;
use kubewright_machinery::answers::Answers;
use kubewright_machinery::reviews::{self, Vouched};
use kubewright_machinery::user::strings;
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Authenticated, Authenticator, Refused, common_audiences};
use crate::BoxFuture;
use crate::outbound::Peer;
use crate::server::Core;

/// Tokens whose answers are remembered.
const REMEMBERED: usize = 8192;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Authenticates by the reviews of another server.
pub struct TokenWebhook {
    peer: Peer,
    version: &'static str,
    time: SignedDuration,
    known: Mutex<Answers<[u8; 32], Option<Authenticated>>>,
}

impl TokenWebhook {
    /// Asks `peer`, in version `v1` of reviews or (older servers) in `v1beta1`; what it says holds for `time`.
    pub fn new(peer: Peer, beta: bool, time: Duration) -> Self {
        let version = if beta { "v1beta1" } else { "v1" };
        let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        Self { peer, version, time, known: Mutex::new(Answers::new(REMEMBERED)) }
    }

    async fn ask(
        &self,
        core: &Core,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, Refused> {
        let review = reviews::token_review(self.version, token, audiences);
        let answer = self.peer.post(&review, TIMEOUT).await;
        let answer = answer.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "the token webhook has not answered");
            Refused::new(error.to_string())
        })?;
        judge(&answer["status"], audiences, &core.config().api_audiences)
    }
}

/// What a status says. A webhook that knows nothing of audiences vouches for those of this server.
fn judge(status: &Value, asked: &[String], own: &[String]) -> Result<Option<Authenticated>, Refused> {
    let said = strings(&status["audiences"]);
    let audiences = common_audiences(asked, if said.is_empty() { own } else { &said });
    // A server without audiences of its own leaves it to the other one whom tokens are made out to.
    if audiences.is_empty() && !(asked.is_empty() && own.is_empty()) {
        return Ok(None);
    }
    match Vouched::read(status) {
        Vouched { user: Some((user, _)), .. } => Ok(Some(Authenticated { user, audiences })),
        Vouched { error: Some(error), .. } => Err(Refused::new(error)),
        Vouched { .. } => Ok(None),
    }
}

impl Authenticator for TokenWebhook {
    fn authenticate_token<'a>(
        &'a self,
        core: &'a Core,
        token: &'a str,
        audiences: &'a [String],
    ) -> BoxFuture<'a, Result<Option<Authenticated>, Refused>> {
        Box::pin(async move {
            let mut digest = Sha256::new();
            for part in std::iter::once(token).chain(audiences.iter().map(String::as_str)) {
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
            let key: [u8; 32] = digest.finalize().into();
            if let Some(known) = self.known.lock().get(&key, core.now()) {
                return Ok(known);
            }
            let answer = self.ask(core, token, audiences).await?;
            self.known.lock().keep(key, answer.clone(), core.now(), self.time);
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(items: &[&str]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_review_without_audiences_is_for_this_server_alone() {
        let yes = json!({"authenticated": true, "user": {"username": "jane", "groups": ["dev"]}});
        let found = judge(&yes, &text(&["api", "other"]), &text(&["api"])).unwrap().unwrap();
        assert_eq!(found.audiences, ["api"]);
        assert_eq!(found.user.groups, ["dev"]);
        assert_eq!(judge(&yes, &text(&["other"]), &text(&["api"])).unwrap(), None);
        let other = json!({"authenticated": true, "user": {"username": "jane"}, "audiences": ["other"]});
        assert_eq!(judge(&other, &text(&["api"]), &text(&["api"])).unwrap(), None);
        assert!(judge(&other, &text(&["other"]), &text(&["api"])).unwrap().is_some());
    }

    #[test]
    fn what_is_no_clear_yes_lets_nobody_in() {
        let api = text(&["api"]);
        for status in [json!({}), json!({"authenticated": "true"}), Value::Null, json!([])] {
            assert_eq!(judge(&status, &api, &api).unwrap(), None, "{status}");
        }
        let refused = judge(&json!({"error": "expired"}), &api, &api).unwrap_err();
        assert_eq!(refused.reason, "expired");
        assert!(judge(&json!({"authenticated": true}), &api, &api).is_err());
    }
}

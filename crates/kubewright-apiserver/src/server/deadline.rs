//! How long a request may take.
//!
//! The query and the limits come in, a duration comes out; who measures it is the chain.

use std::time::Duration;

use kubewright_machinery::field::quote;
use kubewright_machinery::status::Status;
use kubewright_machinery::time;

use crate::request::Query;

/// The time for a request that is not meant to be long: the server's, or less where the client says so.
///
/// # Errors
/// 400 for a `timeout` that is no duration.
pub(super) fn of(query: &Query, most: Duration) -> Result<Duration, Status> {
    let Some(text) = query.get("timeout").filter(|text| !text.is_empty()) else { return Ok(most) };
    let nanos = time::parse_duration(text).map_err(|_| {
        let why = format!("time: invalid duration {}", quote(text));
        Status::bad_request(format!("invalid timeout specified in the request URL - {why}"))
    })?;
    let asked = u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos);
    Ok(asked.map_or(most, |asked| asked.min(most)))
}

/// What a request gets that has taken too long.
pub(super) fn exceeded() -> Status {
    Status::timeout("request did not complete within the allotted timeout", 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(60);

    fn of_text(query: &str) -> Result<Duration, String> {
        of(&Query::parse(query), MOST).map_err(|status| status.message)
    }

    #[test]
    fn a_client_may_ask_for_less_and_never_for_more() {
        assert_eq!(of_text(""), Ok(MOST));
        assert_eq!(of_text("timeout=2s"), Ok(Duration::from_secs(2)));
        assert_eq!(of_text("timeout=1h"), Ok(MOST));
        assert_eq!(of_text("timeout=0s"), Ok(MOST));
        assert_eq!(of_text("timeout=-5s"), Ok(MOST));
    }

    #[test]
    fn what_is_no_duration_is_told() {
        let why = of_text("timeout=soon").unwrap_err();
        assert_eq!(why, "invalid timeout specified in the request URL - time: invalid duration \"soon\"");
    }
}

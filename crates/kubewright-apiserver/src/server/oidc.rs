//! What lets others check the tokens of service accounts: the OpenID provider configuration and the key set.

use http::header::{ACCEPT, CACHE_CONTROL, HOST, HeaderValue};
use http::request::Parts;
use kubewright_machinery::status::{Details, Status};

use super::{Core, Response, respond};
use crate::request::RequestInfo;
use crate::request::negotiate;

const KEYS_PATH: &str = "/openid/v1/jwks";
const KEYS_TYPE: &str = "application/jwk-set+json";

/// Answers the two paths, where the server issues tokens; `None` for any other path.
pub(super) fn serve(core: &Core, info: &RequestInfo, parts: &Parts) -> Option<Result<Response, Status>> {
    let issuer = core.config().issuer.as_ref()?;
    let (content_type, document) = match info.path.trim_end_matches('/') {
        "/.well-known/openid-configuration" => {
            let host = parts.headers.get(HOST).and_then(|h| h.to_str().ok());
            let host = host.or_else(|| parts.uri.authority().map(|a| a.as_str())).unwrap_or("localhost");
            ("application/json", issuer.configuration(&format!("https://{host}{KEYS_PATH}")))
        }
        KEYS_PATH => (KEYS_TYPE, issuer.keys()),
        _ => return None,
    };
    Some(if !is_accepted(parts, content_type) {
        let message = format!("406: Not Acceptable\n\nAvailable representations: {content_type}");
        Err(Status::failure(406, "NotAcceptable", message).with_details(Details::default()))
    } else {
        let mut response = respond::with(200, HeaderValue::from_static(content_type), document.to_string());
        let an_hour = HeaderValue::from_static("public, max-age=3600");
        response.headers_mut().insert(CACHE_CONTROL, an_hour);
        Ok(response)
    })
}

fn is_accepted(parts: &Parts, content_type: &str) -> bool {
    let Some(header) = parts.headers.get(ACCEPT).and_then(|h| h.to_str().ok()).filter(|h| !h.is_empty())
    else {
        return true;
    };
    let (main, sub) = content_type.split_once('/').unwrap_or((content_type, ""));
    let takes = |said: &str, is: &str| said == "*" || said == is;
    negotiate::clauses(header).iter().any(|clause| takes(clause.main, main) && takes(clause.sub, sub))
}

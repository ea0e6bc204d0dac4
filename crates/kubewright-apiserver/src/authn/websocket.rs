//! Bearer tokens of browsers: a WebSocket can't have an `Authorization` header, so the token comes as one of its
//! subprotocols, `base64url.bearer.authorization.k8s.io.TOKEN`.
//!
//! The head of a request flows through: the token moves to where bearer tokens are, and its protocol is gone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, HeaderValue, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::request::Parts;

use super::Refused;

const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// Moves the token, if there is one.
///
/// # Errors
/// Where there are several tokens, one is malformed, or there is no other protocol to agree upon.
pub(crate) fn take_token(parts: &mut Parts) -> Result<(), Refused> {
    if !parts.headers.contains_key(UPGRADE) || !parts.headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok(());
    }
    let mut token = None;
    let mut others = Vec::new();
    for header in parts.headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        let Ok(protocols) = header.to_str() else { return Ok(()) };
        for protocol in protocols.split(',').map(str::trim) {
            match protocol.strip_prefix(PREFIX) {
                None => others.push(protocol.to_string()),
                Some(_) if token.is_some() => return Err(Refused::new("several bearer tokens as protocols")),
                Some(encoded) => token = Some(encoded.to_string()),
            }
        }
    }
    let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(()) };
    let decoded = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let bearer = decoded.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
    let bearer = bearer.ok_or_else(|| Refused::new("a bearer token as protocol is malformed"))?;
    if others.is_empty() {
        return Err(Refused::new("a bearer token as the only protocol"));
    }
    let rest = HeaderValue::from_str(&others.join(",")).map_err(|error| Refused::new(error.to_string()))?;
    parts.headers.insert(SEC_WEBSOCKET_PROTOCOL, rest);
    parts.headers.entry(AUTHORIZATION).or_insert(bearer);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(protocols: &str) -> Parts {
        let request = http::Request::builder()
            .header("upgrade", "websocket")
            .header("sec-websocket-protocol", protocols)
            .body(())
            .unwrap();
        request.into_parts().0
    }

    #[test]
    fn the_token_moves_and_the_other_protocols_stay() {
        let mut parts = request(&format!("v5.channel.k8s.io, {PREFIX}c2VjcmV0, v4.channel.k8s.io"));
        take_token(&mut parts).unwrap();
        assert_eq!(parts.headers[AUTHORIZATION], "Bearer secret");
        assert_eq!(parts.headers[SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io,v4.channel.k8s.io");
    }

    #[test]
    fn two_tokens_malformed_ones_and_a_token_alone_are_refused() {
        for bad in [
            format!("{PREFIX}c2VjcmV0"),
            format!("a, {PREFIX}%%%"),
            format!("a, {PREFIX}c2VjcmV0, {PREFIX}c2VjcmV0"),
        ] {
            assert!(take_token(&mut request(&bad)).is_err(), "{bad}");
        }
        let mut none = request("v5.channel.k8s.io");
        take_token(&mut none).unwrap();
        assert!(!none.headers.contains_key(AUTHORIZATION));
    }
}

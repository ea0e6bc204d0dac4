//! Continue tokens. Input: the text of a token, or what stands in one.

use kubewright_apiserver::request::Token;

/// A token is read or refused with 400; what was read is what its text says again, and any place to go on from can be
/// said.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Token::decode(text) {
        Ok(token) => assert_eq!(Token::decode(&token.encode()).expect("what was written can be read"), token),
        Err(status) => assert_eq!(status.code, 400),
    }
    let (revision, after) = text.split_once(' ').unwrap_or(("", text));
    let key = after.trim_end_matches('\0');
    // Names are never empty.
    let parts = key.strip_prefix('/').unwrap_or(key);
    if !parts.split('/').any(|part| matches!(part, "" | "." | "..")) {
        let revision = revision.parse().ok().filter(|r| (1..=i64::MAX as u64).contains(r));
        let token = Token { revision, after: key.to_owned() };
        assert_eq!(Token::decode(&token.encode()).expect("what was written can be read"), token);
    }
}

//! What the claims of a token say: whether it is for us and still good, and who it stands for.
//!
//! Pure: claims whose signature has been checked come in, with the time.

use serde_json::Value;

use super::Settings;
use crate::authn::{Refused, UserInfo};

/// How far the issuer's clock may be ahead, in seconds.
const AHEAD: i64 = 300;

/// The user that a token stands for.
pub(super) fn user(claims: &Value, settings: &Settings, now: i64) -> Result<UserInfo, Refused> {
    match claims["exp"].as_f64() {
        Some(end) if (now as f64) < end => {}
        _ => return Err(Refused::new("oidc: token is expired")),
    }
    if claims["nbf"].as_f64().is_some_and(|start| ((now + AHEAD) as f64) < start) {
        return Err(Refused::new("oidc: the token is not valid yet"));
    }
    let made_for = strings(&claims["aud"]).unwrap_or_default();
    if !made_for.iter().any(|audience| settings.audiences.contains(audience)) {
        return Err(Refused::new(format!(
            "oidc: expected audience in {:?} got {made_for:?}",
            settings.audiences
        )));
    }
    for (claim, wanted) in &settings.required {
        match claims[claim].as_str() {
            Some(value) if value == wanted => {}
            Some(value) => {
                let why = format!(
                    "oidc: required claim {claim} value does not match. Got = {value}, want = {wanted}"
                );
                return Err(Refused::new(why));
            }
            None => {
                return Err(Refused::new(format!("oidc: required claim {claim} not present in ID token")));
            }
        }
    }
    let claim = &settings.username.claim;
    let name = claims[claim].as_str();
    let name = name
        .ok_or_else(|| Refused::new(format!("oidc: parse username claims {claim:?}: claim not present")))?;
    if name.is_empty() {
        return Err(Refused::new("oidc: username claim value is empty"));
    }
    // An address that anybody may enter says nothing.
    if claim == "email" && claims.get("email_verified").is_some_and(|verified| verified != true) {
        return Err(Refused::new("oidc: email not verified"));
    }
    let mut user = UserInfo { name: format!("{}{name}", settings.username.prefix), ..UserInfo::default() };
    if let Some(groups) = &settings.groups
        && let Some(value) = claims.get(&groups.claim).filter(|value| !value.is_null())
    {
        let names = strings(value);
        let names = names.ok_or_else(|| {
            Refused::new(format!("oidc: parse groups claim {:?}: no list of strings", groups.claim))
        })?;
        user.groups = names.iter().map(|name| format!("{}{name}", groups.prefix)).collect();
    }
    if let Some(claim) = &settings.uid_claim {
        let uid = claims[claim].as_str();
        user.uid = uid
            .ok_or_else(|| Refused::new(format!("oidc: error getting claim {claim} for uid")))?
            .to_string();
    }
    if let Some(id) = claims["jti"].as_str().filter(|id| !id.is_empty()) {
        user.extra.insert("authentication.kubernetes.io/credential-id".into(), vec![format!("JTI={id}")]);
    }
    Ok(user)
}

/// One string or a list of them.
fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(many) => many.iter().map(|item| item.as_str().map(str::to_string)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Mapping;
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn settings() -> Settings {
        Settings {
            groups: Some(Mapping { claim: "groups".into(), prefix: "oidc:".into() }),
            ..Settings::new("https://issuer", "me")
        }
    }

    fn claims(more: Value) -> Value {
        let mut claims = json!({"iss": "https://issuer", "aud": "me", "sub": "jane", "exp": NOW + 10});
        for (key, value) in more.as_object().unwrap() {
            claims[key] = value.clone();
        }
        claims
    }

    fn refusal(more: Value, settings: &Settings) -> String {
        user(&claims(more), settings, NOW).unwrap_err().reason
    }

    #[test]
    fn names_and_groups_get_their_prefixes() {
        let jane = user(&claims(json!({"groups": ["a", "b"], "jti": "1"})), &settings(), NOW).unwrap();
        assert_eq!(jane.name, "https://issuer#jane");
        assert_eq!(jane.groups, ["oidc:a", "oidc:b"]);
        assert_eq!(jane.extra["authentication.kubernetes.io/credential-id"], ["JTI=1"]);
        let one = user(&claims(json!({"groups": "a"})), &settings(), NOW).unwrap();
        assert_eq!(one.groups, ["oidc:a"]);
    }

    #[test]
    fn tokens_out_of_their_time_or_for_others_are_refused() {
        let settings = settings();
        assert_eq!(refusal(json!({"exp": NOW}), &settings), "oidc: token is expired");
        assert_eq!(refusal(json!({"exp": null}), &settings), "oidc: token is expired");
        assert!(refusal(json!({"nbf": NOW + 1000}), &settings).contains("not valid yet"));
        assert!(refusal(json!({"aud": ["you"]}), &settings).contains("expected audience"));
        assert!(refusal(json!({"aud": 7}), &settings).contains("expected audience"));
    }

    #[test]
    fn claims_that_are_required_or_unverified_or_malformed_refuse() {
        let strict = Settings { required: vec![("hd".into(), "example.com".into())], ..settings() };
        assert!(refusal(json!({}), &strict).contains("required claim hd not present"));
        assert!(refusal(json!({"hd": "evil.com"}), &strict).contains("does not match"));
        assert!(refusal(json!({"groups": [1]}), &settings()).contains("no list of strings"));
        assert!(refusal(json!({"sub": null}), &settings()).contains("claim not present"));
        let mail =
            Settings { username: Mapping { claim: "email".into(), prefix: String::new() }, ..settings() };
        assert_eq!(
            refusal(json!({"email": "a@b", "email_verified": false}), &mail),
            "oidc: email not verified"
        );
        assert_eq!(user(&claims(json!({"email": "a@b"})), &mail, NOW).unwrap().name, "a@b");
    }
}

//! The headers of requests and answers that are passed on. Pure.
//!
//! What concerns one connection only stays behind, so that nobody downstream reads the framing of a message another way
//! than this server did. Whatever a client says of who it is stays behind too; who it is, as this server found out, is
//! put in its place.

use std::net::IpAddr;

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method};

use crate::authn::UserInfo;

/// Headers of one connection, besides those that `Connection` names.
const OF_ONE_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];
/// What starts a header by which proxies tell who a request is from, and one by which clients ask to be somebody else.
const OF_IDENTITY: [&str; 2] = ["x-remote-", "impersonate-"];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The headers of a request as the other server is to see them.
///
/// # Errors
/// A user whose name or groups no header can carry: the text says which.
pub(super) fn of_request(
    headers: &HeaderMap,
    user: &UserInfo,
    client: Option<IpAddr>,
) -> Result<HeaderMap, String> {
    let mut out = without_hop(headers);
    for name in [AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST] {
        out.remove(name);
    }
    let told: Vec<HeaderName> = out.keys().filter(|name| is_identity(name)).cloned().collect();
    for name in told {
        out.remove(name);
    }
    identify(&mut out, user)?;
    if let Some(client) = client {
        let told = out.get_all(FORWARDED_FOR).iter().filter_map(|v| v.to_str().ok());
        let mut chain: Vec<String> = told.map(str::to_string).collect();
        chain.push(client.to_string());
        if let Ok(chain) = HeaderValue::from_str(&chain.join(", ")) {
            out.insert(FORWARDED_FOR, chain);
        }
    }
    Ok(out)
}

/// The headers of an answer as the client is to see them.
pub(super) fn of_answer(headers: &HeaderMap) -> HeaderMap {
    let mut out = without_hop(headers);
    let cors = |name: &HeaderName| name.as_str().starts_with("access-control-allow-");
    let names: Vec<HeaderName> = out.keys().filter(|name| cors(name)).cloned().collect();
    for name in names {
        out.remove(name);
    }
    out
}

/// The protocol that a request wants to go on in, if it wants to.
pub(super) fn upgrade(method: &Method, headers: &HeaderMap) -> Option<HeaderValue> {
    let tokens = headers.get_all(CONNECTION).iter().filter_map(|v| v.to_str().ok());
    let mut tokens = tokens.flat_map(|v| v.split(','));
    let asked = tokens.any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| asked && *method != Method::CONNECT).cloned()
}

fn without_hop(headers: &HeaderMap) -> HeaderMap {
    let mut out = headers.clone();
    for value in headers.get_all(CONNECTION) {
        for name in value.as_bytes().split(|b| *b == b',') {
            if let Ok(name) = HeaderName::from_bytes(name.trim_ascii()) {
                out.remove(name);
            }
        }
    }
    for name in OF_ONE_HOP {
        out.remove(name);
    }
    out
}

/// Proxies spell headers with hyphens, but some servers take underscores for them.
fn is_identity(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    OF_IDENTITY.iter().any(|start| name.starts_with(start))
}

fn identify(headers: &mut HeaderMap, user: &UserInfo) -> Result<(), String> {
    let mut add = |name: &str, value: &str| {
        let refuse = || format!("net/http: invalid header field value for {name:?}");
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| refuse())?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refuse())?;
        headers.append(name, value);
        Ok::<(), String>(())
    };
    add("X-Remote-User", &user.name)?;
    if !user.uid.is_empty() {
        add("X-Remote-Uid", &user.uid)?;
    }
    for group in &user.groups {
        add("X-Remote-Group", group)?;
    }
    for (key, values) in &user.extra {
        let name = format!("X-Remote-Extra-{}", escape_key(key));
        for value in values {
            add(&name, value)?;
        }
    }
    Ok(())
}

/// A key as part of the name of a header: what no name can have is percent-encoded.
fn escape_key(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// For questions that the server itself asks: nothing is compressed.
pub(super) fn of_question(user: &UserInfo, accept: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::ACCEPT, HeaderValue::from_static(accept));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // The server's own name fits into a header.
    let _ = identify(&mut headers, user);
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        map
    }

    fn passed(pairs: &[(&str, &str)], user: &UserInfo) -> Vec<(String, String)> {
        let out = of_request(&map(pairs), user, Some([192, 0, 2, 1].into())).unwrap();
        out.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_string())).collect()
    }

    fn has(all: &[(String, String)], name: &str, value: &str) -> bool {
        all.iter().any(|(n, v)| n == name && v == value)
    }

    #[test]
    fn who_a_client_says_it_is_is_replaced_by_who_it_is() {
        let mut user = UserInfo::new("jane", &["dev", "ops"]);
        user.uid = "7".into();
        user.extra.insert("scopes/a%b".into(), vec!["x".into()]);
        let out = passed(
            &[
                ("x-remote-user", "admin"),
                ("x-remote-group", "system:masters"),
                ("x_remote_user", "admin"),
                ("x-remote-extra-scopes", "all"),
                ("x-remote-uid", "0"),
                ("impersonate-user", "admin"),
                ("authorization", "Bearer secret"),
                ("accept", "application/json"),
            ],
            &user,
        );
        let mut names: Vec<&str> = out.iter().map(|(n, _)| n.as_str()).collect();
        names.sort_unstable();
        let expected = [
            "accept",
            "x-forwarded-for",
            "x-remote-extra-scopes%2fa%25b",
            "x-remote-group",
            "x-remote-group",
            "x-remote-uid",
            "x-remote-user",
        ];
        assert_eq!(names, expected);
        assert!(has(&out, "x-remote-user", "jane") && has(&out, "x-remote-group", "ops"));
        assert!(!out.iter().any(|(_, v)| v.contains("admin") || v.contains("masters")));
    }

    #[test]
    fn what_concerns_one_connection_stays_behind() {
        let user = UserInfo::new("jane", &[]);
        let out = passed(
            &[
                ("connection", "close, X-Secret, x-remote-user"),
                ("x-secret", "1"),
                ("transfer-encoding", "chunked"),
                ("content-length", "5"),
                ("te", "trailers"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAMAAABk"),
                ("expect", "100-continue"),
                ("x-forwarded-for", "198.51.100.7"),
            ],
            &user,
        );
        let mut names: Vec<&str> = out.iter().map(|(n, _)| n.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["x-forwarded-for", "x-remote-user"]);
        assert!(has(&out, "x-forwarded-for", "198.51.100.7, 192.0.2.1"));
    }

    #[test]
    fn a_name_that_no_header_can_carry_is_refused() {
        let user = UserInfo::new("jane\r\nX-Remote-Group: system:masters", &[]);
        assert!(of_request(&HeaderMap::new(), &user, None).unwrap_err().contains("X-Remote-User"));
    }

    #[test]
    fn an_upgrade_is_one_that_the_connection_names() {
        let asked = |pairs: &[(&str, &str)]| upgrade(&Method::GET, &map(pairs)).is_some();
        assert!(asked(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]));
        assert!(!asked(&[("connection", "keep-alive"), ("upgrade", "websocket")]));
        assert!(!asked(&[("connection", "upgrade")]));
    }
}

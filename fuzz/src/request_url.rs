//! URLs of requests and media types. Input: a line with the method, one with the path and query, one with an Accept
//! header.

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method, Uri};
use kubewright_apiserver::request::params::WriteKind;
use kubewright_apiserver::request::{DeleteOptions, ListOptions, RequestInfo, WriteOptions, negotiate};

/// A request is read, and its options are read or refused with an answer to the client; the parts of its path make up
/// the path.
pub fn check(input: &[u8]) {
    let mut lines = input.split(|&byte| byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let Ok(method) = Method::from_bytes(line()) else { return };
    let Ok(uri) = Uri::try_from(line()) else { return };
    let info = RequestInfo::new(&method, &uri);
    if info.is_resource {
        assert!(!info.parts.is_empty() && info.parts[0] == info.resource);
        assert!(info.path.trim_matches('/').ends_with(&info.parts.join("/")));
        assert!(matches!(info.prefix.as_str(), "api" | "apis"));
        assert!(info.group.is_empty() || info.prefix == "apis");
    } else {
        assert_eq!(info.verb, method.as_str().to_ascii_lowercase());
    }
    let _ = (info.has_name_in_path(), info.has_selectors(), info.is_long_running());

    for watch in [false, true] {
        match ListOptions::parse(&info.query, watch) {
            // Read once more without revisions, a list is still a list.
            Ok(options) => {
                assert_eq!(options.without_version().labels.to_string(), options.labels.to_string())
            }
            Err(status) => assert!((400..500).contains(&status.code), "{status:?}"),
        }
    }
    for kind in [WriteKind::Create, WriteKind::Update, WriteKind::Patch, WriteKind::Apply] {
        match WriteOptions::parse(&info.query, kind) {
            Ok(options) => assert!(options.manager("kubectl/v1").len() <= 128),
            Err(status) => assert!((400..500).contains(&status.code), "{status:?}"),
        }
    }
    match DeleteOptions::from_query(&info.query) {
        Ok(options) => {
            let again = DeleteOptions::from_body(&options.to_object()).expect("valid options stay valid");
            assert_eq!(again.to_object(), options.to_object());
        }
        Err(status) => assert!((400..500).contains(&status.code), "{status:?}"),
    }

    let mut headers = HeaderMap::new();
    if let Ok(accept) = HeaderValue::from_bytes(line()) {
        headers.insert(ACCEPT, accept);
    }
    for endpoint in [negotiate::Endpoint::Object, negotiate::Endpoint::List, negotiate::Endpoint::Plain] {
        if let Err(status) = negotiate::output(&headers, &info.query, endpoint) {
            assert_eq!(status.code, 406);
        }
    }
}

//! Media types of answers: what the client accepts, in which form (as it is, as a Table, metadata only). Protobuf is
//! named among the supported types because bodies may be written in it; no answer is: clients that prefer it list
//! another type as well.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use kubewright_machinery::status::Status;

use super::params::Query;

/// The types that messages about negotiation name.
pub const SUPPORTED: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// The types that messages about watches name.
pub const STREAMS: [&str; 2] =
    ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// How bytes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    #[default]
    Json,
    /// YAML.
    Yaml,
}

/// What becomes of an object on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transform {
    /// Nothing.
    #[default]
    None,
    /// `as=Table`; beta for `v=v1beta1`.
    Table {
        /// v1beta1 in place of v1.
        beta: bool,
    },
    /// `as=PartialObjectMetadata`.
    Partial {
        /// v1beta1 in place of v1.
        beta: bool,
    },
    /// `as=PartialObjectMetadataList`.
    PartialList {
        /// v1beta1 in place of v1.
        beta: bool,
    },
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// How bytes are written.
    pub encoding: Encoding,
    /// What becomes of objects.
    pub transform: Transform,
    /// JSON with line breaks.
    pub pretty: bool,
}

/// One clause of an Accept header.
#[derive(Debug)]
pub struct Clause<'a> {
    /// Type, such as `application`.
    pub main: &'a str,
    /// Subtype, such as `json`.
    pub sub: &'a str,
    /// Weight.
    pub q: f32,
    /// Parameters besides `q`.
    pub params: Vec<(&'a str, &'a str)>,
}

/// The clauses of an Accept header, best first.
pub fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut out = Vec::new();
    for part in header.split(',') {
        let mut pieces = part.split(';').map(str::trim);
        let Some((main, sub)) = pieces.next().and_then(|media| media.split_once('/')) else { continue };
        let mut clause = Clause { main: main.trim(), sub: sub.trim(), q: 1.0, params: Vec::new() };
        for (key, value) in pieces.filter_map(|p| p.split_once('=')) {
            let (key, value) = (key.trim(), value.trim().trim_matches('"'));
            if key == "q" {
                clause.q = value.parse().unwrap_or(1.0);
            } else {
                clause.params.push((key, value));
            }
        }
        out.push(clause);
    }
    out.sort_by(|a, b| b.q.total_cmp(&a.q));
    out
}

impl Clause<'_> {
    /// A parameter.
    pub fn param(&self, key: &str) -> Option<&str> {
        self.params.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }

    /// The encodings that match, in the server's order. `wild` for endpoints that take `application/*`: those of
    /// custom resources.
    pub fn encodings(&self, wild: bool) -> &'static [Encoding] {
        match (self.main, self.sub) {
            ("application", "*") if wild => &[Encoding::Json, Encoding::Yaml],
            ("application", "json") => &[Encoding::Json],
            ("application", "yaml") => &[Encoding::Yaml],
            ("*", "*") => &[Encoding::Json, Encoding::Yaml],
            _ => &[],
        }
    }
}

/// What an endpoint can answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// One object, of a kind that has tables.
    Object,
    /// A list, of a kind that has tables.
    List,
    /// Neither tables nor metadata: reviews, Scale, Status.
    Plain,
}

/// Chooses the form of the answer; `watch` allows `stream=watch`.
pub fn output(headers: &HeaderMap, query: &Query, endpoint: Endpoint) -> Result<Output, Status> {
    negotiated(headers, query, endpoint, false)
}

/// The same for custom resources.
pub fn custom_output(headers: &HeaderMap, query: &Query, endpoint: Endpoint) -> Result<Output, Status> {
    negotiated(headers, query, endpoint, true)
}

fn negotiated(headers: &HeaderMap, query: &Query, endpoint: Endpoint, wild: bool) -> Result<Output, Status> {
    let pretty = pretty(headers, query);
    let Some(header) = headers.get(ACCEPT).and_then(|h| h.to_str().ok()).filter(|h| !h.is_empty()) else {
        return Ok(Output { pretty, ..Output::default() });
    };
    for clause in clauses(header) {
        let Some(transform) = transform(&clause, endpoint) else { continue };
        if clause.param("stream").is_some_and(|s| !s.is_empty() && s != "watch")
            || clause.param("sv").is_some_and(|v| !v.is_empty())
        {
            continue;
        }
        if let Some(encoding) = clause.encodings(wild).first() {
            let pretty = pretty || clause.param("pretty") == Some("1");
            return Ok(Output { encoding: *encoding, transform, pretty });
        }
    }
    Err(Status::not_acceptable(&SUPPORTED))
}

fn transform(clause: &Clause<'_>, endpoint: Endpoint) -> Option<Transform> {
    let [kind, group, version] = ["as", "g", "v"].map(|key| clause.param(key).unwrap_or_default());
    if kind.is_empty() && group.is_empty() && version.is_empty() {
        return Some(Transform::None);
    }
    if endpoint == Endpoint::Plain || group != "meta.k8s.io" {
        return None;
    }
    let beta = match version {
        "v1" => false,
        "v1beta1" => true,
        _ => return None,
    };
    match (kind, endpoint) {
        ("Table", _) => Some(Transform::Table { beta }),
        // A watch of metadata is asked for as PartialObjectMetadata, on an endpoint that lists.
        ("PartialObjectMetadata", _) => Some(Transform::Partial { beta }),
        ("PartialObjectMetadataList", _) => Some(Transform::PartialList { beta }),
        _ => None,
    }
}

fn pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(text) = query.get("pretty").filter(|t| !t.is_empty()) {
        return matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(USER_AGENT).and_then(|h| h.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|prefix| agent.starts_with(prefix))
}

/// The media type of the body, without parameters, lower case; empty when not stated.
pub fn content_type(headers: &HeaderMap) -> String {
    let header = headers.get(CONTENT_TYPE).and_then(|h| h.to_str().ok()).unwrap_or_default();
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str, endpoint: Endpoint) -> Result<Output, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, text.parse().unwrap());
        output(&headers, &Query::default(), endpoint)
    }

    #[test]
    fn kubectl_gets_a_table_and_falls_back_to_json() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(kubectl, Endpoint::List).unwrap().transform, Transform::Table { beta: false });
        assert_eq!(accept(kubectl, Endpoint::Plain).unwrap().transform, Transform::None);
    }

    #[test]
    fn weights_and_wildcards_count() {
        let chosen = accept("application/json;q=0.2, application/yaml", Endpoint::Object).unwrap();
        assert_eq!(chosen.encoding, Encoding::Yaml);
        assert_eq!(accept("*/*", Endpoint::Object).unwrap().encoding, Encoding::Json);
        let go = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(accept(go, Endpoint::Object).unwrap().encoding, Encoding::Json);
    }

    #[test]
    fn clients_that_prefer_protobuf_get_their_second_choice() {
        let encoding = |header: &str, endpoint| accept(header, endpoint).map(|o| (o.encoding, o.transform));
        let plain = Ok((Encoding::Json, Transform::None));
        for header in [
            "application/vnd.kubernetes.protobuf, */*",
            "application/vnd.kubernetes.protobuf,application/json",
            "application/vnd.kubernetes.protobuf;stream=watch,application/json;stream=watch",
        ] {
            for endpoint in [Endpoint::Object, Endpoint::List, Endpoint::Plain] {
                assert_eq!(encoding(header, endpoint), plain, "{header}");
            }
        }
        let metadata = ["vnd.kubernetes.protobuf", "json"]
            .map(|sub| format!("application/{sub};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"))
            .join(",");
        let partial = Ok((Encoding::Json, Transform::PartialList { beta: false }));
        assert_eq!(encoding(&metadata, Endpoint::List), partial);
        let only = encoding("application/vnd.kubernetes.protobuf", Endpoint::Object);
        assert_eq!(only.unwrap_err().code, 406);
    }

    #[test]
    fn what_nobody_can_write_is_not_acceptable() {
        for header in ["application/*", "text/html", "application/json;as=Chart;v=v1;g=meta.k8s.io"] {
            assert_eq!(accept(header, Endpoint::Object).unwrap_err().code, 406, "{header}");
        }
    }
}

//! Spans of reconciliations for a collector: OTLP over HTTP (protobuf), where `OTEL_EXPORTER_OTLP_ENDPOINT` or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` names one. The other standard variables (headers, timeout, service name, attributes
//! of the resource, the sampler) count too. Spans are sent in batches by a thread; nobody who makes one waits.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::Layer;

use super::BoxedLayer;
use crate::{Error, Result};

/// The variables that name a collector; the second one is for traces alone.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
/// Collectors answer with little.
const MAX_ANSWER: usize = 1 << 20;
/// How long the last spans may take when the process ends.
const LAST: Duration = Duration::from_secs(2);

/// Spans on their way.
pub(super) struct Export(SdkTracerProvider);

impl Export {
    /// Sends what is left.
    pub(super) fn end(&self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "the last spans could not be exported");
        }
    }
}

/// A layer that exports spans under the operator's name, if a collector is named. Needs a tokio runtime.
pub(super) fn layer(operator: &str) -> Result<Option<(BoxedLayer, Export)>> {
    let named = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !ENDPOINTS.iter().any(named) {
        return Ok(None);
    }
    to(operator, None).map(Some)
}

/// Exports to an address, or to the one that the variables name.
fn to(operator: &str, endpoint: Option<&str>) -> Result<(BoxedLayer, Export)> {
    let unusable = |error: String| Error::Usage(format!("traces can't be exported by OTLP: {error}"));
    let client = Client::new().map_err(|error| unusable(error.to_string()))?;
    let exporter =
        SpanExporter::builder().with_http().with_http_client(client).with_protocol(Protocol::HttpBinary);
    let exporter = match endpoint {
        Some(endpoint) => exporter.with_endpoint(endpoint),
        None => exporter,
    };
    let exporter = exporter.build().map_err(|error| unusable(error.to_string()))?;
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(operator.to_owned());
    }
    let provider =
        SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("kubewright"));
    Ok((layer.with_filter(LevelFilter::INFO).boxed(), Export(provider)))
}

/// Sends requests on the runtime, for a thread that is none of its own.
struct Client {
    runtime: Handle,
    pool: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Client {
    fn new() -> Result<Client, kube::Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // kube knows whom this machine trusts.
        let trusted =
            kube::Config::new(http::Uri::from_static("https://localhost")).rustls_client_config()?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trusted)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let pool = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Client { runtime: Handle::current(), pool })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let sent = self.pool.request(request.map(Full::new));
        let answer = self.runtime.spawn(async move {
            let (parts, body) = sent.await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
            Ok(Response::from_parts(parts, body))
        });
        Box::pin(async move { answer.await? })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Takes one request, with its body.
    async fn one_request(listener: TcpListener) -> (String, Vec<u8>) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        loop {
            stream.read_buf(&mut bytes).await.unwrap();
            let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.expect("a length").parse().unwrap();
            if bytes.len() >= end + 4 + length {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                return (head, bytes.split_off(end + 4));
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn spans_of_reconciliations_reach_a_collector_under_the_operators_name() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let collector = tokio::spawn(one_request(listener));
        let (layer, export) = to("greeter", Some(&endpoint)).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(vec![layer]), || {
            tracing::info_span!("reconcile", controller = "namespace", object = "team").in_scope(|| {});
            tracing::debug_span!("too small to tell").in_scope(|| {});
        });
        tokio::task::spawn_blocking(move || export.end()).await.unwrap();
        let (head, body) = collector.await.unwrap();
        assert!(head.starts_with("post /v1/traces "), "{head}");
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        let has = |text: &str| body.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(has("reconcile") && has("greeter") && has("namespace") && has("team"));
        assert!(!has("too small"));
    }
}

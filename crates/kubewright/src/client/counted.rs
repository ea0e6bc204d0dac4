//! Counts the requests of a client that has no guard: those of caches and of discovery.

use std::time::Instant;

use http::Request;
use kube::client::Body;

use super::request::is_watch;
use crate::manager::metrics::Calls;

/// The same client, whose requests are counted.
pub(crate) fn counted(client: &kube::Client, calls: Calls) -> kube::Client {
    let namespace = client.default_namespace();
    let client = client.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, calls) = (client.clone(), calls.clone());
        async move {
            let (method, lasts) = (request.method().clone(), is_watch(request.uri().query()));
            let sent = Instant::now();
            let result = client.send(request).await;
            let code = result.as_ref().ok().map(|response| response.status().as_u16());
            calls.answered(&method, code, (!lasts).then(|| sent.elapsed()));
            result
        }
    });
    kube::Client::new(service, namespace)
}

#[cfg(test)]
mod tests {
    use http::Response;
    use tower::BoxError;

    use super::*;
    use crate::manager::metrics::Metrics;

    #[tokio::test]
    async fn requests_of_caches_are_counted_and_watches_have_no_duration() {
        let service = tower::service_fn(|request: Request<Body>| async move {
            if request.uri().path() == "/lost" {
                return Err(BoxError::from("the connection is gone"));
            }
            Ok(Response::new(Body::empty()))
        });
        let metrics = Metrics::default();
        let client = counted(&kube::Client::new(service, "team"), metrics.calls(Some("edge")));
        assert_eq!(client.default_namespace(), "team");
        for path in ["/api/v1/pods", "/api/v1/pods?watch=true", "/lost"] {
            let _ = client.send(Request::get(path).body(Body::empty()).unwrap()).await;
        }
        let text = metrics.text();
        for line in [
            "rest_client_requests_total{method=\"GET\",code=\"200\",cluster=\"edge\"} 2\n",
            "rest_client_requests_total{method=\"GET\",code=\"0\",cluster=\"edge\"} 1\n",
            "rest_client_request_duration_seconds_count{verb=\"GET\",cluster=\"edge\"} 2\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}

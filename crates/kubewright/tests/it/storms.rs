//! A thousand informers whose server throttles all of them, and then forgets its history for all of them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use kubewright::Kind;
use kubewright::cache::{Cache, Informer, Scope, What};
use tokio::sync::{mpsc, watch};
use tower::BoxError;

const INFORMERS: usize = 1000;
/// Lists of one process at once.
const AT_ONCE: usize = 16;

type Stream = StreamBody<BoxStream<'static, Result<Frame<Bytes>, BoxError>>>;

/// A server of ConfigMaps, one a namespace and revision. It sends everybody away once before it answers a list.
#[derive(Clone, Default)]
struct Server {
    revision: Arc<AtomicU64>,
    throttled: Arc<Mutex<HashSet<String>>>,
    watches: Arc<Mutex<HashMap<String, mpsc::UnboundedSender<String>>>>,
    listing: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.answer(request.uri().to_string()).await }
        });
        kube::Client::new(service, "default")
    }

    async fn answer(&self, uri: String) -> Result<Response<Stream>, BoxError> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let namespace = uri.split('/').nth(4).unwrap_or_default().to_owned();
        let listing = self.listing.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(listing, Ordering::SeqCst);
        // Whoever else wants to list has every opportunity.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert!(uri.contains("sendInitialEvents=true"), "{uri}");
        let first = self.throttled.lock().unwrap().insert(namespace.clone());
        let (sender, receiver) = mpsc::unbounded_channel();
        if !first {
            self.watches.lock().unwrap().insert(namespace.clone(), sender);
        }
        let revision = self.revision.load(Ordering::SeqCst) + 1;
        let lines: String = (1..=revision)
            .map(|revision| map("ADDED", &namespace, revision))
            .chain([format!(
                r#"{{"type":"BOOKMARK","object":{{"metadata":{{"resourceVersion":"{revision}","annotations":{{"k8s.io/initial-events-end":"true"}}}}}}}}"#
            )])
            .map(|line| line + "\n")
            .collect();
        let listing = Arc::clone(&self.listing);
        let head = stream::once(async move {
            listing.fetch_sub(1, Ordering::SeqCst);
            Ok(Frame::data(Bytes::from(lines)))
        });
        if first {
            self.listing.fetch_sub(1, Ordering::SeqCst);
            let mut response = Response::new(StreamBody::new(stream::empty().boxed()));
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            return Ok(response);
        }
        let more = stream::unfold(receiver, |mut lines| async {
            let line: String = lines.recv().await?;
            Some((Ok(Frame::data(Bytes::from(line + "\n"))), lines))
        });
        Ok(Response::new(StreamBody::new(head.chain(more).boxed())))
    }

    /// Says something to all watches at once.
    fn say(&self, line: impl Fn(&str) -> String) {
        let watches = self.watches.lock().unwrap();
        assert_eq!(watches.len(), INFORMERS);
        for (namespace, watch) in watches.iter() {
            watch.send(line(namespace)).unwrap();
        }
    }
}

fn map(what: &str, namespace: &str, revision: u64) -> String {
    format!(
        r#"{{"type":"{what}","object":{{"metadata":{{"name":"m{revision}","namespace":"{namespace}","uid":"{revision}","resourceVersion":"{revision}"}}}}}}"#
    )
}

#[tokio::test]
async fn a_thousand_informers_recover_a_few_at_a_time_and_miss_nothing() {
    let server = Server::default();
    let cache = Cache::new(server.client());
    let kind = Kind::of::<ConfigMap>();
    let heard = watch::channel(0).0;
    let mut subscriptions = Vec::new();
    let informers: Vec<Informer> =
        (0..INFORMERS).map(|number| cache.informer(&kind, &Scope::Namespace(format!("n{number}")))).collect();
    for informer in &informers {
        let heard = heard.clone();
        subscriptions.push(informer.subscribe(move |delta| {
            heard.send_modify(|count| *count += usize::from(delta.what == What::Added));
        }));
    }
    let all = async |count: usize| {
        heard.subscribe().wait_for(|heard| *heard >= count).await.unwrap();
        assert_eq!(*heard.borrow(), count);
    };
    // All are sent away once, come again, and list.
    all(INFORMERS).await;
    // All are told at once that the history is gone, in which something happened that nobody was told.
    server.revision.fetch_add(1, Ordering::SeqCst);
    server.say(|_| {
        r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old resource version"}}"#
            .into()
    });
    all(2 * INFORMERS).await;
    for informer in &informers {
        informer.synced().await;
    }
    server.say(|namespace| map("ADDED", namespace, 3));
    all(3 * INFORMERS).await;
    let (most, requests) = (server.most.load(Ordering::SeqCst), server.requests.load(Ordering::SeqCst));
    assert!(most <= AT_ONCE, "{most} lists at once");
    assert_eq!(requests, 3 * INFORMERS, "one sent away, one list, one list after the expiry, each");
    for informer in &informers {
        let stats = informer.stats();
        assert_eq!((stats.objects, stats.events, stats.undecodable), (3, 3, 0));
        assert!(stats.connected);
    }
    drop((subscriptions, informers));
    assert!(cache.informers().is_empty());
}

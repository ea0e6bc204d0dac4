//! Files that appear, change and break under a running server, and a Secret that two replicas look after.

use kubewright_pki::Authority;

use super::*;

fn keeper(source: Source, client: kube::Client) -> Keeper {
    Keeper {
        names: Names::new("op", "op-system"),
        client,
        targets: vec![Target::Validating("op".into())],
        shown: Arc::new(Shown::new("webhooks", Arc::default())),
        source,
    }
}

fn write(directory: &std::path::Path, identity: &Identity) {
    std::fs::write(directory.join("tls.crt"), identity.certificate_pem()).unwrap();
    std::fs::write(directory.join("tls.key"), identity.key_pem()).unwrap();
}

fn shown(keeper: &Keeper) -> Option<String> {
    keeper.shown.current.lock().as_ref().map(|(_, chain)| chain.clone())
}

#[tokio::test]
async fn files_are_loaded_when_they_change_and_the_last_good_ones_stay() {
    let directory = std::env::temp_dir().join(format!("kubewright-certificates-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let keeper = keeper(Certificates::files(&directory).source, server::Cluster::default().client());
    assert!(matches!(keeper.step().await, Err(CertificateError::Read { .. })));
    assert!(!keeper.shown.is_ready() && keeper.shown.tls().borrow().is_none());

    let now = SystemTime::now();
    let authority = Authority::new("somebody", now).unwrap();
    let (first, second) = (
        authority.server(&["a.b.svc"], &[], now).unwrap(),
        authority.server(&["a.b.svc"], &[], now).unwrap(),
    );
    write(&directory, &first);
    keeper.step().await.unwrap();
    assert!(keeper.shown.is_ready() && keeper.shown.tls().borrow().is_some());
    assert_eq!(shown(&keeper), Some(first.certificate_pem()));

    // Half of a replacement: the key is not the certificate's yet.
    std::fs::write(directory.join("tls.key"), second.key_pem()).unwrap();
    std::fs::write(directory.join("tls.crt"), "nonsense").unwrap();
    assert!(matches!(keeper.step().await, Err(CertificateError::Pki(_))));
    assert_eq!(shown(&keeper), Some(first.certificate_pem()));
    write(&directory, &second);
    keeper.step().await.unwrap();
    assert_eq!(shown(&keeper), Some(second.certificate_pem()));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn replicas_that_start_together_agree_on_one_authority() {
    let cluster = server::Cluster::default();
    let replicas: Vec<Keeper> =
        (0..4).map(|_| keeper(Certificates::own().source, cluster.client())).collect();
    // All read the empty Secret before any writes it.
    let steps = futures::future::join_all(replicas.iter().map(Keeper::step)).await;
    assert!(steps.iter().all(Result::is_ok), "{steps:?}");
    let chains: std::collections::BTreeSet<Option<String>> = replicas.iter().map(shown).collect();
    assert_eq!(chains.len(), 1);
    assert!(chains.first().is_some_and(Option::is_some));
    assert_eq!(cluster.conflicts(), 3, "three lost the race and took what the first one wrote");
    let bundle = cluster.bundle();
    let identity = chains.into_iter().next().flatten().unwrap();
    assert!(bundle.contains("BEGIN CERTIFICATE") && !bundle.contains(&identity));
}

#[tokio::test]
async fn a_secret_that_is_not_there_or_damaged_is_told_or_made_anew() {
    let cluster = server::Cluster::default();
    cluster.set_secret(serde_json::json!({"tls.crt": "bm9uc2Vuc2U="}));
    let keeper = keeper(Certificates::own().source, cluster.client());
    keeper.step().await.unwrap();
    assert!(keeper.shown.is_ready());
    cluster.drop_secret();
    let error = keeper.step().await.unwrap_err();
    assert!(matches!(error, CertificateError::NoSecret { .. }));
    assert!(error.to_string().contains("Secret op-system/op-webhook-certificates is not there"));
    // What is shown goes on being shown.
    assert!(keeper.shown.is_ready());
}

/// As much of an API server as keeping certificates takes: one Secret and one configuration, with conflicts.
mod server {
    use std::convert::Infallible;
    use std::sync::Arc;

    use http::{Method, Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    #[derive(Clone)]
    pub struct Cluster(Arc<Mutex<Objects>>);

    struct Objects {
        secret: Value,
        configuration: Value,
        version: u64,
        conflicts: usize,
    }

    impl Default for Cluster {
        fn default() -> Cluster {
            let client = json!({"service": {"name": "op-webhook", "namespace": "op-system"}});
            Cluster(Arc::new(Mutex::new(Objects {
                secret: json!({"metadata": {"name": "op-webhook-certificates", "resourceVersion": "1"}}),
                configuration: json!({"metadata": {"name": "op", "resourceVersion": "1"},
                    "webhooks": [{"name": "a.b.c", "clientConfig": client}]}),
                version: 1,
                conflicts: 0,
            })))
        }
    }

    impl Cluster {
        pub fn client(&self) -> kube::Client {
            let cluster = self.clone();
            let service = tower::service_fn(move |request: Request<Body>| {
                let cluster = cluster.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.expect("a body").to_bytes();
                    // Others get their turn between a read and the write that follows.
                    tokio::task::yield_now().await;
                    let (code, answer) = cluster.answer(&parts.method, parts.uri.path(), &body);
                    let response =
                        Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
                    Ok::<_, Infallible>(response.expect("a response"))
                }
            });
            kube::Client::new(service, "default")
        }

        fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
            let mut objects = self.0.lock();
            let Objects { secret, configuration, version, conflicts } = &mut *objects;
            let object = if path.contains("/secrets/") { secret } else { configuration };
            let refuse = |code: u16| {
                (
                    code,
                    json!({"kind": "Status", "status": "Failure", "code": code, "message": "", "reason": ""}),
                )
            };
            if object.is_null() {
                return refuse(404);
            }
            if method == Method::GET {
                return (200, object.clone());
            }
            let mut new: Value = serde_json::from_slice(body).expect("JSON");
            if new["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
                *conflicts += usize::from(path.contains("/secrets/"));
                return refuse(409);
            }
            *version += 1;
            new["metadata"]["resourceVersion"] = version.to_string().into();
            *object = new.clone();
            (200, new)
        }

        pub fn conflicts(&self) -> usize {
            self.0.lock().conflicts
        }

        pub fn bundle(&self) -> String {
            use base64::Engine as _;
            let objects = self.0.lock();
            let bundle =
                objects.configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str().expect("a bundle");
            String::from_utf8(base64::engine::general_purpose::STANDARD.decode(bundle).expect("base64"))
                .expect("PEM")
        }

        pub fn set_secret(&self, data: Value) {
            self.0.lock().secret["data"] = data;
        }

        pub fn drop_secret(&self) {
            self.0.lock().secret = Value::Null;
        }
    }
}

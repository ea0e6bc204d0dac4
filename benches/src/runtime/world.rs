//! The pods and the server that both runtimes are measured with: a tower service that answers a streaming list with
//! prepared objects, and then sends what the measurement asks for. Objects are made while they are sent, so that what
//! is measured holds none of them; both sides get the same bytes. It knows nothing of Kubernetes beyond one watch.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt};
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use kube::client::Body;
use tokio::sync::{Mutex, mpsc};
use tower::BoxError;

/// How many bytes come at once from a connection, about.
const CHUNK: usize = 64 << 10;

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 33)
    }

    fn hex(&mut self, digits: usize) -> String {
        let mut text = String::with_capacity(digits + 16);
        while text.len() < digits {
            text.push_str(&format!("{:016x}", self.roll()));
        }
        text.truncate(digits);
        text
    }

    fn uid(&mut self) -> String {
        let hex = self.hex(32);
        format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
    }
}

/// A running pod of one of 300 ReplicaSets, as a cluster has it: about 9 KB, a third of them managedFields.
pub fn pod(number: usize, version: u64) -> Vec<u8> {
    let app = number % 300;
    let mut dice = Dice(number as u64 + 1);
    let mut owner = Dice(app as u64 + 1_000_000);
    // No two pods of a ReplicaSet may get the same name.
    let (hash, suffix) = (owner.hex(10), format!("{}{:03x}", dice.hex(3), number / 300));
    let (uid, owner_uid) = (dice.uid(), owner.uid());
    let namespace = format!("team-{}", app % 40);
    let (node, token) = (dice.roll() % 500, dice.hex(5));
    let (a, b) = (dice.roll() % 250 + 1, dice.roll() % 250 + 1);
    let ip = format!("10.{}.{a}.{b}", node % 200);
    let minute = dice.roll() % 60;
    let mut envs = String::new();
    for i in 0..14 {
        let value = owner.hex(12);
        envs.push_str(&format!(
            r#"{{"name":"SETTING_{i}","value":"https://service-{i}.team-{}.svc.cluster.local:8443/{value}"}},"#,
            app % 40
        ));
    }
    envs.push_str(r#"{"name":"POD_NAME","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.name"}}},{"name":"POD_NAMESPACE","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}}"#);
    let mut containers = String::new();
    let mut statuses = String::new();
    let mut owned = String::new();
    for (index, name) in ["server", "proxy"].into_iter().enumerate() {
        if index > 0 {
            containers.push(',');
            statuses.push(',');
            owned.push(',');
        }
        let image = format!("registry.example.com/team-{}/{name}-{app}", app % 40);
        let digest = owner.hex(64);
        containers.push_str(&format!(
            r#"{{"name":"{name}","image":"{image}:v1.{}.{}","args":["--listen=0.0.0.0:8080","--config=/etc/{name}/config.yaml","--log-level=info"],"ports":[{{"name":"http","containerPort":8080,"protocol":"TCP"}},{{"name":"metrics","containerPort":9090,"protocol":"TCP"}}],"env":[{envs}],"resources":{{"limits":{{"cpu":"1","memory":"512Mi"}},"requests":{{"cpu":"100m","memory":"128Mi"}}}},"volumeMounts":[{{"name":"config","readOnly":true,"mountPath":"/etc/{name}"}},{{"name":"kube-api-access-{token}","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}}],"livenessProbe":{{"httpGet":{{"path":"/healthz","port":"http","scheme":"HTTP"}},"initialDelaySeconds":5,"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3}},"readinessProbe":{{"httpGet":{{"path":"/readyz","port":"http","scheme":"HTTP"}},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent","securityContext":{{"capabilities":{{"drop":["ALL"]}},"runAsNonRoot":true,"readOnlyRootFilesystem":true,"allowPrivilegeEscalation":false}}}}"#,
            app % 7,
            app % 11
        ));
        statuses.push_str(&format!(
            r#"{{"name":"{name}","state":{{"running":{{"startedAt":"2026-11-01T10:{minute:02}:09Z"}}}},"lastState":{{}},"ready":true,"restartCount":0,"image":"{image}:v1.{}.{}","imageID":"{image}@sha256:{digest}","containerID":"containerd://{}","started":true}}"#,
            app % 7,
            app % 11,
            dice.hex(64)
        ));
        owned.push_str(&format!(
            r#""k:{{\"name\":\"{name}\"}}":{{".":{{}},"f:args":{{}},"f:env":{{".":{{}},{}"k:{{\"name\":\"POD_NAME\"}}":{{".":{{}},"f:name":{{}},"f:valueFrom":{{".":{{}},"f:fieldRef":{{}}}}}}}},"f:image":{{}},"f:imagePullPolicy":{{}},"f:livenessProbe":{{".":{{}},"f:failureThreshold":{{}},"f:httpGet":{{".":{{}},"f:path":{{}},"f:port":{{}},"f:scheme":{{}}}},"f:periodSeconds":{{}}}},"f:name":{{}},"f:ports":{{}},"f:resources":{{".":{{}},"f:limits":{{}},"f:requests":{{}}}}}}"#,
            (0..4)
                .map(|i| format!(r#""k:{{\"name\":\"SETTING_{i}\"}}":{{".":{{}},"f:name":{{}},"f:value":{{}}}},"#))
                .collect::<String>()
        ));
    }
    let conditions: Vec<String> = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .iter()
        .map(|kind| {
            format!(r#"{{"type":"{kind}","observedGeneration":1,"status":"True","lastProbeTime":null,"lastTransitionTime":"2026-11-01T10:{minute:02}:10Z"}}"#)
        })
        .collect();
    format!(
        r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"app-{app}-{hash}-{suffix}","generateName":"app-{app}-{hash}-","namespace":"{namespace}","uid":"{uid}","resourceVersion":"{version}","generation":1,"creationTimestamp":"2026-11-01T10:{minute:02}:00Z","labels":{{"app.kubernetes.io/name":"app-{app}","app.kubernetes.io/part-of":"{namespace}","pod-template-hash":"{hash}"}},"annotations":{{"prometheus.io/scrape":"true","prometheus.io/port":"9090","kubectl.kubernetes.io/restartedAt":"2026-10-30T08:00:00Z"}},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"app-{app}-{hash}","uid":"{owner_uid}","controller":true,"blockOwnerDeletion":true}}],"managedFields":[{{"manager":"kube-controller-manager","operation":"Update","apiVersion":"v1","time":"2026-11-01T10:{minute:02}:00Z","fieldsType":"FieldsV1","fieldsV1":{{"f:metadata":{{"f:annotations":{{".":{{}},"f:prometheus.io/scrape":{{}},"f:prometheus.io/port":{{}}}},"f:generateName":{{}},"f:labels":{{".":{{}},"f:app.kubernetes.io/name":{{}},"f:pod-template-hash":{{}}}},"f:ownerReferences":{{".":{{}},"k:{{\"uid\":\"{owner_uid}\"}}":{{}}}}}},"f:spec":{{"f:containers":{{{owned}}},"f:dnsPolicy":{{}},"f:enableServiceLinks":{{}},"f:restartPolicy":{{}},"f:schedulerName":{{}},"f:securityContext":{{}},"f:terminationGracePeriodSeconds":{{}},"f:volumes":{{".":{{}},"k:{{\"name\":\"config\"}}":{{".":{{}},"f:configMap":{{".":{{}},"f:defaultMode":{{}},"f:name":{{}}}},"f:name":{{}}}}}}}}}}}},{{"manager":"kubelet","operation":"Update","apiVersion":"v1","time":"2026-11-01T10:{minute:02}:10Z","fieldsType":"FieldsV1","fieldsV1":{{"f:status":{{"f:conditions":{{"k:{{\"type\":\"ContainersReady\"}}":{{".":{{}},"f:lastProbeTime":{{}},"f:lastTransitionTime":{{}},"f:status":{{}},"f:type":{{}}}},"k:{{\"type\":\"Ready\"}}":{{".":{{}},"f:lastProbeTime":{{}},"f:lastTransitionTime":{{}},"f:status":{{}},"f:type":{{}}}}}},"f:containerStatuses":{{}},"f:hostIP":{{}},"f:phase":{{}},"f:podIP":{{}},"f:podIPs":{{".":{{}},"k:{{\"ip\":\"{ip}\"}}":{{".":{{}},"f:ip":{{}}}}}},"f:startTime":{{}}}}}},"subresource":"status"}}]}},"spec":{{"volumes":[{{"name":"config","configMap":{{"name":"app-{app}","defaultMode":420}}}},{{"name":"kube-api-access-{token}","projected":{{"sources":[{{"serviceAccountToken":{{"expirationSeconds":3607,"path":"token"}}}},{{"configMap":{{"name":"kube-root-ca.crt","items":[{{"key":"ca.crt","path":"ca.crt"}}]}}}},{{"downwardAPI":{{"items":[{{"path":"namespace","fieldRef":{{"apiVersion":"v1","fieldPath":"metadata.namespace"}}}}]}}}}],"defaultMode":420}}}}],"containers":[{containers}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","serviceAccountName":"app-{app}","serviceAccount":"app-{app}","nodeName":"node-{node}","securityContext":{{"fsGroup":2000}},"schedulerName":"default-scheduler","tolerations":[{{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}},{{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}}],"priority":0,"enableServiceLinks":true,"preemptionPolicy":"PreemptLowerPriority"}},"status":{{"phase":"Running","observedGeneration":1,"conditions":[{}],"hostIP":"192.168.{}.{}","hostIPs":[{{"ip":"192.168.{}.{}"}}],"podIP":"{ip}","podIPs":[{{"ip":"{ip}"}}],"startTime":"2026-11-01T10:{minute:02}:01Z","containerStatuses":[{statuses}],"qosClass":"Burstable"}}}}"#,
        conditions.join(","),
        node / 250,
        node % 250,
        node / 250,
        node % 250
    )
    .into_bytes()
}

/// A watch event of an object.
pub fn event(kind: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + 40);
    line.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":").as_bytes());
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.freeze()
}

fn end_of_list(version: u64) -> Bytes {
    event(
        "BOOKMARK",
        format!(r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"","namespace":"","resourceVersion":"{version}","creationTimestamp":null,"annotations":{{"k8s.io/initial-events-end":"true"}}}},"spec":{{"containers":[]}}}}"#).as_bytes(),
    )
}

/// The chunks of the initial events, as a connection hands them over.
pub fn initial(pods: usize) -> impl Iterator<Item = Bytes> + Send {
    let mut next = 0;
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let mut chunk = BytesMut::with_capacity(CHUNK + (16 << 10));
        while chunk.len() < CHUNK && next < pods {
            chunk.extend_from_slice(&event("ADDED", &pod(next, next as u64 + 1)));
            next += 1;
        }
        if next == pods {
            chunk.extend_from_slice(&end_of_list(pods as u64));
            ended = true;
        }
        Some(chunk.freeze())
    })
}

/// A server of one collection.
pub struct World {
    /// What the watch sends after the initial events.
    pub live: mpsc::UnboundedSender<Bytes>,
    /// A client of it.
    pub client: kube::Client,
}

impl World {
    /// A server whose first watch sends these chunks and then what is put into `live`.
    pub fn new<I>(initial: I) -> World
    where
        I: IntoIterator<Item = Bytes, IntoIter: Send> + Send + 'static,
    {
        let (live, lines) = mpsc::unbounded_channel::<Bytes>();
        let first = Arc::new(Mutex::new(Some((initial, lines))));
        let service = tower::service_fn(move |_: Request<Body>| {
            let first = Arc::clone(&first);
            async move {
                let Some((initial, lines)) = first.lock().await.take() else {
                    return std::future::pending().await;
                };
                let live = stream::unfold(lines, |mut lines| async { Some((lines.recv().await?, lines)) });
                let chunks =
                    stream::iter(initial).chain(live).map(|chunk| Ok::<_, BoxError>(Frame::data(chunk)));
                Ok::<_, BoxError>(Response::new(StreamBody::new(chunks.boxed())))
            }
        });
        World { live, client: kube::Client::new(service, "default") }
    }
}

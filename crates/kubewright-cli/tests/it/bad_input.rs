//! What can't be accepted is refused with the Status a real server gives, and leaves nothing behind.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::rig::Rig;

/// A request with a body as it is, over TLS with the administrator's certificate: `kubectl create --raw` and curl do
/// the same, but curl is not everywhere and kubectl sends JSON alone.
fn send(rig: &Rig, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
    let mut child = Command::new("python3")
        .args(["-c", SENDER, rig.dir.join("kubeconfig").to_str().unwrap(), method, path])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs: the test tools need it as well");
    // The server may refuse before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(body);
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    let (code, body) =
        text.split_once('\n').unwrap_or_else(|| panic!("no answer to {method} {path}: {text}"));
    (code.parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::from(body)))
}

const SENDER: &str = r#"
import base64, http.client, re, ssl, sys, tempfile, urllib.parse
text = open(sys.argv[1]).read()
def data(key):
    found = re.search(key + r':\s*"?([^\s"]+)', text).group(1)
    file = tempfile.NamedTemporaryFile(delete=False); file.write(base64.b64decode(found)); file.close()
    return file.name
server = urllib.parse.urlparse(re.search(r'server:\s*"?([^\s"]+)', text).group(1))
context = ssl.create_default_context(cafile=data("certificate-authority-data"))
context.load_cert_chain(data("client-certificate-data"), data("client-key-data"))
connection = http.client.HTTPSConnection(server.hostname, server.port, context=context, timeout=30)
body = sys.stdin.buffer.read()
try:
    connection.request(sys.argv[2], sys.argv[3], body, {"Content-Type": "application/json", "Accept": "application/json"})
except (BrokenPipeError, ConnectionResetError):
    pass
answer = connection.getresponse()
print(answer.status)
print(answer.read().decode(), end="")
"#;

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

fn reason(answer: &Value) -> &str {
    answer["reason"].as_str().unwrap_or_default()
}

#[test]
fn bad_bodies_get_the_status_of_a_real_server_and_leave_nothing_behind() {
    let rig = Rig::cluster("bad", &["--no-controllers"]);
    let before = rig.kubectl(&["get", "configmaps,namespaces,crds", "-A", "-o", "name"]);

    let (code, answer) = send(&rig, "POST", CONFIGMAPS, b"{\"kind\": ");
    assert_eq!((code, reason(&answer)), (400, "BadRequest"), "{answer}");

    let large = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"large"}},"data":{{"a":"{}"}}}}"#,
        "x".repeat(4 << 20)
    );
    let (code, answer) = send(&rig, "POST", CONFIGMAPS, large.as_bytes());
    assert_eq!((code, reason(&answer)), (413, "RequestEntityTooLarge"), "{answer}");

    let (code, answer) =
        send(&rig, "POST", CONFIGMAPS, br#"{"apiVersion":"v1","kind":"Gadget","metadata":{"name":"a"}}"#);
    assert_eq!((code, reason(&answer)), (400, "BadRequest"), "{answer}");

    let (code, answer) =
        send(&rig, "POST", CONFIGMAPS, br#"{"apiVersion":"v2","kind":"ConfigMap","metadata":{"name":"a"}}"#);
    assert_eq!((code, reason(&answer)), (400, "BadRequest"), "{answer}");

    let (code, answer) = send(
        &rig,
        "POST",
        CONFIGMAPS,
        br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"Not Good"}}"#,
    );
    assert_eq!((code, reason(&answer)), (422, "Invalid"), "{answer}");
    assert_eq!(answer["details"]["causes"][0]["field"], "metadata.name");

    let (code, answer) = send(&rig, "GET", "/apis/nobody.io/v1/things", b"");
    assert_eq!((code, answer), (404, Value::from("404 page not found\n")));
    let (code, answer) = send(&rig, "GET", "/api/v1/gadgets", b"");
    assert_eq!((code, reason(&answer)), (404, "NotFound"));

    let definition = br#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition",
        "metadata":{"name":"things.example.com"},"spec":{"group":"example.com","scope":"Namespaced",
        "names":{"plural":"things","kind":"Thing"},"versions":[{"name":"v1","served":true,"storage":true,
        "schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"properties":{"a":{"type":"string"}}}}}}}]}}"#;
    let (code, answer) =
        send(&rig, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition);
    assert_eq!((code, reason(&answer)), (422, "Invalid"), "{answer}");
    assert_eq!(
        answer["details"]["causes"][0]["field"],
        "spec.validation.openAPIV3Schema.properties[spec].type"
    );

    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let (code, _) = send(&rig, "POST", CONFIGMAPS, deep.as_bytes());
    assert_eq!(code, 400);

    assert_eq!(rig.kubectl(&["get", "configmaps,namespaces,crds", "-A", "-o", "name"]), before);
}

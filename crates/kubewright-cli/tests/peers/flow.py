"""What users do with the Python client of Kubernetes: each function is a flow of its own, in a namespace of its own.

The test that runs this sets KUBECONFIG and PYTHONPATH. A flow that fails ends the program with the traceback.
"""

import datetime
import json
import sys
import threading

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock


def refused(call, *args, **kwargs):
    """The error that a call ends with, and its Status."""
    try:
        answer = call(*args, **kwargs)
    except ApiException as error:
        status = json.loads(error.body)
        assert status["kind"] == "Status" and status["status"] == "Failure", status
        assert status["code"] == error.status, status
        return error, status
    raise AssertionError(f"not refused: {answer}")


def config_map(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"app": name}), data=data)


def objects_are_created_read_listed_in_pages_and_replaced(api, ns):
    core = client.CoreV1Api(api)
    for index in range(7):
        made = core.create_namespaced_config_map(ns, config_map(f"m{index}", n=str(index)))
        assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo is not None
    assert core.read_namespaced_config_map("m3", ns).data == {"n": "3"}

    names, token, pages = [], None, 0
    while True:
        page = core.list_namespaced_config_map(ns, limit=3, _continue=token)
        names += [item.metadata.name for item in page.items]
        pages += 1
        token = page.metadata._continue
        if pages == 1:
            assert page.metadata.remaining_item_count >= 4, page.metadata
        if not token:
            break
    assert pages >= 3 and [n for n in names if n.startswith("m")] == [f"m{i}" for i in range(7)], names
    chosen = core.list_namespaced_config_map(ns, label_selector="app in (m1, m2),app!=m2")
    assert [item.metadata.name for item in chosen.items] == ["m1"]
    chosen = core.list_namespaced_config_map(ns, field_selector="metadata.name=m5")
    assert [item.metadata.name for item in chosen.items] == ["m5"]

    stale = core.read_namespaced_config_map("m0", ns)
    fresh = core.read_namespaced_config_map("m0", ns)
    fresh.data["n"] = "new"
    assert core.replace_namespaced_config_map("m0", ns, fresh).data == {"n": "new"}
    error, status = refused(core.replace_namespaced_config_map, "m0", ns, stale)
    assert error.status == 409 and status["reason"] == "Conflict", status
    dry = core.create_namespaced_config_map(ns, config_map("dry"), dry_run="All")
    assert dry.metadata.uid
    assert refused(core.read_namespaced_config_map, "dry", ns)[0].status == 404
    core.create_namespaced_secret(ns, client.V1Secret(metadata={"name": "s"}, string_data={"k": "v"}))
    assert core.read_namespaced_secret("s", ns).data == {"k": "dg=="}


def watches_begin_go_on_and_end(api, ns):
    core = client.CoreV1Api(api)
    first = core.create_namespaced_config_map(ns, config_map("a"))
    since = core.list_namespaced_config_map(ns).metadata.resource_version
    core.patch_namespaced_config_map("a", ns, {"data": {"x": "1"}})
    core.create_namespaced_config_map(ns, config_map("b"))
    core.delete_namespaced_config_map("a", ns)
    seen = []
    watcher = watch.Watch()
    for event in watcher.stream(
        core.list_namespaced_config_map, ns, label_selector="app", resource_version=since, timeout_seconds=20
    ):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 3:
            watcher.stop()
    assert seen == [("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "a")], seen
    assert int(watcher.resource_version) > int(first.metadata.resource_version)

    # A watch that ends by itself says so; one with bookmarks has one to go on from.
    types = [e["type"] for e in watch.Watch().stream(core.list_namespaced_config_map, ns, timeout_seconds=1)]
    assert types.count("ADDED") >= 1 and "ERROR" not in types, types
    bookmarks = watch.Watch()
    for event in bookmarks.stream(
        core.list_namespaced_config_map,
        ns,
        allow_watch_bookmarks=True,
        send_initial_events=True,
        resource_version_match="NotOlderThan",
        timeout_seconds=20,
    ):
        if event["type"] == "BOOKMARK":
            raw = event["raw_object"]
            assert raw["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true", raw
            break
    try:
        for event in watch.Watch().stream(core.list_namespaced_config_map, ns, resource_version="not-a-number"):
            raise AssertionError(event)
    except ApiException as error:
        # So says kube-apiserver.
        assert error.status == 500 and "ParseUint" in json.loads(error.body)["message"], error


def patches_of_every_type_are_applied(api, ns):
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    core.create_namespaced_config_map(ns, config_map("p", a="1", b="2"))
    # A list is a JSON patch, a dict a strategic merge patch.
    done = core.patch_namespaced_config_map("p", ns, [{"op": "replace", "path": "/data/a", "value": "x"}])
    assert done.data == {"a": "x", "b": "2"}
    done = core.patch_namespaced_config_map("p", ns, {"data": {"b": None}}, field_manager="py")
    assert done.data == {"a": "x"}
    error, status = refused(core.patch_namespaced_config_map, "p", ns, [{"op": "test", "path": "/data/a", "value": "y"}])
    assert error.status == 422 and status["reason"] == "Invalid", status

    container = client.V1Container(name="web", image="nginx:1")
    template = client.V1PodTemplateSpec(
        metadata={"labels": {"app": "web"}}, spec=client.V1PodSpec(containers=[container])
    )
    spec = client.V1DeploymentSpec(replicas=0, selector={"matchLabels": {"app": "web"}}, template=template)
    apps.create_namespaced_deployment(ns, client.V1Deployment(metadata={"name": "web"}, spec=spec))
    side = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "envoy:1"}]}}}}
    done = apps.patch_namespaced_deployment("web", ns, side)
    assert [c.name for c in done.spec.template.spec.containers] == ["side", "web"], done.spec.template.spec
    deployments = dynamic.DynamicClient(api).resources.get(api_version="apps/v1", kind="Deployment")
    merged = deployments.patch(
        namespace=ns,
        name="web",
        body={"spec": {"template": {"spec": {"containers": [{"name": "only", "image": "a:1"}]}}}},
        content_type="application/merge-patch+json",
    )
    assert [c.name for c in merged.spec.template.spec.containers] == ["only"]
    apps.patch_namespaced_deployment_scale("web", ns, {"spec": {"replicas": 2}})
    assert apps.read_namespaced_deployment_scale("web", ns).spec.replicas == 2
    apps.patch_namespaced_deployment_status("web", ns, {"status": {"observedGeneration": 1}})


def an_apply_owns_conflicts_and_is_forced(api, ns):
    maps = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="ConfigMap")

    def body(value):
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "o"}, "data": {"k": value}}

    maps.server_side_apply(namespace=ns, name="o", body=body("1"), field_manager="one")
    again = maps.server_side_apply(namespace=ns, name="o", body=body("1"), field_manager="one")
    assert [entry.manager for entry in again.metadata.managedFields] == ["one"]
    try:
        maps.server_side_apply(namespace=ns, name="o", body=body("2"), field_manager="two")
        raise AssertionError("no conflict")
    except ConflictError as error:
        assert ".data.k" in json.loads(error.body)["details"]["causes"][0]["field"]
    forced = maps.server_side_apply(namespace=ns, name="o", body=body("2"), field_manager="two", force_conflicts=True)
    assert forced.data.k == "2" and [e.manager for e in forced.metadata.managedFields] == ["two"], forced


def custom_resources_have_a_status_a_scale_and_a_dynamic_client(api, ns):
    group = "python.example.com"
    extensions, custom = client.ApiextensionsV1Api(api), client.CustomObjectsApi(api)
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"snakes.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "snakes", "singular": "snake", "kind": "Snake", "shortNames": ["sn"]},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {
                        "status": {},
                        "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                    },
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "properties": {
                                        "length": {"type": "integer", "minimum": 1},
                                        "colour": {"type": "string", "default": "green"},
                                        "replicas": {"type": "integer"},
                                    },
                                },
                                "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
                            },
                        }
                    },
                }
            ],
        },
    }
    extensions.create_custom_resource_definition(definition)
    for event in watch.Watch().stream(
        extensions.list_custom_resource_definition, field_selector=f"metadata.name=snakes.{group}", timeout_seconds=30
    ):
        conditions = event["object"].status.conditions or []
        if any(c.type == "Established" and c.status == "True" for c in conditions):
            break

    def snake(name, **spec):
        return {"apiVersion": f"{group}/v1", "kind": "Snake", "metadata": {"name": name}, "spec": spec}

    where = (group, "v1", ns, "snakes")
    made = custom.create_namespaced_custom_object(*where, snake("kaa", length=3, replicas=1))
    assert made["spec"]["colour"] == "green" and made["metadata"]["generation"] == 1, made
    error, status = refused(custom.create_namespaced_custom_object, *where, snake("bad", length=0))
    assert error.status == 422 and status["details"]["causes"][0]["field"] == "spec.length", status
    done = custom.patch_namespaced_custom_object(*where, "kaa", {"spec": {"length": 4}})
    assert done["spec"]["length"] == 4 and done["metadata"]["generation"] == 2
    done = custom.patch_namespaced_custom_object_status(*where, "kaa", {"status": {"replicas": 1}})
    assert done["status"] == {"replicas": 1} and done["metadata"]["generation"] == 2
    assert custom.get_namespaced_custom_object_scale(*where, "kaa")["spec"]["replicas"] == 1
    custom.patch_namespaced_custom_object_scale(*where, "kaa", {"spec": {"replicas": 5}})
    assert custom.get_namespaced_custom_object(*where, "kaa")["spec"]["replicas"] == 5

    snakes = dynamic.DynamicClient(api).resources.get(api_version=f"{group}/v1", kind="Snake")
    assert snakes.namespaced and "sn" in snakes.short_names
    snakes.create(namespace=ns, body=snake("nag", length=2))
    assert {item.metadata.name for item in snakes.get(namespace=ns).items} == {"kaa", "nag"}
    snakes.patch(namespace=ns, name="nag", body={"spec": {"length": 7}}, content_type="application/merge-patch+json")
    replaced = snakes.get(namespace=ns, name="nag")
    replaced.spec.length = 8
    assert snakes.replace(namespace=ns, body=replaced.to_dict()).spec.length == 8
    assert snakes.status.get(namespace=ns, name="kaa").status.replicas == 1
    for event in snakes.watch(namespace=ns, timeout=20):
        if event["object"].metadata.name == "nag":
            break
    snakes.delete(namespace=ns, name="nag")
    try:
        snakes.get(namespace=ns, name="nag")
        raise AssertionError("still there")
    except NotFoundError:
        pass
    extensions.delete_custom_resource_definition(f"snakes.{group}")


def deletes_propagate_hold_and_check(api, ns):
    core = client.CoreV1Api(api)
    owner = core.create_namespaced_config_map(ns, config_map("owner"))
    reference = client.V1OwnerReference(
        api_version="v1", kind="ConfigMap", name="owner", uid=owner.metadata.uid, block_owner_deletion=True
    )
    child = config_map("child")
    child.metadata.owner_references = [reference]
    core.create_namespaced_config_map(ns, child)
    wrong = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="nobody"))
    assert refused(core.delete_namespaced_config_map, "owner", ns, body=wrong)[0].status == 409
    since = core.list_namespaced_config_map(ns).metadata.resource_version
    core.delete_namespaced_config_map("owner", ns, propagation_policy="Foreground")
    gone = []
    for event in watch.Watch().stream(
        core.list_namespaced_config_map, ns, resource_version=since, timeout_seconds=60
    ):
        if event["type"] == "DELETED":
            gone.append(event["object"].metadata.name)
        if len(gone) == 2:
            break
    assert gone == ["child", "owner"], gone

    held = config_map("held")
    held.metadata.finalizers = ["example.com/hold"]
    core.create_namespaced_config_map(ns, held)
    core.delete_namespaced_config_map("held", ns)
    assert core.read_namespaced_config_map("held", ns).metadata.deletion_timestamp
    core.patch_namespaced_config_map("held", ns, {"metadata": {"finalizers": None}})
    assert refused(core.read_namespaced_config_map, "held", ns)[0].status == 404
    for name in ["x", "y"]:
        core.create_namespaced_config_map(ns, config_map(name))
    core.delete_collection_namespaced_config_map(ns, label_selector="app in (x,y)")
    assert not core.list_namespaced_config_map(ns, label_selector="app in (x,y)").items


def errors_say_what_and_why(api, ns):
    core = client.CoreV1Api(api)
    _, status = refused(core.read_namespaced_pod, "nobody", ns)
    assert status["message"] == 'pods "nobody" not found' and status["details"]["kind"] == "pods", status
    core.create_namespaced_config_map(ns, config_map("twice"))
    error, status = refused(core.create_namespaced_config_map, ns, config_map("twice"))
    assert error.status == 409 and status["reason"] == "AlreadyExists", status
    error, status = refused(core.create_namespaced_config_map, ns, config_map("Not A Name"))
    assert error.status == 422 and status["details"]["causes"][0]["field"] == "metadata.name", status
    review = client.V1SelfSubjectAccessReview(
        spec={"resourceAttributes": {"verb": "get", "resource": "secrets", "namespace": ns}}
    )
    assert client.AuthorizationV1Api(api).create_self_subject_access_review(review).status.allowed
    stranger = client.ApiClient(client.Configuration.get_default_copy())
    stranger.configuration.cert_file = stranger.configuration.key_file = None
    stranger = client.ApiClient(stranger.configuration)
    error, status = refused(client.CoreV1Api(stranger).list_namespaced_secret, ns)
    assert error.status == 403 and "system:anonymous" in status["message"], status
    assert client.VersionApi(api).get_code().git_version.startswith("v1.36")
    assert any(group.name == "apps" for group in client.ApisApi(api).get_api_versions().groups)
    assert any(r.name == "pods/log" for r in core.get_api_resources().resources)


def pods_run_without_logs_and_are_evicted(api, ns):
    core = client.CoreV1Api(api)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one"},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    }
    utils.create_from_dict(api, pod, namespace=ns)
    for event in watch.Watch().stream(
        core.list_namespaced_pod, ns, field_selector="metadata.name=one", timeout_seconds=60
    ):
        if event["object"].status.phase == "Running":
            break
    assert core.list_pod_for_all_namespaces(field_selector="status.phase=Running,metadata.name=one").items
    _, status = refused(core.read_namespaced_pod_log, "one", ns)
    assert "simulated" in status["message"], status
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name="one", namespace=ns))
    core.create_namespaced_pod_eviction("one", ns, eviction)
    token = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
    assert core.create_namespaced_service_account_token("default", ns, token).status.token.count(".") == 2


def one_candidate_leads(api, ns):
    led = threading.Event()

    def lead():
        led.set()
        raise SystemExit

    lock = ConfigMapLock("lock", ns, "candidate-1")
    election = electionconfig.Config(
        lock, lease_duration=3, renew_deadline=2, retry_period=1, onstarted_leading=lead, onstopped_leading=None
    )
    threading.Thread(target=leaderelection.LeaderElection(election).run, daemon=True).start()
    assert led.wait(60)
    leases = client.CoordinationV1Api(api)
    now = datetime.datetime.now(datetime.timezone.utc)
    spec = client.V1LeaseSpec(holder_identity="me", lease_duration_seconds=15, renew_time=now, acquire_time=now)
    leases.create_namespaced_lease(ns, client.V1Lease(metadata={"name": "l"}, spec=spec))
    lease = leases.read_namespaced_lease("l", ns)
    assert lease.spec.renew_time == now, (lease.spec.renew_time, now)


FLOWS = [
    objects_are_created_read_listed_in_pages_and_replaced,
    watches_begin_go_on_and_end,
    patches_of_every_type_are_applied,
    an_apply_owns_conflicts_and_is_forced,
    custom_resources_have_a_status_a_scale_and_a_dynamic_client,
    deletes_propagate_hold_and_check,
    errors_say_what_and_why,
    pods_run_without_logs_and_are_evicted,
    one_candidate_leads,
]


def main():
    config.load_kube_config()
    api = client.ApiClient()
    for number, flow in enumerate(FLOWS):
        ns = f"python-{number}"
        client.CoreV1Api(api).create_namespace({"metadata": {"name": ns}})
        flow(api, ns)
        print("held:", flow.__name__.replace("_", " "), flush=True)


if __name__ == "__main__":
    sys.exit(main())

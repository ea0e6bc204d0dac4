// What users do with @kubernetes/client-node: each function is a flow of its own, in a namespace of its own.
//
// The test that runs this sets KUBECONFIG, and CLIENT_NODE to the folder of the package. A flow that fails ends the
// program with the error.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const home = process.env.CLIENT_NODE;
const { main } = JSON.parse(readFileSync(join(home, 'package.json')));
const k8s = await import(pathToFileURL(join(home, main)));

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const custom = config.makeApiClient(k8s.CustomObjectsApi);
const any = k8s.KubernetesObjectApi.makeApiClient(config);

const as = (type) => k8s.setHeaderOptions('Content-Type', type);
const map = (name, data) => ({ metadata: { name, labels: { app: name } }, data });

/** The Status that a call is refused with. */
async function refused(call) {
    try {
        await call;
    } catch (error) {
        const status = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
        assert.equal(status.kind, 'Status');
        assert.equal(status.code, error.code);
        return status;
    }
    assert.fail('not refused');
}

/** Resolves once `holds` likes an event of a watch, with all events so far. */
function watched(path, query, holds) {
    return new Promise((resolve, reject) => {
        const seen = [];
        let request;
        const event = (type, object) => {
            seen.push([type, object]);
            if (holds(type, object, seen)) {
                request.then((controller) => controller.abort());
                resolve(seen);
            }
        };
        const done = (error) => reject(error ?? new Error(`the watch ended with ${JSON.stringify(seen)}`));
        request = new k8s.Watch(config).watch(path, query, event, done);
        request.catch(reject);
    });
}

async function objectsAreCreatedReadListedInPagesAndReplaced(namespace) {
    for (const index of [0, 1, 2, 3, 4]) {
        const made = await core.createNamespacedConfigMap({ namespace, body: map(`m${index}`, { n: `${index}` }) });
        assert.ok(made.metadata.creationTimestamp instanceof Date && made.metadata.uid);
    }
    const names = [];
    let _continue;
    let pages = 0;
    do {
        const page = await core.listNamespacedConfigMap({ namespace, limit: 2, _continue });
        names.push(...page.items.map((item) => item.metadata.name));
        _continue = page.metadata._continue;
        pages += 1;
    } while (_continue);
    assert.ok(pages >= 3);
    assert.deepEqual(names.filter((name) => name.startsWith('m')), ['m0', 'm1', 'm2', 'm3', 'm4']);
    const chosen = await core.listNamespacedConfigMap({ namespace, labelSelector: 'app in (m1,m2),app notin (m2)' });
    assert.deepEqual(chosen.items.map((item) => item.metadata.name), ['m1']);

    const stale = await core.readNamespacedConfigMap({ namespace, name: 'm0' });
    const body = { ...stale, data: { n: 'new' } };
    assert.equal((await core.replaceNamespacedConfigMap({ namespace, name: 'm0', body })).data.n, 'new');
    const status = await refused(core.replaceNamespacedConfigMap({ namespace, name: 'm0', body: stale }));
    assert.equal(status.reason, 'Conflict');
    assert.equal((await refused(core.readNamespacedPod({ namespace, name: 'nobody' }))).message, 'pods "nobody" not found');
    const invalid = await refused(core.createNamespacedConfigMap({ namespace, body: map('Not A Name') }));
    assert.equal(invalid.details.causes[0].field, 'metadata.name');
}

async function patchesOfEveryTypeAreApplied(namespace) {
    const name = 'p';
    await core.createNamespacedConfigMap({ namespace, body: map(name, { a: '1', b: '2' }) });
    const patch = (type, body, more = {}) => core.patchNamespacedConfigMap({ namespace, name, body, ...more }, as(type));
    let done = await patch(k8s.PatchStrategy.JsonPatch, [{ op: 'replace', path: '/data/a', value: 'x' }]);
    assert.deepEqual(done.data, { a: 'x', b: '2' });
    done = await patch(k8s.PatchStrategy.MergePatch, { data: { b: null } });
    assert.deepEqual(done.data, { a: 'x' });
    done = await patch(k8s.PatchStrategy.StrategicMergePatch, { metadata: { finalizers: ['example.com/f'] } });
    done = await patch(k8s.PatchStrategy.StrategicMergePatch, {
        metadata: { '$deleteFromPrimitiveList/finalizers': ['example.com/f'] },
    });
    assert.equal(done.metadata.finalizers, undefined);

    const apply = (fieldManager, value, force) => {
        const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'o' }, data: { k: value } };
        const parameters = { namespace, name: 'o', body, fieldManager, force };
        return core.patchNamespacedConfigMap(parameters, as(k8s.PatchStrategy.ServerSideApply));
    };
    await apply('one', '1');
    const conflict = await refused(apply('two', '2'));
    assert.equal(conflict.reason, 'Conflict');
    assert.match(conflict.message, /conflict with "one": \.data\.k/);
    done = await apply('two', '2', true);
    assert.deepEqual(done.metadata.managedFields.map((entry) => entry.manager), ['two']);
}

async function watchesAndInformersFollowWhatHappens(namespace) {
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const list = () => core.listNamespacedConfigMap({ namespace });
    const resourceVersion = (await list()).metadata.resourceVersion;
    await core.createNamespacedConfigMap({ namespace, body: map('a') });
    await core.deleteNamespacedConfigMap({ namespace, name: 'a' });
    const query = { resourceVersion, labelSelector: 'app', allowWatchBookmarks: true };
    const seen = await watched(path, query, (type) => type === 'DELETED');
    assert.deepEqual(seen.map(([type, object]) => `${type} ${object.metadata.name}`), ['ADDED a', 'DELETED a']);

    const informer = k8s.makeInformer(config, path, list, 'app=b');
    const heard = [];
    const all = new Promise((resolve, reject) => {
        for (const verb of ['add', 'update', 'delete']) {
            informer.on(verb, (object) => {
                heard.push(`${verb} ${object.metadata.name}`);
                if (verb === 'delete') resolve();
            });
        }
        informer.on('error', (error) => error && reject(error));
    });
    await informer.start();
    await core.createNamespacedConfigMap({ namespace, body: map('b', { x: '1' }) });
    const until = (holds) => watched(path, {}, holds);
    await until((_, object) => object.metadata.name === 'b');
    await core.patchNamespacedConfigMap(
        { namespace, name: 'b', body: { data: { x: '2' } } },
        as(k8s.PatchStrategy.MergePatch),
    );
    await core.deleteNamespacedConfigMap({ namespace, name: 'b' });
    await all;
    await informer.stop();
    assert.deepEqual(heard.filter((line) => line.endsWith(' b')), ['add b', 'update b', 'delete b']);
    assert.equal(informer.get('b', namespace), undefined);
}

async function customResourcesHaveAStatusAndAScale(namespace) {
    const group = 'node.example.com';
    const integer = { type: 'integer' };
    const replicas = { type: 'object', properties: { replicas: integer } };
    await any.create({
        apiVersion: 'apiextensions.k8s.io/v1',
        kind: 'CustomResourceDefinition',
        metadata: { name: `crabs.${group}` },
        spec: {
            group,
            scope: 'Namespaced',
            names: { plural: 'crabs', singular: 'crab', kind: 'Crab' },
            versions: [{
                name: 'v1',
                served: true,
                storage: true,
                subresources: {
                    status: {},
                    scale: { specReplicasPath: '.spec.replicas', statusReplicasPath: '.status.replicas' },
                },
                schema: { openAPIV3Schema: { type: 'object', properties: { spec: replicas, status: replicas } } },
            }],
        },
    });
    await watched('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {}, (_, object) =>
        object.metadata.name === `crabs.${group}`
        && object.status?.conditions?.some((c) => c.type === 'Established' && c.status === 'True'));
    const where = { group, version: 'v1', namespace, plural: 'crabs' };
    const body = { apiVersion: `${group}/v1`, kind: 'Crab', metadata: { name: 'c', namespace }, spec: { replicas: 1 } };
    const made = await custom.createNamespacedCustomObject({ ...where, body });
    assert.equal(made.metadata.generation, 1);
    const named = { ...where, name: 'c' };
    const merge = as(k8s.PatchStrategy.MergePatch);
    await custom.patchNamespacedCustomObjectStatus({ ...named, body: { status: { replicas: 1 } } }, merge);
    await custom.patchNamespacedCustomObjectScale({ ...named, body: { spec: { replicas: 3 } } }, merge);
    const now = await custom.getNamespacedCustomObject(named);
    assert.deepEqual([now.spec, now.status], [{ replicas: 3 }, { replicas: 1 }]);
    const wrong = await refused(
        custom.createNamespacedCustomObject({ ...where, body: { ...body, spec: { replicas: 'many' } } }),
    );
    assert.equal(wrong.code, 422);

    // The client that knows no types finds them by discovery.
    assert.equal((await any.read(body)).spec.replicas, 3);
    assert.equal((await any.list(body.apiVersion, body.kind, namespace)).items.length, 1);
    const applied = { ...body, spec: { replicas: 4 } };
    await any.patch(applied, undefined, undefined, 'node', true, k8s.PatchStrategy.ServerSideApply);
    assert.equal((await any.read(body)).spec.replicas, 4);
    await any.delete(body);
    assert.equal((await refused(any.read(body))).reason, 'NotFound');
    await any.delete({
        apiVersion: 'apiextensions.k8s.io/v1',
        kind: 'CustomResourceDefinition',
        metadata: { name: `crabs.${group}` },
    });
}

async function deploymentsRunAndGoAwayWithTheirPods(namespace) {
    const labels = { app: 'web' };
    const template = { metadata: { labels }, spec: { containers: [{ name: 'web', image: 'nginx' }] } };
    const body = { metadata: { name: 'web' }, spec: { replicas: 2, selector: { matchLabels: labels }, template } };
    await apps.createNamespacedDeployment({ namespace, body });
    const path = `/apis/apps/v1/namespaces/${namespace}/deployments`;
    await watched(path, { fieldSelector: 'metadata.name=web' }, (_, object) => object.status?.availableReplicas === 2);
    const { items } = await core.listNamespacedPod({ namespace, labelSelector: 'app=web' });
    assert.equal(items.length, 2);
    const pod = items[0].metadata.name;
    const log = await refused(core.readNamespacedPodLog({ namespace, name: pod }));
    assert.match(log.message, /simulated/);
    const { metadata } = await apps.listNamespacedDeployment({ namespace });
    await apps.deleteNamespacedDeployment({ namespace, name: 'web', propagationPolicy: 'Foreground' });
    const since = { resourceVersion: metadata.resourceVersion };
    await watched(path, since, (type) => type === 'DELETED');
    assert.equal((await core.listNamespacedPod({ namespace, labelSelector: 'app=web' })).items.length, 0);
    await core.deleteNamespace({ name: namespace });
}

const flows = [
    objectsAreCreatedReadListedInPagesAndReplaced,
    patchesOfEveryTypeAreApplied,
    watchesAndInformersFollowWhatHappens,
    customResourcesHaveAStatusAndAScale,
    deploymentsRunAndGoAwayWithTheirPods,
];
for (const [number, flow] of flows.entries()) {
    const name = `node-${number}`;
    await core.createNamespace({ body: { metadata: { name } } });
    await flow(name);
    console.log(`held: ${flow.name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)}`);
}
process.exit(0);

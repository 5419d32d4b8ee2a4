// Golden tests: testdata/<case>.in.yaml (a mesh, a proxy, what to show) → <case>.out.yaml. MELTEMI_GOLDEN=write rewrites them.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { parse, stringify } from 'yaml';
import { parseDestinationRule } from '../../api/istio/destination-rule.ts';
import { parseGateway } from '../../api/istio/gateway.ts';
import { parsePeerAuthentication } from '../../api/istio/peer-authentication.ts';
import { parseVirtualService } from '../../api/istio/virtual-service.ts';
import { readMeshConfig } from '../../api/mesh/mesh-config.ts';
import type { KubeObject } from '../../base/kube/types.ts';
import type { Parsed } from '../../base/runtime/diagnostics.ts';
import { TYPE_URL } from '../../base/xds/type-urls.ts';
import type { Config, ConfigInput } from '../config/store.ts';
import { type ProxyNode, parseProxy } from '../model/proxy.ts';
import { buildSnapshot } from '../model/snapshot.ts';
import { resourcesToJson } from '../serve/resource-json.ts';
import { generate } from './generate.ts';

type SpecObject = KubeObject & { readonly spec?: unknown };

interface Case {
  readonly mesh?: unknown;
  readonly proxy: { readonly node: string; readonly labels: Record<string, string>; readonly serviceAccount: string };
  readonly show: Readonly<Partial<Record<keyof typeof TYPE_URL, readonly string[]>>>;
  readonly objects: readonly SpecObject[];
}

const DIR = path.join(import.meta.dirname, 'testdata');

function configs<T>(objects: readonly SpecObject[], kind: string, read: (spec: unknown) => Parsed<T>): Config<T>[] {
  return objects
    .filter((o) => o.kind === kind)
    .map((o) => {
      const parsed = read(o.spec ?? {});
      assert.equal(parsed.kind, 'ok', JSON.stringify(parsed));
      const { name, namespace = '', creationTimestamp = '' } = o.metadata;
      const createdAt = Date.parse(creationTimestamp) || 0;
      return { name, namespace, createdAt, resourceVersion: '1', spec: (parsed as { value: T }).value };
    });
}

function inputOf(given: Case): ConfigInput {
  const of = <T extends KubeObject>(kind: string): T[] =>
    given.objects.filter((o) => o.kind === kind) as unknown as T[];
  const mesh = readMeshConfig(given.mesh ?? {}, 'istio-system');
  assert.deepEqual(mesh.diagnostics, []);
  return {
    mesh: mesh.config,
    namespaces: of('Namespace'),
    nodes: of('Node'),
    pods: of('Pod'),
    services: of('Service'),
    slices: of('EndpointSlice'),
    peerAuthentications: configs(given.objects, 'PeerAuthentication', (s) => parsePeerAuthentication(s)),
    destinationRules: configs(given.objects, 'DestinationRule', (s) => parseDestinationRule(s)),
    virtualServices: configs(given.objects, 'VirtualService', (s) => parseVirtualService(s)),
    gateways: configs(given.objects, 'Gateway', (s) => parseGateway(s)),
  };
}

function proxyOf(given: Case): ProxyNode {
  const metadata = { LABELS: given.proxy.labels, SERVICE_ACCOUNT: given.proxy.serviceAccount };
  const parsed = parseProxy(given.proxy.node, metadata);
  if (parsed.kind === 'invalid') throw new Error(parsed.message);
  return parsed.proxy;
}

for (const file of readdirSync(DIR).filter((f) => f.endsWith('.in.yaml'))) {
  test(`golden: ${file.replace('.in.yaml', '')}`, () => {
    const given = parse(readFileSync(path.join(DIR, file), 'utf8')) as Case;
    const snapshot = buildSnapshot(inputOf(given), { version: 'v/1', domain: 'cluster.local' });
    const proxy = proxyOf(given);
    const out: Record<string, unknown> = {};
    for (const [type, names] of Object.entries(given.show)) {
      const resources = generate(snapshot, proxy, TYPE_URL[type as keyof typeof TYPE_URL], names);
      out[`${type} names`] = resources.map((r) => r.name);
      out[type] = resourcesToJson(resources.filter((r) => names.includes(r.name)));
    }
    const target = path.join(DIR, file.replace('.in.yaml', '.out.yaml'));
    if (process.env.MELTEMI_GOLDEN === 'write')
      writeFileSync(target, stringify(out, { lineWidth: 0, aliasDuplicateObjects: false }));
    assert.deepEqual(JSON.parse(JSON.stringify(out)), parse(readFileSync(target, 'utf8')));
  });
}

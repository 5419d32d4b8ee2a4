// The golden cases as data: what stands in testdata/<case>.in.yaml, as the translator takes it. Called by the tests of this folder
// and by the test that gives everything to a stock Envoy.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { parseDestinationRule } from '../../api/istio/destination-rule.ts';
import { parseGateway } from '../../api/istio/gateway.ts';
import { parsePeerAuthentication } from '../../api/istio/peer-authentication.ts';
import { parseServiceEntry, parseWorkloadEntry } from '../../api/istio/service-entry.ts';
import { parseVirtualService } from '../../api/istio/virtual-service.ts';
import { readMeshConfig } from '../../api/mesh/mesh-config.ts';
import type { KubeObject } from '../../base/kube/types.ts';
import type { Parsed } from '../../base/runtime/diagnostics.ts';
import type { TYPE_URL } from '../../base/xds/type-urls.ts';
import type { Config, ConfigInput } from '../config/store.ts';
import { type ProxyNode, parseProxy } from '../model/proxy.ts';
import { buildSnapshot, type Snapshot } from '../model/snapshot.ts';

type SpecObject = KubeObject & { readonly spec?: unknown };

export interface GoldenCase {
  readonly mesh?: unknown;
  readonly proxy: { readonly node: string; readonly labels: Record<string, string>; readonly serviceAccount: string };
  readonly show: Readonly<Partial<Record<keyof typeof TYPE_URL, readonly string[]>>>;
  readonly objects: readonly SpecObject[];
}

export const GOLDEN_DIR = path.join(import.meta.dirname, 'testdata');

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

function inputOf(given: GoldenCase): ConfigInput {
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
    secrets: of('Secret'),
    peerAuthentications: configs(given.objects, 'PeerAuthentication', (s) => parsePeerAuthentication(s)),
    destinationRules: configs(given.objects, 'DestinationRule', (s) => parseDestinationRule(s)),
    virtualServices: configs(given.objects, 'VirtualService', (s) => parseVirtualService(s)),
    serviceEntries: configs(given.objects, 'ServiceEntry', (s) => parseServiceEntry(s)),
    workloadEntries: configs(given.objects, 'WorkloadEntry', (s) => parseWorkloadEntry(s)),
    gateways: configs(given.objects, 'Gateway', (s) => parseGateway(s)),
  };
}

function proxyOf(given: GoldenCase, engine?: string): ProxyNode {
  const metadata = {
    LABELS: given.proxy.labels,
    SERVICE_ACCOUNT: given.proxy.serviceAccount,
    ...(engine === undefined ? {} : { ENGINE: engine }),
  };
  const parsed = parseProxy(given.proxy.node, metadata);
  if (parsed.kind === 'invalid') throw new Error(parsed.message);
  return parsed.proxy;
}

/** Names of the cases. */
export function goldenCases(): readonly string[] {
  return readdirSync(GOLDEN_DIR)
    .filter((file) => file.endsWith('.in.yaml'))
    .map((file) => file.replace('.in.yaml', ''));
}

export function goldenCase(
  name: string,
  engine?: string,
): { readonly given: GoldenCase; readonly snapshot: Snapshot; readonly proxy: ProxyNode } {
  const given = parse(readFileSync(path.join(GOLDEN_DIR, `${name}.in.yaml`), 'utf8')) as GoldenCase;
  const snapshot = buildSnapshot(inputOf(given), { version: 'v/1', domain: 'cluster.local' });
  return { given, snapshot, proxy: proxyOf(given, engine) };
}

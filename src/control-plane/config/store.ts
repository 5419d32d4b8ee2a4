// Everything the mesh is computed from, kept current by informers. Istio objects are decoded here: a bad one becomes
// diagnostics and the last good one of that name stays. Made by wiring.ts; read by the snapshot builder.
import { parse as parseYaml } from 'yaml';
import { type DestinationRuleSpec, parseDestinationRule } from '../../api/istio/destination-rule.ts';
import { type GatewaySpec, parseGateway } from '../../api/istio/gateway.ts';
import { ISTIO_KINDS, notSupported } from '../../api/istio/kinds.ts';
import { type PeerAuthenticationSpec, parsePeerAuthentication } from '../../api/istio/peer-authentication.ts';
import {
  parseServiceEntry,
  parseWorkloadEntry,
  type ServiceEntrySpec,
  type WorkloadEntrySpec,
} from '../../api/istio/service-entry.ts';
import { parseVirtualService, type VirtualServiceSpec } from '../../api/istio/virtual-service.ts';
import { DEFAULT_MESH_CONFIG, type MeshConfig, readMeshConfig } from '../../api/mesh/mesh-config.ts';
import {
  type Informer,
  type KubeClient,
  KubeError,
  type KubeObject,
  type ListOptions,
  type ResourceType,
} from '../../base/kube/types.ts';
import type { Diagnostic, Parsed } from '../../base/runtime/diagnostics.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import {
  CONFIG_MAPS,
  ENDPOINT_SLICES,
  type KubeConfigMap,
  type KubeEndpointSlice,
  type KubePod,
  type KubeSecret,
  type KubeService,
  NAMESPACES,
  NODES,
  PODS,
  SECRETS,
  SERVICES,
} from './kinds.ts';

export interface Config<T> {
  readonly name: string;
  readonly namespace: string;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  readonly resourceVersion: string;
  readonly spec: T;
}

export interface ConfigInput {
  readonly mesh: MeshConfig;
  readonly namespaces: readonly KubeObject[];
  readonly nodes: readonly KubeObject[];
  readonly pods: readonly KubePod[];
  readonly services: readonly KubeService[];
  readonly slices: readonly KubeEndpointSlice[];
  /** Only those that may hold certificates of a gateway. */
  readonly secrets: readonly KubeSecret[];
  readonly peerAuthentications: readonly Config<PeerAuthenticationSpec>[];
  readonly destinationRules: readonly Config<DestinationRuleSpec>[];
  readonly virtualServices: readonly Config<VirtualServiceSpec>[];
  readonly gateways: readonly Config<GatewaySpec>[];
  readonly serviceEntries: readonly Config<ServiceEntrySpec>[];
  readonly workloadEntries: readonly Config<WorkloadEntrySpec>[];
}

/** `endpoints`: an EndpointSlice, or a pod that came or went; everything else is `config`. */
export interface ConfigChange {
  readonly scope: 'config' | 'endpoints';
  readonly kind: string;
  readonly event: 'added' | 'updated' | 'deleted';
  readonly namespace: string;
  readonly name: string;
}

export interface ConfigProblem {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly diagnostics: readonly Diagnostic[];
}

export interface ConfigStore {
  readonly synced: Promise<void>;
  read(): ConfigInput;
  onChange(handler: (change: ConfigChange) => void): () => void;
  problems(): readonly ConfigProblem[];
  close(): void;
}

export type InformerFactory = <T extends KubeObject>(type: ResourceType, options?: ListOptions) => Informer<T>;

export interface ConfigStoreOptions {
  readonly client: KubeClient;
  readonly informer: InformerFactory;
  readonly rootNamespace: string;
  /** ConfigMap with key `mesh` in the root namespace. */
  readonly meshConfigMap: string;
  readonly log: Logger;
}

interface SpecObject extends KubeObject {
  readonly spec?: unknown;
}

interface Source<T> {
  readonly configs: Map<string, Config<T>>;
}

export function createConfigStore(options: ConfigStoreOptions): ConfigStore {
  const { informer, log, rootNamespace } = options;
  const handlers = new Set<(change: ConfigChange) => void>();
  const problems = new Map<string, ConfigProblem>();
  const closers: (() => void)[] = [];
  const waits: Promise<unknown>[] = [];
  const emit = (change: ConfigChange): void => {
    for (const handler of handlers) handler(change);
  };

  const watch = <T extends KubeObject>(type: ResourceType, scope: Scope<T>, list?: ListOptions): Informer<T> => {
    const made = informer<T>(type, list);
    closers.push(() => made.close());
    waits.push(made.synced);
    made.onChange((change) => {
      const previous = change.kind === 'updated' ? change.previous : undefined;
      const which = scope(change.object, previous);
      if (which) emit({ scope: which, kind: type.kind, event: change.kind, ...idOf(change.object) });
    });
    return made;
  };

  const istio = <T>(kindName: string, parse: (spec: unknown) => Parsed<T>): Source<T> => {
    const type = istioType(kindName);
    const made = informer<SpecObject>(type);
    closers.push(() => made.close());
    waits.push(Promise.race([made.synced, absentKind(options.client, type)]));
    const configs = new Map<string, Config<T>>();
    made.onChange((change) => {
      const id = idOf(change.object);
      const key = `${id.namespace}/${id.name}`;
      const problemKey = `${kindName}/${key}`;
      if (change.kind === 'deleted') {
        configs.delete(key);
        problems.delete(problemKey);
      } else {
        const parsed = parse(change.object.spec ?? {});
        if (parsed.kind === 'invalid') {
          problems.set(problemKey, { kind: kindName, ...id, diagnostics: parsed.diagnostics });
          log.warn(`invalid ${kindName}; ${configs.has(key) ? 'the last good one stays in force' : 'it is ignored'}`, {
            ...id,
            problem: parsed.diagnostics.map((d) => d.message).join('; '),
          });
          return;
        }
        problems.delete(problemKey);
        configs.set(key, toConfig(change.object, parsed.value));
      }
      emit({ scope: 'config', kind: kindName, event: change.kind, ...id });
    });
    return { configs };
  };

  const always = (): 'config' => 'config';
  const namespaces = watch<KubeObject>(NAMESPACES, always);
  const nodes = watch<KubeObject>(NODES, (now, was) =>
    was && same(now.metadata.labels, was.metadata.labels) ? undefined : 'config',
  );
  const pods = watch<KubePod>(PODS, podScope);
  const services = watch<KubeService>(SERVICES, always);
  const slices = watch<KubeEndpointSlice>(ENDPOINT_SLICES, () => 'endpoints');
  const secrets = watch<KubeSecret>(SECRETS, (now) => (isCredential(now) ? 'config' : undefined));
  const peerAuthentications = istio('PeerAuthentication', (spec) => parsePeerAuthentication(spec));
  const destinationRules = istio('DestinationRule', (spec) => parseDestinationRule(spec));
  const virtualServices = istio('VirtualService', (spec) => parseVirtualService(spec));
  const gateways = istio('Gateway', (spec) => parseGateway(spec));
  const serviceEntries = istio('ServiceEntry', (spec) => parseServiceEntry(spec));
  const workloadEntries = istio('WorkloadEntry', (spec) => parseWorkloadEntry(spec));

  let mesh: MeshConfig = { ...DEFAULT_MESH_CONFIG, rootNamespace };
  const readMesh = (map: KubeConfigMap | undefined): void => {
    const problemKey = `MeshConfig/${rootNamespace}/${options.meshConfigMap}`;
    const id = { namespace: rootNamespace, name: options.meshConfigMap };
    try {
      const read = readMeshConfig(parseYaml(map?.data?.mesh ?? '') ?? {}, rootNamespace);
      mesh = read.config;
      if (read.diagnostics.length > 0) {
        problems.set(problemKey, { kind: 'MeshConfig', ...id, diagnostics: read.diagnostics });
        log.warn('mesh config has fields that are not obeyed', {
          problem: read.diagnostics.map((d) => d.message).join('; '),
        });
      } else problems.delete(problemKey);
    } catch (error) {
      const message = `the mesh config is not YAML: ${errorText(error)}`;
      problems.set(problemKey, { kind: 'MeshConfig', ...id, diagnostics: [{ path: 'mesh', code: 'yaml', message }] });
      log.error(`${message}; the last good one stays in force`, id);
    }
  };
  // Read before the change is announced, so that whoever is told reads the new one.
  const meshMaps = informer<KubeConfigMap>(CONFIG_MAPS, {
    namespace: rootNamespace,
    fieldSelector: `metadata.name=${options.meshConfigMap}`,
  });
  closers.push(() => meshMaps.close());
  waits.push(meshMaps.synced);
  meshMaps.onChange((change) => {
    if (change.object.metadata.name !== options.meshConfigMap) return;
    readMesh(change.kind === 'deleted' ? undefined : change.object);
    emit({ scope: 'config', kind: 'MeshConfig', event: change.kind, ...idOf(change.object) });
  });

  const synced = Promise.all(waits).then(() => watchRefused(informer, closers, problems, log));
  return {
    synced,
    read: () => ({
      mesh,
      namespaces: namespaces.list(),
      nodes: nodes.list(),
      pods: pods.list(),
      services: services.list(),
      slices: slices.list(),
      secrets: secrets.list().filter(isCredential),
      peerAuthentications: [...peerAuthentications.configs.values()],
      destinationRules: [...destinationRules.configs.values()],
      virtualServices: [...virtualServices.configs.values()],
      gateways: [...gateways.configs.values()],
      serviceEntries: [...serviceEntries.configs.values()],
      workloadEntries: [...workloadEntries.configs.values()],
    }),
    onChange(handler) {
      handlers.add(handler);
      return () => handlers.delete(handler);
    },
    problems: () => [...problems.values()],
    close() {
      for (const close of closers) close();
      handlers.clear();
    },
  };
}

/** A certificate with its key, or roots; never a token or a release of Helm. */
function isCredential(secret: KubeSecret): boolean {
  const data = secret.data ?? {};
  const has = (key: string): boolean => data[key] !== undefined;
  return (
    secret.type !== 'kubernetes.io/service-account-token' &&
    secret.type !== 'istio.io/ca-root' &&
    ((has('tls.crt') && has('tls.key')) || (has('cert') && has('key')) || has('cacert') || has('ca.crt'))
  );
}

type Scope<T> = (now: T, previous: T | undefined) => 'config' | 'endpoints' | undefined;

/** Status heartbeats of a pod change nothing; its labels change policies and routes. */
function podScope(now: KubePod, was: KubePod | undefined): 'config' | 'endpoints' | undefined {
  if (!was) return 'endpoints';
  if (!same(now.metadata.labels, was.metadata.labels)) return 'config';
  if (now.status?.podIP !== was.status?.podIP || now.status?.phase !== was.status?.phase) return 'endpoints';
  return undefined;
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a ?? {}) === JSON.stringify(b ?? {});
}

/** Objects of kinds this version cannot obey are named in the log, so that nobody believes they are in force. */
function watchRefused(
  informer: InformerFactory,
  closers: (() => void)[],
  problems: Map<string, ConfigProblem>,
  log: Logger,
): void {
  for (const kind of ISTIO_KINDS.filter((k) => !k.supported)) {
    const made = informer<KubeObject>(istioType(kind.kind));
    closers.push(() => made.close());
    made.onChange((change) => {
      const id = idOf(change.object);
      const key = `${kind.kind}/${id.namespace}/${id.name}`;
      if (change.kind === 'deleted') {
        problems.delete(key);
        return;
      }
      const message = notSupported(kind.kind);
      if (!problems.has(key)) log.error(`${message}; this object has no effect`, id);
      problems.set(key, { kind: kind.kind, ...id, diagnostics: [{ path: '', code: 'not-supported', message }] });
    });
  }
}

function istioType(kindName: string): ResourceType {
  const kind = ISTIO_KINDS.find((k) => k.kind === kindName);
  if (!kind) throw new Error(`unknown Istio kind ${kindName}`);
  return { group: kind.group, version: kind.version, resource: kind.resource, kind: kind.kind, namespaced: true };
}

/** Resolves when the cluster does not know the kind (404); otherwise never: then its informer decides. */
function absentKind(client: KubeClient, type: ResourceType): Promise<void> {
  return new Promise((resolve) => {
    client.list(type).catch((error: unknown) => {
      if (error instanceof KubeError && error.code === 404) resolve();
    });
  });
}

function idOf(object: KubeObject): { readonly namespace: string; readonly name: string } {
  return { namespace: object.metadata.namespace ?? '', name: object.metadata.name };
}

function toConfig<T>(object: KubeObject, spec: T): Config<T> {
  return {
    ...idOf(object),
    createdAt: Date.parse(object.metadata.creationTimestamp ?? '') || 0,
    resourceVersion: object.metadata.resourceVersion ?? '',
    spec,
  };
}

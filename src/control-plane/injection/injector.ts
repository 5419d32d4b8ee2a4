// The sidecar injector: an AdmissionRequest in, a JSON patch out; and the same for YAML files. Called by the webhook
// server and by kube-inject.
import { parseAllDocuments, parse as parseYaml, stringify } from 'yaml';
import type { Container } from '../../api/kubernetes/container.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import { errorText } from '../../base/runtime/log.ts';
import { type Annotations, checkAnnotations } from './annotations.ts';
import { type InjectionConfig, mergeTrees, type Tree, tree } from './config.ts';
import { decide } from './decision.ts';
import { diff } from './patch.ts';
import { rewriteProbes } from './probes.ts';
import {
  holdApplication,
  initContainer,
  PROXY_CONTAINER,
  proxyContainer,
  statusPort,
  type TemplateInput,
  templateVolumes,
} from './template.ts';
import type { AdmissionRequest, AdmissionResponse, Injector } from './types.ts';
import { canonicalName, canonicalRevision, workloadOf } from './workload.ts';

export type InjectionOutcome = 'success' | 'skip' | 'failure';

export interface InjectorOptions {
  /** Asked at every request: the ConfigMaps may change. */
  readonly config: () => InjectionConfig;
  /** For sidecar_injection_*_total. */
  readonly count?: (outcome: InjectionOutcome) => void;
}

/** The pod cannot be injected; the message goes to the one who made it. */
export class InjectionError extends Error {}

export function createInjector(options: InjectorOptions): Injector {
  return {
    async handle(request: AdmissionRequest, path: string): Promise<AdmissionResponse> {
      const pod = request.object as Pod;
      const namespace = request.namespace || pod?.metadata?.namespace || 'default';
      // The webhook comes before validation: a pod without containers is the API server's to refuse.
      if (!Array.isArray(pod?.spec?.containers)) return { uid: request.uid, allowed: true };
      const config = options.config();
      const decision = decide(pod, namespace, config);
      if (!decision.inject) {
        options.count?.('skip');
        return { uid: request.uid, allowed: true };
      }
      try {
        const patch = diff(pod, injectPod(pod, namespace, config, envFromPath(path)));
        options.count?.('success');
        return { uid: request.uid, allowed: true, patch };
      } catch (error) {
        options.count?.('failure');
        if (!(error instanceof InjectionError)) throw error;
        return { uid: request.uid, allowed: false, status: { code: 400, message: error.message } };
      }
    },
    injectYaml: (yaml, namespace) => injectYaml(yaml, namespace, options.config()),
  };
}

/** `/inject/:ENV:cluster=a:ENV:net=b` and `/inject/cluster/a/net/b`. */
function envFromPath(path: string): Readonly<Record<string, string>> {
  const out: Record<string, string> = {};
  for (const [, name, value] of path.matchAll(/:ENV:([A-Za-z_][A-Za-z0-9_]*)=([^:]*)/g))
    out[envName(name!)] = decodeURIComponent(value!);
  const plain = path.startsWith('/inject/') && !path.includes(':ENV:') ? path.slice('/inject/'.length).split('/') : [];
  for (let i = 0; i + 1 < plain.length; i += 2) out[envName(plain[i]!)] = decodeURIComponent(plain[i + 1]!);
  return out;
}
function envName(name: string): string {
  if (name === 'cluster') return 'ISTIO_META_CLUSTER_ID';
  return name === 'net' ? 'ISTIO_META_NETWORK' : name;
}

/** The injected pod. Throws {@link InjectionError} for annotations that cannot be obeyed. */
export function injectPod(
  pod: Pod,
  namespace: string,
  config: InjectionConfig,
  extraEnv: Readonly<Record<string, string>> = {},
): Pod {
  const annotations: Annotations = pod.metadata.annotations ?? {};
  const wrong = checkAnnotations(annotations);
  if (wrong.length > 0) throw new InjectionError(wrong.join('; '));
  const proxyConfig = mergeTrees(config.defaultConfig, podProxyConfig(annotations));
  const rewrite =
    (annotations['sidecar.istio.io/rewriteAppHTTPProbers'] ?? String(config.rewriteAppHttpProbe)) === 'true';
  const apps = pod.spec.containers.filter((c) => c.name !== PROXY_CONTAINER);
  const port = statusPort({ annotations, proxyConfig });
  const rewritten = rewrite && port !== 0 ? rewriteProbes(apps, port) : { containers: apps, probers: {} };
  const prometheus = mergedScrape(annotations, config, port);
  const input: TemplateInput = {
    pod,
    namespace,
    annotations,
    config,
    proxyConfig,
    workload: workloadOf(pod, namespace),
    gateway: annotations['inject.istio.io/templates'] === 'gateway',
    native: (annotations['sidecar.istio.io/nativeSidecar'] ?? String(config.nativeSidecars)) === 'true',
    probers: rewritten.probers,
    prometheus: prometheus?.original,
    extraEnv,
  };
  return assemble(input, rewritten.containers, prometheus?.annotations ?? {});
}

function assemble(input: TemplateInput, apps: readonly Container[], scrape: Annotations): Pod {
  const { pod, config } = input;
  const own = pod.spec.containers.find((c) => c.name === PROXY_CONTAINER);
  const proxy = overridden(proxyContainer(input), own);
  const init = input.gateway ? [] : [initContainer(input)];
  const volumes = templateVolumes(input);
  const taken = new Set(volumes.map((v) => v.name));
  const userInits = (pod.spec.initContainers ?? []).filter(
    (c) => c.name !== 'istio-init' && c.name !== PROXY_CONTAINER,
  );
  const native = input.native && !input.gateway;
  const initContainers = native ? [...init, proxy, ...userInits] : [...userInits, ...init];
  const containers = native ? apps : holdApplication(input) ? [proxy, ...apps] : [...apps, proxy];
  const labels = pod.metadata.labels ?? {};
  const status = {
    initContainers: initContainers.filter((c) => !userInits.includes(c)).map((c) => c.name),
    containers: native ? [] : [PROXY_CONTAINER],
    volumes: volumes.map((v) => v.name),
    imagePullSecrets: null,
    revision: config.revision,
  };
  const first = apps[0]?.name;
  return {
    ...pod,
    metadata: {
      ...pod.metadata,
      labels: {
        ...labels,
        'security.istio.io/tlsMode': labels['security.istio.io/tlsMode'] ?? 'istio',
        'service.istio.io/canonical-name': canonicalName(labels, input.workload.name),
        'service.istio.io/canonical-revision': canonicalRevision(labels),
      },
      annotations: {
        ...(first === undefined
          ? {}
          : {
              'kubectl.kubernetes.io/default-container': first,
              'kubectl.kubernetes.io/default-logs-container': first,
            }),
        ...input.annotations,
        ...scrape,
        'istio.io/rev': config.revision,
        ...(own ? { 'proxy.istio.io/overrides': JSON.stringify({ containers: [own] }) } : {}),
        'sidecar.istio.io/status': JSON.stringify(status),
      },
    },
    spec: {
      ...pod.spec,
      ...(initContainers.length > 0 ? { initContainers } : {}),
      containers,
      volumes: [...volumes, ...(pod.spec.volumes ?? []).filter((v) => !taken.has(v.name))],
    },
  };
}

/** A container named istio-proxy in the pod overrides single fields; lists with names merge by name. */
function overridden(proxy: Container, own: Container | undefined): Container {
  if (!own) return proxy;
  const { image, env, volumeMounts, ports, ...rest } = own;
  const byName = <T extends { readonly name?: string }>(
    base: readonly T[] = [],
    over: readonly T[] = [],
  ): readonly T[] => [...base.filter((b) => !over.some((o) => o.name === b.name)), ...over];
  return {
    ...(mergeTrees(proxy as unknown as Tree, rest as unknown as Tree) as unknown as Container),
    image: image === 'auto' || image === undefined ? proxy.image : image,
    env: byName(proxy.env, env),
    volumeMounts: [
      ...(proxy.volumeMounts ?? []),
      ...(volumeMounts ?? []).filter((m) => !proxy.volumeMounts?.some((p) => p.mountPath === m.mountPath)),
    ],
    ports: byName(proxy.ports, ports),
  };
}

function podProxyConfig(annotations: Annotations): Tree {
  const text = annotations['proxy.istio.io/config'];
  if (text === undefined) return {};
  try {
    const parsed: unknown = parseYaml(text);
    if (parsed !== null && (typeof parsed !== 'object' || Array.isArray(parsed))) throw new Error('expected fields');
    return tree(parsed);
  } catch (error) {
    throw new InjectionError(
      `invalid value '${text}' for annotation 'proxy.istio.io/config': ${errorText(error).split('\n')[0]}`,
    );
  }
}

/** Scraping goes to the agent, which adds the application's own metrics. */
function mergedScrape(
  annotations: Annotations,
  config: InjectionConfig,
  port: number,
): { readonly annotations: Annotations; readonly original: Readonly<Record<string, string>> | undefined } | undefined {
  const wanted = (annotations['prometheus.istio.io/merge-metrics'] ?? String(config.prometheusMerge)) === 'true';
  if (!wanted || port === 0 || annotations['prometheus.io/scrape'] === 'false') return undefined;
  const original = {
    ...(annotations['prometheus.io/scrape'] === undefined ? {} : { scrape: annotations['prometheus.io/scrape'] }),
    ...(annotations['prometheus.io/port'] === undefined ? {} : { port: annotations['prometheus.io/port'] }),
    ...(annotations['prometheus.io/path'] === undefined ? {} : { path: annotations['prometheus.io/path'] }),
  };
  return {
    annotations: {
      'prometheus.io/scrape': 'true',
      'prometheus.io/port': String(port),
      'prometheus.io/path': '/stats/prometheus',
    },
    original: Object.keys(original).length > 0 ? original : undefined,
  };
}

const TEMPLATE_KINDS = new Set([
  'Deployment',
  'ReplicaSet',
  'StatefulSet',
  'DaemonSet',
  'Job',
  'ReplicationController',
  'CronJob',
  'Pod',
]);

function injectYaml(yaml: string, namespace: string, config: InjectionConfig): string {
  return parseAllDocuments(yaml)
    .map((doc) => {
      const error = doc.errors[0];
      if (error) throw new InjectionError(error.message.split('\n')[0]!);
      const object = doc.toJS() as Tree | null;
      if (object === null || !TEMPLATE_KINDS.has(String(object.kind))) return doc.toString().replace(/^---\n/, '');
      return stringify(injectObject(object, namespace, config));
    })
    .join('---\n');
}

function injectObject(object: Tree, namespace: string, config: InjectionConfig): Tree {
  const metadata = tree(object.metadata);
  const ns = typeof metadata.namespace === 'string' ? metadata.namespace : namespace;
  if (object.kind === 'Pod') return injectTemplate(object, ns, config, undefined);
  const kind = String(object.kind);
  const change = (spec: Tree): Tree => ({
    ...spec,
    template: injectTemplate(tree(spec.template), ns, config, { kind, name: String(metadata.name) }),
  });
  const spec = tree(object.spec);
  if (kind !== 'CronJob') return { ...object, spec: change(spec) };
  const job = tree(spec.jobTemplate);
  return { ...object, spec: { ...spec, jobTemplate: { ...job, spec: change(tree(job.spec)) } } };
}

function injectTemplate(
  template: Tree,
  namespace: string,
  config: InjectionConfig,
  owner: { readonly kind: string; readonly name: string } | undefined,
): Tree {
  const metadata = tree(template.metadata);
  const reference = {
    apiVersion: 'apps/v1',
    kind: owner?.kind ?? '',
    name: owner?.name ?? '',
    uid: '',
    controller: true,
  };
  const pod = {
    ...template,
    metadata: owner ? { ...metadata, ownerReferences: [reference] } : metadata,
  } as unknown as Pod;
  if (!decide(pod, namespace, config).inject) return template;
  const injected = injectPod(pod, namespace, config) as unknown as Tree;
  const { ownerReferences: _ours, ...kept } = tree(injected.metadata);
  return { ...injected, metadata: owner ? kept : injected.metadata };
}

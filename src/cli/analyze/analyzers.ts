// The analyzers behind `meltemi analyze`: objects in, messages out. Pure. Codes, levels and texts follow istioctl's.
import type { Namespace } from '../../api/kubernetes/namespace.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import type { Service } from '../../api/kubernetes/service.ts';
import { hasLabels } from '../../base/kube/selectors.ts';
import type { KubeObject } from '../../base/kube/types.ts';

export type MessageLevel = 'Error' | 'Warning' | 'Info';

export interface AnalysisMessage {
  readonly level: MessageLevel;
  readonly code: string;
  readonly kind: string;
  readonly namespace: string | undefined;
  readonly name: string;
  readonly text: string;
  /** `file.yaml:12`, for objects from a file. */
  readonly origin: string | undefined;
}

type Spec = Readonly<Record<string, unknown>>;
export type IstioObject = KubeObject & { readonly spec?: Spec };

export interface AnalysisInput {
  readonly namespaces: readonly Namespace[];
  readonly services: readonly Service[];
  readonly pods: readonly Pod[];
  readonly virtualServices: readonly IstioObject[];
  readonly destinationRules: readonly IstioObject[];
  readonly gateways: readonly IstioObject[];
  readonly serviceEntries: readonly IstioObject[];
  readonly peerAuthentications: readonly IstioObject[];
  /** Only messages about these namespaces are wanted; undefined: all. */
  readonly scope: string | undefined;
  readonly clusterDomain: string;
  readonly originOf: (object: KubeObject) => string | undefined;
}

const SYSTEM_NAMESPACES = new Set([
  'kube-system',
  'kube-public',
  'kube-node-lease',
  'istio-system',
  'local-path-storage',
]);
const ORDER: Readonly<Record<MessageLevel, number>> = { Error: 0, Warning: 1, Info: 2 };

export function analyze(input: AnalysisInput): readonly AnalysisMessage[] {
  const messages = [
    ...injection(input),
    ...portNames(input),
    ...virtualServices(input),
    ...destinationRules(input),
    ...gateways(input),
    ...peerAuthentications(input),
  ].filter((m) => input.scope === undefined || (m.kind === 'Namespace' ? m.name : m.namespace) === input.scope);
  return messages.sort((a, b) => ORDER[a.level] - ORDER[b.level] || compare(a.code, b.code) || compare(a.name, b.name));
}

function message(
  input: AnalysisInput,
  level: MessageLevel,
  code: string,
  object: KubeObject,
  text: string,
): AnalysisMessage {
  const { namespace, name } = object.metadata;
  return { level, code, kind: object.kind, namespace, name, text, origin: input.originOf(object) };
}

function injection(input: AnalysisInput): readonly AnalysisMessage[] {
  return input.namespaces.flatMap((ns) => {
    const labels = ns.metadata.labels ?? {};
    if (SYSTEM_NAMESPACES.has(ns.metadata.name)) return [];
    const { 'istio-injection': injection, 'istio.io/rev': revision } = labels;
    if (injection !== undefined && revision !== undefined)
      return [
        message(
          input,
          'Warning',
          'IST0123',
          ns,
          "The namespace has both new and legacy injection labels. Run 'kubectl label namespace " +
            `${ns.metadata.name} istio.io/rev-' or 'kubectl label namespace ${ns.metadata.name} istio-injection-'`,
        ),
      ];
    if (injection === undefined && revision === undefined)
      return [
        message(
          input,
          'Info',
          'IST0102',
          ns,
          `The namespace is not enabled for Istio injection. Run 'kubectl label namespace ${ns.metadata.name} istio-injection=enabled' to enable it, or 'kubectl label namespace ${ns.metadata.name} istio-injection=disabled' to explicitly mark it as not needing injection.`,
        ),
      ];
    if (injection !== 'enabled') return [];
    return input.pods
      .filter((pod) => pod.metadata.namespace === ns.metadata.name && !injected(pod) && !optedOut(pod))
      .map((pod) =>
        message(
          input,
          'Warning',
          'IST0103',
          pod,
          `The pod ${ns.metadata.name}/${pod.metadata.name} is missing the Istio proxy. This can often be resolved by restarting or redeploying the workload.`,
        ),
      );
  });
}

function injected(pod: Pod): boolean {
  return [...pod.spec.containers, ...(pod.spec.initContainers ?? [])].some((c) => c.name === 'istio-proxy');
}
function optedOut(pod: Pod): boolean {
  const { labels, annotations } = pod.metadata;
  return labels?.['sidecar.istio.io/inject'] === 'false' || annotations?.['sidecar.istio.io/inject'] === 'false';
}

const KNOWN_PROTOCOLS = new Set([
  'http',
  'http2',
  'https',
  'tcp',
  'tls',
  'grpc',
  'grpc-web',
  'mongo',
  'redis',
  'mysql',
  'udp',
]);

function portNames(input: AnalysisInput): readonly AnalysisMessage[] {
  return input.services.flatMap((service) => {
    if (SYSTEM_NAMESPACES.has(service.metadata.namespace ?? '') || service.metadata.name === 'kubernetes') return [];
    return (service.spec.ports ?? []).flatMap((port) => {
      if (port.appProtocol !== undefined || port.protocol === 'UDP') return [];
      const first = (port.name ?? '').split('-')[0]!.toLowerCase();
      if (KNOWN_PROTOCOLS.has(first)) return [];
      return [
        message(
          input,
          'Info',
          'IST0118',
          service,
          `Port name ${port.name ?? ''} (port: ${port.port}, targetPort: ${port.targetPort ?? port.port}) doesn't follow the naming convention of Istio port.`,
        ),
      ];
    });
  });
}

/** A host as a rule in `namespace` means it, and the service it names. */
function serviceFor(input: AnalysisInput, host: string, namespace: string): Service | undefined {
  const fqdn = fullName(host, namespace, input.clusterDomain);
  return input.services.find((s) => `${s.metadata.name}.${s.metadata.namespace}.svc.${input.clusterDomain}` === fqdn);
}
function fullName(host: string, namespace: string, domain: string): string {
  if (!host.includes('.') && !host.startsWith('*')) return `${host}.${namespace}.svc.${domain}`;
  const parts = host.split('.');
  if (parts.length === 2) return `${host}.svc.${domain}`;
  return parts.length === 3 && parts[2] === 'svc' ? `${host}.${domain}` : host;
}

function virtualServices(input: AnalysisInput): readonly AnalysisMessage[] {
  return input.virtualServices.flatMap((vs) => {
    const namespace = vs.metadata.namespace ?? 'default';
    const out: AnalysisMessage[] = [];
    for (const reference of strings(vs.spec?.gateways)) {
      if (reference === 'mesh') continue;
      const [ns, name] = reference.includes('/') ? (reference.split('/') as [string, string]) : [namespace, reference];
      const gateway = input.gateways.find((g) => g.metadata.name === name && g.metadata.namespace === ns);
      if (!gateway) out.push(message(input, 'Error', 'IST0101', vs, `Referenced gateway not found: "${reference}"`));
      else if (!hostsOverlap(strings(vs.spec?.hosts), gatewayHosts(gateway)))
        out.push(
          message(
            input,
            'Warning',
            'IST0132',
            vs,
            `one or more host [${strings(vs.spec?.hosts).join(' ')}] defined in VirtualService ${namespace}/${vs.metadata.name} not found in Gateway ${ns}/${name}.`,
          ),
        );
    }
    for (const destination of destinationsOf(vs)) out.push(...checkDestination(input, vs, namespace, destination));
    return out;
  });
}

function checkDestination(
  input: AnalysisInput,
  vs: IstioObject,
  namespace: string,
  destination: Spec,
): readonly AnalysisMessage[] {
  const host = String(destination.host ?? '');
  const service = serviceFor(input, host, namespace);
  if (
    !service &&
    !host.includes('*') &&
    !isEntryHost(input, host, namespace) &&
    fullName(host, namespace, input.clusterDomain).endsWith(`.svc.${input.clusterDomain}`)
  )
    return [message(input, 'Error', 'IST0101', vs, `Referenced host not found: "${host}"`)];
  const subset = destination.subset;
  if (typeof subset === 'string' && !hasSubset(input, host, namespace, subset))
    return [
      message(
        input,
        'Error',
        'IST0101',
        vs,
        `Referenced host+subset in destinationrule not found: "${host}+${subset}"`,
      ),
    ];
  const port = (destination.port as Spec | undefined)?.number;
  if (service && port === undefined && (service.spec.ports ?? []).length > 1)
    return [
      message(
        input,
        'Error',
        'IST0112',
        vs,
        `This VirtualService routes to a service "${host}" that exposes multiple ports [${(service.spec.ports ?? []).map((p) => p.port).join(' ')}]. Specifying a port in the destination is required to disambiguate.`,
      ),
    ];
  return [];
}

function isEntryHost(input: AnalysisInput, host: string, namespace: string): boolean {
  const names = [host, fullName(host, namespace, input.clusterDomain)];
  return input.serviceEntries.some((entry) =>
    strings(entry.spec?.hosts).some((h) =>
      names.some((name) => h === name || (h.startsWith('*.') && name.endsWith(h.slice(1)))),
    ),
  );
}

function hasSubset(input: AnalysisInput, host: string, namespace: string, subset: string): boolean {
  const wanted = fullName(host, namespace, input.clusterDomain);
  return input.destinationRules.some(
    (dr) =>
      fullName(String(dr.spec?.host ?? ''), dr.metadata.namespace ?? 'default', input.clusterDomain) === wanted &&
      list(dr.spec?.subsets).some((s) => s.name === subset),
  );
}

function destinationsOf(vs: IstioObject): readonly Spec[] {
  const out: Spec[] = [];
  for (const key of ['http', 'tcp', 'tls'] as const)
    for (const route of list(vs.spec?.[key])) {
      for (const target of list(route.route)) if (target.destination) out.push(target.destination as Spec);
      if (route.mirror) out.push(route.mirror as Spec);
    }
  return out;
}

function gatewayHosts(gateway: IstioObject): readonly string[] {
  return list(gateway.spec?.servers).flatMap((s) => strings(s.hosts).map((h) => h.slice(h.indexOf('/') + 1)));
}
function hostsOverlap(a: readonly string[], b: readonly string[]): boolean {
  const covers = (pattern: string, host: string): boolean =>
    pattern === '*' || pattern === host || (pattern.startsWith('*.') && host.endsWith(pattern.slice(1)));
  return a.some((x) => b.some((y) => covers(x, y) || covers(y, x)));
}

function destinationRules(input: AnalysisInput): readonly AnalysisMessage[] {
  return input.destinationRules.flatMap((dr) => {
    const namespace = dr.metadata.namespace ?? 'default';
    const host = String(dr.spec?.host ?? '');
    if (host.includes('*')) return [];
    const service = serviceFor(input, host, namespace);
    // Its endpoints are not all pods.
    if (!service && isEntryHost(input, host, namespace)) return [];
    if (!service)
      return [
        message(
          input,
          'Warning',
          'IST0174',
          dr,
          `The host ${host} defined in the DestinationRule does not match any services in the mesh.`,
        ),
      ];
    const selector = service.spec.selector ?? {};
    const backing = input.pods.filter(
      (p) => p.metadata.namespace === service.metadata.namespace && hasLabels(selector, p.metadata.labels ?? {}),
    );
    return list(dr.spec?.subsets)
      .filter(
        (s) => !backing.some((p) => hasLabels((s.labels as Record<string, string>) ?? {}, p.metadata.labels ?? {})),
      )
      .map((s) =>
        message(
          input,
          'Error',
          'IST0173',
          dr,
          `The Subset ${s.name} defined in the DestinationRule does not select any pods.`,
        ),
      );
  });
}

function gateways(input: AnalysisInput): readonly AnalysisMessage[] {
  return input.gateways.flatMap((gw) => {
    const selector = (gw.spec?.selector as Record<string, string> | undefined) ?? {};
    if (input.pods.some((pod) => hasLabels(selector, pod.metadata.labels ?? {}))) return [];
    const text = Object.entries(selector)
      .map(([k, v]) => `${k}=${v}`)
      .join(',');
    return [message(input, 'Error', 'IST0101', gw, `Referenced selector not found: "${text}"`)];
  });
}

function peerAuthentications(input: AnalysisInput): readonly AnalysisMessage[] {
  return input.peerAuthentications.flatMap((pa) => {
    const labels = ((pa.spec?.selector as Spec | undefined)?.matchLabels as Record<string, string> | undefined) ?? {};
    if (Object.keys(labels).length === 0) return [];
    const matches = input.pods.some(
      (p) => p.metadata.namespace === pa.metadata.namespace && hasLabels(labels, p.metadata.labels ?? {}),
    );
    if (matches) return [];
    const text = Object.entries(labels)
      .map(([k, v]) => `${k}=${v}`)
      .join(',');
    return [
      message(
        input,
        'Warning',
        'IST0127',
        pa,
        `No matching workloads for this resource with the following labels: ${text}`,
      ),
    ];
  });
}

function list(value: unknown): readonly Spec[] {
  return Array.isArray(value) ? (value as readonly Spec[]) : [];
}
function strings(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.map(String) : [];
}
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

// Installation profiles, the IstioOperator form users write (`-f`), and `--set`. Pure. Called by install, profile, up.
import { parseDocument } from 'yaml';
import type { Diagnostic } from '../../base/runtime/diagnostics.ts';
import { MELTEMI_VERSION } from '../../base/version.ts';

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
type Tree = { readonly [key: string]: Json };

export interface Gateway {
  readonly name: string;
  readonly enabled: boolean;
}

/** An IstioOperator spec after profile, file and flags were merged. */
export interface InstallSpec {
  readonly profile: string;
  readonly hub: string;
  readonly tag: string;
  readonly pilotEnabled: boolean;
  readonly ingressGateways: readonly Gateway[];
  readonly egressGateways: readonly Gateway[];
  readonly meshConfig: Tree;
  readonly values: Tree;
}

/** As istioctl lists them. Those without a tree need parts this version does not have and are refused by name. */
export const PROFILE_NAMES = [
  'ambient',
  'default',
  'demo',
  'empty',
  'minimal',
  'openshift',
  'openshift-ambient',
  'preview',
  'remote',
  'stable',
] as const;

const WHY_NOT: Readonly<Record<string, string>> = {
  ambient: 'it needs ztunnel and waypoints',
  openshift: 'it needs the CNI plugin on OpenShift',
  'openshift-ambient': 'it needs ztunnel and the CNI plugin on OpenShift',
  preview: 'it switches on features of Istio that do not exist here',
  remote: 'it needs an external control plane',
  stable: 'it is an alias Istio keeps for its own release channels',
};

const DEFAULT_PROFILE: Tree = {
  components: {
    base: { enabled: true },
    pilot: { enabled: true },
    ingressGateways: [{ name: 'istio-ingressgateway', enabled: true }],
    egressGateways: [{ name: 'istio-egressgateway', enabled: false }],
  },
  hub: 'docker.io/meltemi',
  tag: MELTEMI_VERSION,
  meshConfig: { defaultConfig: { proxyMetadata: {} }, enablePrometheusMerge: true },
  values: {
    global: {
      proxy: {
        privileged: false,
        resources: { requests: { cpu: '100m', memory: '128Mi' }, limits: { cpu: '2000m', memory: '1024Mi' } },
      },
    },
    sidecarInjectorWebhook: { enableNamespacesByDefault: false, rewriteAppHTTPProbe: true },
  },
};

const PROFILES: Readonly<Record<string, Tree>> = {
  default: {},
  demo: {
    components: { egressGateways: [{ name: 'istio-egressgateway', enabled: true }] },
    meshConfig: {
      accessLogFile: '/dev/stdout',
      // The labs show an RSA certificate; elsewhere keys are ECDSA P-256.
      defaultConfig: { proxyMetadata: { MELTEMI_WORKLOAD_KEY: 'rsa' } },
    },
    values: { global: { proxy: { resources: { requests: { cpu: '10m', memory: '40Mi' } } } } },
  },
  minimal: { components: { ingressGateways: [{ name: 'istio-ingressgateway', enabled: false }] } },
  empty: {
    components: {
      base: { enabled: false },
      pilot: { enabled: false },
      ingressGateways: [{ name: 'istio-ingressgateway', enabled: false }],
    },
  },
};

export type ProfileResult =
  | { readonly kind: 'ok'; readonly tree: Tree }
  | { readonly kind: 'refused'; readonly message: string };

/** The whole tree of a profile, as `profile dump` prints it under `spec`. */
export function profileTree(name: string): ProfileResult {
  const own = PROFILES[name];
  if (own) return { kind: 'ok', tree: { ...merge(DEFAULT_PROFILE, own), profile: name } };
  const why = WHY_NOT[name];
  if (why) return { kind: 'refused', message: `profile "${name}" is not supported by this version of Meltemi: ${why}` };
  return { kind: 'refused', message: `unknown profile "${name}"; the profiles are ${PROFILE_NAMES.join(', ')}` };
}

/** Objects merge field by field; lists whose elements have names merge by name; everything else is replaced. */
export function merge(base: Tree, over: Tree): Tree {
  const out: Record<string, Json> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const old = out[key];
    if (isTree(old) && isTree(value)) out[key] = merge(old, value);
    else if (Array.isArray(old) && isTree(value)) out[key] = mergeIndexed(old, value);
    else if (isNamedList(old) && isNamedList(value)) out[key] = mergeNamed(old, value);
    else out[key] = value;
  }
  return out;
}

/** `{'[0]': {enabled: false}}`, the form --set makes, changes elements by position. */
function mergeIndexed(base: readonly Json[], over: Tree): readonly Json[] {
  const out = [...base];
  for (const [key, value] of Object.entries(over)) {
    const at = Number(key.slice(1, -1));
    const old = out[at];
    out[at] = isTree(old) && isTree(value) ? merge(old, value) : value;
  }
  return out;
}

function mergeNamed(base: readonly Tree[], over: readonly Tree[]): readonly Tree[] {
  const out = [...base];
  for (const item of over) {
    const at = out.findIndex((b) => b.name === item.name);
    if (at < 0) out.push(item);
    else out[at] = merge(out[at]!, item);
  }
  return out;
}

function isTree(value: Json | undefined): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
function isNamedList(value: Json | undefined): value is readonly Tree[] {
  return Array.isArray(value) && value.every((v) => isTree(v) && typeof v.name === 'string');
}

/** `a.b.c=v`, `components.ingressGateways[0].enabled=false`; true, false and numbers keep their type. */
export function parseSet(text: string): Tree | Diagnostic {
  const at = text.indexOf('=');
  if (at < 1) return { path: text, code: 'bad-set', message: `--set ${text}: expected PATH=VALUE` };
  const path = text.slice(0, at).split('.');
  const raw = text.slice(at + 1);
  let value: Json = raw === 'true' ? true : raw === 'false' ? false : /^-?\d+(\.\d+)?$/.test(raw) ? Number(raw) : raw;
  for (const part of path.toReversed()) {
    if (!/^[A-Za-z0-9_-]+(\[[0-9]+\])?$/.test(part))
      return { path: text, code: 'bad-set', message: `--set ${text}: "${part}" is not a field name` };
    const index = /\[(\d+)\]$/.exec(part);
    value = index ? { [part.slice(0, index.index)]: { [index[0]]: value } } : { [part]: value };
  }
  return value as Tree;
}

export interface InstallInput {
  readonly profile: string | undefined;
  /** Files given with -f: name and text. */
  readonly files: readonly { readonly name: string; readonly text: string }[];
  readonly sets: readonly string[];
}

export type InstallResult =
  | { readonly kind: 'ok'; readonly spec: InstallSpec }
  | { readonly kind: 'invalid'; readonly diagnostics: readonly Diagnostic[] };

/** Merges profile, files and flags, in that order. */
export function resolveInstall(input: InstallInput): InstallResult {
  const diagnostics: Diagnostic[] = [];
  let profile = input.profile;
  let over: Tree = {};
  for (const file of input.files) {
    const parsed = parseOperator(file.name, file.text, diagnostics);
    if (typeof parsed.profile === 'string') profile ??= parsed.profile;
    over = merge(over, parsed);
  }
  for (const text of input.sets) {
    const set = parseSet(text);
    if ('code' in set && 'message' in set && 'path' in set) {
      diagnostics.push(set as Diagnostic);
      continue;
    }
    if (typeof set.profile === 'string') profile = set.profile;
    over = merge(over, set);
  }
  const base = profileTree(profile ?? 'default');
  if (base.kind === 'refused') diagnostics.push({ path: 'profile', code: 'unknown-profile', message: base.message });
  if (diagnostics.length > 0 || base.kind === 'refused') return { kind: 'invalid', diagnostics };
  return checkTree(merge(base.tree, over));
}

function parseOperator(name: string, text: string, diagnostics: Diagnostic[]): Tree {
  const doc = parseDocument(text, { prettyErrors: true });
  if (doc.errors.length > 0) {
    for (const error of doc.errors)
      diagnostics.push({ path: name, code: 'yaml', message: `${name}: ${error.message.split('\n')[0]}` });
    return {};
  }
  const value = doc.toJS() as Json;
  if (!isTree(value) || value.kind !== 'IstioOperator' || !isTree(value.spec ?? {})) {
    diagnostics.push({
      path: name,
      code: 'not-an-operator',
      message: `${name}: expected kind IstioOperator (apiVersion install.istio.io/v1alpha1) with a spec`,
    });
    return {};
  }
  return (value.spec ?? {}) as Tree;
}

const KNOWN: Readonly<Record<string, readonly string[]>> = {
  '': ['profile', 'components', 'hub', 'tag', 'meshConfig', 'values', 'namespace', 'revision'],
  components: ['base', 'pilot', 'ingressGateways', 'egressGateways', 'cni', 'ztunnel', 'istiodRemote'],
};

/** Paths under `values` that have an effect: in the injector (control-plane/injection/config.ts) or in a manifest. `*`: anything below. */
const KNOWN_VALUES = [
  'global.hub',
  'global.tag',
  'global.network',
  'global.multiCluster.clusterName',
  'global.proxy.privileged',
  'global.proxy.clusterDomain',
  'global.proxy.holdApplicationUntilProxyStarts',
  'global.proxy.resources.*',
  'sidecarInjectorWebhook.enableNamespacesByDefault',
  'sidecarInjectorWebhook.rewriteAppHTTPProbe',
  'sidecarInjectorWebhook.neverInjectSelector',
  'sidecarInjectorWebhook.alwaysInjectSelector',
];

function unknownValues(tree: Tree, prefix = ''): readonly string[] {
  return Object.entries(tree).flatMap(([key, value]) => {
    const path = `${prefix}${key}`;
    if (KNOWN_VALUES.includes(path) || KNOWN_VALUES.some((k) => k.endsWith('.*') && path.startsWith(k.slice(0, -1))))
      return [];
    const leadsOn = KNOWN_VALUES.some((k) => k.startsWith(`${path}.`));
    return leadsOn && isTree(value) ? unknownValues(value, `${path}.`) : [path];
  });
}

function checkTree(tree: Tree): InstallResult {
  const diagnostics: Diagnostic[] = [];
  const bad = (path: string, message: string): void => {
    diagnostics.push({ path, code: 'unsupported', message: `spec.${path}: ${message}` });
  };
  for (const key of Object.keys(tree)) if (!KNOWN['']!.includes(key)) bad(key, 'unknown field');
  if (tree.namespace !== undefined && tree.namespace !== 'istio-system')
    bad('namespace', 'only istio-system is supported');
  if (tree.revision !== undefined && tree.revision !== '' && tree.revision !== 'default')
    bad('revision', 'revisions other than default are not supported by this version of Meltemi');
  const components = isTree(tree.components) ? tree.components : {};
  for (const [key, value] of Object.entries(components)) {
    if (!KNOWN.components!.includes(key)) bad(`components.${key}`, 'unknown component');
    const enabled = isTree(value) && value.enabled === true;
    if (['cni', 'ztunnel', 'istiodRemote'].includes(key) && enabled)
      bad(`components.${key}`, 'is not supported by this version of Meltemi');
  }
  for (const path of unknownValues(isTree(tree.values) ? tree.values : {}))
    bad(`values.${path}`, 'has no effect in this version of Meltemi; check its spelling');
  if (diagnostics.length > 0) return { kind: 'invalid', diagnostics };
  const pilot = components.pilot;
  return {
    kind: 'ok',
    spec: {
      profile: String(tree.profile),
      hub: String(tree.hub),
      tag: String(tree.tag),
      pilotEnabled: isTree(pilot) && pilot.enabled === true,
      ingressGateways: gateways(components.ingressGateways, 'istio-ingressgateway'),
      egressGateways: gateways(components.egressGateways, 'istio-egressgateway'),
      meshConfig: isTree(tree.meshConfig) ? tree.meshConfig : {},
      values: isTree(tree.values) ? tree.values : {},
    },
  };
}

function gateways(value: Json | undefined, defaultName: string): readonly Gateway[] {
  const list: readonly Json[] = Array.isArray(value) ? value : [];
  return list.filter(isTree).map((g) => ({ name: String(g.name ?? defaultName), enabled: g.enabled === true }));
}

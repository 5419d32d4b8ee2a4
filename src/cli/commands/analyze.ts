// `meltemi analyze`: mistakes in the mesh's configuration, from a cluster, from files, or both; istioctl's lines and exit codes.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { LineCounter, parseAllDocuments } from 'yaml';
import { NAMESPACES, type Namespace } from '../../api/kubernetes/namespace.ts';
import { PODS, type Pod } from '../../api/kubernetes/pod.ts';
import { SERVICES, type Service } from '../../api/kubernetes/service.ts';
import { KubeError, type KubeObject, type ResourceType } from '../../base/kube/types.ts';
import {
  type AnalysisMessage,
  type IstioObject,
  type MessageLevel,
  analyze as runAnalyzers,
} from '../analyze/analyzers.ts';
import { type Cluster, connect } from '../cluster/connect.ts';
import {
  boolFlag,
  CLUSTER_HELP,
  CLUSTER_OPTIONS,
  type Command,
  type Context,
  stringFlag,
  UserError,
} from '../command.ts';

const EXIT_FINDINGS = 79;
const EXIT_PARSE = 65;
const LEVELS: readonly MessageLevel[] = ['Info', 'Warning', 'Error'];

function istioType(group: string, resource: string, kind: string): ResourceType {
  return { group, version: 'v1', resource, kind, namespaced: true };
}
const VIRTUAL_SERVICES = istioType('networking.istio.io', 'virtualservices', 'VirtualService');
const DESTINATION_RULES = istioType('networking.istio.io', 'destinationrules', 'DestinationRule');
const SERVICE_ENTRIES = istioType('networking.istio.io', 'serviceentries', 'ServiceEntry');
const GATEWAYS = istioType('networking.istio.io', 'gateways', 'Gateway');
const PEER_AUTHENTICATIONS = istioType('security.istio.io', 'peerauthentications', 'PeerAuthentication');

export const analyze: Command = {
  name: 'analyze',
  summary: 'Find mistakes in the mesh configuration of a cluster or of files',
  usage: '[FILE…] [flags]',
  options: {
    ...CLUSTER_OPTIONS,
    'all-namespaces': { type: 'boolean', short: 'A' },
    'use-kube': { type: 'string' },
    'failure-threshold': { type: 'string' },
    output: { type: 'string', short: 'o' },
  },
  help: [
    'FILE                   YAML to look at as if it were applied',
    '-A, --all-namespaces',
    '--use-kube=false       only the files',
    '--failure-threshold L  exit 79 from this level on: Info, Warning, Error; default: Error',
    '-o log|json',
    ...CLUSTER_HELP,
  ],
  async run(context, flags) {
    const threshold = LEVELS.find(
      (l) => l.toLowerCase() === (stringFlag(flags, 'failure-threshold') ?? 'Error').toLowerCase(),
    );
    if (!threshold) throw new UserError(`--failure-threshold: expected ${LEVELS.join(', ')}.`, 64);
    const useKube = stringFlag(flags, 'use-kube') !== 'false';
    const files = readFiles(context, flags.positionals);
    const cluster = useKube ? connect(context, flags) : undefined;
    const namespace = stringFlag(flags, 'namespace') ?? cluster?.namespace ?? 'default';
    const scope = boolFlag(flags, 'all-namespaces') ? undefined : namespace;
    const objects = [...(cluster ? await fromCluster(cluster) : []), ...files.map((f) => f.object)];
    const origins = new Map(files.map((f) => [f.object, f.origin]));
    const of = <T extends KubeObject>(kind: string): T[] =>
      latest(objects.filter((o) => o.kind === kind).map((o) => withNamespace(o, namespace, origins))) as T[];
    const messages = runAnalyzers({
      namespaces: of<Namespace>('Namespace'),
      services: of<Service>('Service'),
      pods: of<Pod>('Pod'),
      virtualServices: of<IstioObject>('VirtualService'),
      destinationRules: of<IstioObject>('DestinationRule'),
      serviceEntries: of<IstioObject>('ServiceEntry'),
      gateways: of<IstioObject>('Gateway').filter((g) => g.apiVersion.startsWith('networking.istio.io/')),
      peerAuthentications: of<IstioObject>('PeerAuthentication'),
      scope,
      clusterDomain: 'cluster.local',
      originOf: (object) => origins.get(object),
    });
    cluster?.client.close();
    if (stringFlag(flags, 'output') === 'json') context.terminal.out(`${JSON.stringify(messages, null, 2)}\n`);
    else print(context, messages, scope);
    const fatal = messages.some((m) => LEVELS.indexOf(m.level) >= LEVELS.indexOf(threshold));
    return fatal ? EXIT_FINDINGS : 0;
  },
};

function print(context: Context, messages: readonly AnalysisMessage[], scope: string | undefined): void {
  const { terminal } = context;
  const paint = { Error: terminal.red, Warning: terminal.yellow, Info: terminal.cyan };
  for (const m of messages) {
    const name = m.namespace === undefined ? m.name : `${m.namespace}/${m.name}`;
    terminal.out(
      `${paint[m.level](m.level)} [${m.code}] (${m.kind} ${name}${m.origin ? ` ${m.origin}` : ''}) ${m.text}\n`,
    );
  }
  if (messages.length === 0)
    terminal.out(
      `${terminal.green('✔')} No validation issues found when analyzing ${scope === undefined ? 'all namespaces' : `namespace: ${scope}`}.\n`,
    );
}

async function fromCluster(cluster: Cluster): Promise<readonly KubeObject[]> {
  const types = [
    NAMESPACES,
    SERVICES,
    PODS,
    VIRTUAL_SERVICES,
    DESTINATION_RULES,
    SERVICE_ENTRIES,
    GATEWAYS,
    PEER_AUTHENTICATIONS,
  ];
  const lists = await Promise.all(
    types.map(async (type) => {
      try {
        return (await cluster.client.list(type)).items;
      } catch (error) {
        // Without the CRDs there is nothing of that kind to look at.
        if (error instanceof KubeError && error.code === 404) return [];
        throw error;
      }
    }),
  );
  return lists.flat();
}

interface FileObject {
  readonly object: KubeObject;
  readonly origin: string;
}

function readFiles(context: Context, names: readonly string[]): readonly FileObject[] {
  return names.flatMap((name) => {
    let text: string;
    try {
      text = readFileSync(path.resolve(context.cwd, name), 'utf8');
    } catch (error) {
      const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
      throw new UserError(
        `${name}: ${missing ? 'there is no such file' : error instanceof Error ? error.message : error}`,
        EXIT_PARSE,
      );
    }
    const lines = new LineCounter();
    return parseAllDocuments(text, { lineCounter: lines }).flatMap((doc) => {
      const error = doc.errors[0];
      if (error) throw new UserError(`${name}: ${error.message.split('\n')[0]}`, EXIT_PARSE);
      const object = doc.toJS() as KubeObject | null;
      if (object === null) return [];
      if (typeof object.kind !== 'string' || typeof object.metadata?.name !== 'string')
        throw new UserError(`${name}: a document without kind or metadata.name`, EXIT_PARSE);
      const line = lines.linePos(doc.contents?.range?.[0] ?? 0).line;
      return [{ object, origin: `${name}:${line}` }];
    });
  });
}

/** Objects of a file that name no namespace are in the one that is analyzed. */
function withNamespace(object: KubeObject, namespace: string, origins: Map<KubeObject, string>): KubeObject {
  if (object.kind === 'Namespace' || object.metadata.namespace !== undefined) return object;
  const placed = { ...object, metadata: { ...object.metadata, namespace } };
  const origin = origins.get(object);
  if (origin !== undefined) origins.set(placed, origin);
  return placed;
}

/** A file's object stands for the cluster's of the same name. */
function latest(objects: readonly KubeObject[]): readonly KubeObject[] {
  return [...new Map(objects.map((o) => [`${o.metadata.namespace}/${o.metadata.name}`, o])).values()];
}

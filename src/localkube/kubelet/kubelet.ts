// Follows the pods of this node, one worker each, and tells the workers what changed. Made by start.ts.
import { existsSync, readdirSync } from 'node:fs';
import { CONFIG_MAPS, type ConfigMap } from '../../api/kubernetes/config-map.ts';
import { PODS, type Pod } from '../../api/kubernetes/pod.ts';
import { SECRETS, type Secret } from '../../api/kubernetes/secret.ts';
import { createInformer } from '../../base/kube/informer.ts';
import type { Informer } from '../../base/kube/types.ts';
import { removeLeftovers } from './leftovers.ts';
import type { LogKeeper } from './log-keeper.ts';
import { referencedObjects } from './payload.ts';
import type { PodContext } from './pod-context.ts';
import { PodWorker } from './pod-worker.ts';
import { loadState, type PodState } from './records.ts';

export interface KubeletOptions {
  readonly nodeName: string;
  readonly random: () => number;
  readonly logs: LogKeeper;
  /** Takes away the networks of pods that are not named. */
  readonly retainPods: (uids: ReadonlySet<string>) => Promise<void>;
  /** Everything of the context but the looks into ConfigMaps and Secrets. */
  readonly context: Omit<PodContext, 'lookup'>;
}

export interface Kubelet {
  find(namespace: string, pod: string): PodWorker | undefined;
  /** Leaves the containers running. */
  close(): void;
}

export async function runKubelet(options: KubeletOptions): Promise<Kubelet> {
  const { client, clock, log, runtime, settings } = options.context;
  const common = { clock, log, random: options.random };
  const pods = createInformer<Pod>(client, PODS, { ...common, fieldSelector: `spec.nodeName=${options.nodeName}` });
  const configMaps = createInformer<ConfigMap>(client, CONFIG_MAPS, common);
  const secrets = createInformer<Secret>(client, SECRETS, common);
  const context: PodContext = {
    ...options.context,
    lookup: {
      configMap: (namespace, name) => configMaps.get(namespace, name),
      secret: (namespace, name) => secrets.get(namespace, name),
    },
  };
  await Promise.all([pods.synced, configMaps.synced, secrets.synced]);
  const workers = new Map<string, PodWorker>();
  const known = loadStates(settings.layout.pods);
  const wanted = new Set([...pods.list().map((pod) => pod.metadata.uid!), ...known.keys()]);
  await options.retainPods(wanted);
  await removeLeftovers(settings.layout, [...known.values()], wanted, runtime, log);

  const begin = (pod: Pod): PodWorker => {
    const uid = pod.metadata.uid!;
    const worker = new PodWorker(context, pod, known.get(uid), () => workers.delete(uid));
    known.delete(uid);
    workers.set(uid, worker);
    followLogs(worker, options.logs);
    return worker;
  };
  const offPods = pods.onChange((change) => {
    const uid = change.object.metadata.uid!;
    if (change.kind === 'deleted') {
      workers.get(uid)?.gone();
      return;
    }
    // The field selector says so too; a server that ignores it must not hand us others' pods.
    if (change.object.spec.nodeName !== options.nodeName) return;
    const worker = workers.get(uid);
    if (!worker) begin(change.object);
    else worker.update(change.object);
    const current = workers.get(uid);
    if (current && change.kind === 'added' && change.object.metadata.deletionTimestamp) current.update(change.object);
  });
  // What ran before and is forgotten by the API ends now.
  for (const state of [...known.values()]) begin(state.pod).gone();
  const offExit = runtime.onExit((id, exit) => workers.get(id.split('_')[0]!)?.ended(id, exit));
  const offObjects = [refreshOnChange(configMaps, 'configmap', workers), refreshOnChange(secrets, 'secret', workers)];
  return {
    find: (namespace, name) => {
      const pod = pods.get(namespace, name);
      return pod && workers.get(pod.metadata.uid!);
    },
    close() {
      offPods();
      offExit();
      for (const off of offObjects) off();
      for (const informer of [pods, configMaps, secrets]) informer.close();
      for (const worker of workers.values()) worker.close();
      options.logs.close();
    },
  };
}

function loadStates(dir: string): Map<string, PodState> {
  const out = new Map<string, PodState>();
  if (!existsSync(dir)) return out;
  for (const uid of readdirSync(dir)) {
    const state = loadState(`${dir}/${uid}`);
    if (state) out.set(uid, state);
  }
  return out;
}

function refreshOnChange<T extends ConfigMap | Secret>(
  informer: Informer<T>,
  kind: 'configmap' | 'secret',
  workers: ReadonlyMap<string, PodWorker>,
): () => void {
  return informer.onChange(({ object }) => {
    for (const worker of workers.values()) {
      if (worker.pod.metadata.namespace !== object.metadata.namespace) continue;
      if (referencedObjects(worker.pod).has(`${kind}/${object.metadata.name}`)) worker.refreshVolumes();
    }
  });
}

/** Notes the times of what the pod's containers write. */
function followLogs(worker: PodWorker, logs: LogKeeper): void {
  const open = new Set<string>();
  worker.onChange((state) => {
    for (const { current, previous } of Object.values(state.containers)) {
      if (current?.startedAt !== undefined && !current.exit && !open.has(current.logFile)) {
        open.add(current.logFile);
        logs.follow(current.logFile);
      }
      for (const ended of [current?.exit ? current : undefined, previous]) {
        if (ended && open.delete(ended.logFile)) logs.drop(ended.logFile);
      }
    }
  });
}

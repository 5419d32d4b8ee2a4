// Keeps ConfigMap istio-ca-root-cert in every namespace equal to the CA's roots (identity.md §9.4): made, mended, made again.
// Called by the control plane's wiring.
import { CONFIG_MAPS, type ConfigMap } from '../../api/kubernetes/config-map.ts';
import { NAMESPACES, type Namespace } from '../../api/kubernetes/namespace.ts';
import { createInformer } from '../../base/kube/informer.ts';
import { type KubeClient, KubeError } from '../../base/kube/types.ts';
import { createWorkQueue } from '../../base/kube/work-queue.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import type { Logger } from '../../base/runtime/log.ts';
import type { CertificateAuthority } from './types.ts';

export const ROOT_CONFIG_MAP = 'istio-ca-root-cert';
export const ROOT_KEY = 'root-cert.pem';
const LABEL = 'istio.io/config';
const SKIPPED: ReadonlySet<string> = new Set(['kube-public', 'kube-node-lease', 'local-path-storage']);

export interface RootDistributorOptions {
  readonly client: KubeClient;
  readonly ca: CertificateAuthority;
  readonly clock: Clock;
  readonly log: Logger;
  /** Numbers in [0, 1) for retry jitter. */
  readonly random?: () => number;
  /** ConfigMap name; env PILOT_CA_CERT_CONFIGMAP in Istio. */
  readonly configMapName?: string;
}

export interface RootDistributor {
  close(): void;
}

export function startRootDistributor(options: RootDistributorOptions): RootDistributor {
  const { client, clock, log } = options;
  const random = options.random ?? Math.random;
  const name = options.configMapName ?? ROOT_CONFIG_MAP;
  const namespaces = createInformer<Namespace>(client, NAMESPACES, { clock, log, random });
  const maps = createInformer<ConfigMap>(client, CONFIG_MAPS, {
    clock,
    log,
    random,
    fieldSelector: `metadata.name=${name}`,
  });
  const reconcile = async (namespace: string): Promise<void> => {
    const found = namespaces.get(undefined, namespace);
    if (!found || found.metadata.deletionTimestamp || found.status?.phase === 'Terminating') return;
    const bundle = options.ca.rootBundlePem();
    const current = maps.get(namespace, name);
    if (current && isRight(current, bundle)) return;
    try {
      if (current) await client.update<ConfigMap>(CONFIG_MAPS, mend(current, bundle));
      else await client.create<ConfigMap>(CONFIG_MAPS, fresh(namespace, name, bundle));
    } catch (error) {
      // The namespace is going away, or it went.
      if (error instanceof KubeError && (error.code === 404 || error.code === 403) && isGone(error)) return;
      throw error;
    }
  };
  const queue = createWorkQueue({ name: 'root-distributor', run: reconcile, clock, log, random });
  const add = (namespace: string): void => {
    if (!SKIPPED.has(namespace)) queue.add(namespace);
  };
  const unsubscribe = options.ca.onRootChange(() => {
    for (const namespace of namespaces.list()) add(namespace.metadata.name);
  });
  Promise.all([namespaces.synced, maps.synced]).then(() => {
    namespaces.onChange((change) => {
      if (change.kind !== 'deleted') add(change.object.metadata.name);
    });
    maps.onChange((change) => add(change.object.metadata.namespace ?? ''));
  });
  return {
    close() {
      unsubscribe();
      queue.close();
      namespaces.close();
      maps.close();
    },
  };
}

function isRight(map: ConfigMap, bundle: string): boolean {
  return map.data?.[ROOT_KEY] === bundle && map.metadata.labels?.[LABEL] === 'true';
}

/** Only our key and label are put right; what others added stays. */
function mend(map: ConfigMap, bundle: string): ConfigMap {
  return {
    ...map,
    metadata: { ...map.metadata, labels: { ...map.metadata.labels, [LABEL]: 'true' } },
    data: { ...map.data, [ROOT_KEY]: bundle },
  };
}

function fresh(namespace: string, name: string, bundle: string): ConfigMap {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, namespace, labels: { [LABEL]: 'true' } },
    data: { [ROOT_KEY]: bundle },
  };
}

function isGone(error: KubeError): boolean {
  return error.code === 404 || /being terminated/.test(error.message);
}

// What a pod needs before its containers: address, shared namespaces, /etc files, tokens and volumes. Used by the pod worker.
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { Pod } from '../../api/kubernetes/pod.ts';
import { errorText } from '../../base/runtime/log.ts';
import { removePodCgroups } from './cgroups.ts';
import { writePodFiles } from './container-start.ts';
import type { PodFacts } from './fields.ts';
import { kernelHostname, podHosts, podResolvConf } from './names.ts';
import type { PodContext } from './pod-context.ts';
import type { PodStore } from './pod-store.ts';
import { ensureSandbox, removeSandbox } from './sandbox.ts';
import { createPodTokens } from './tokens.ts';
import { setUpVolumes, tearDownVolumes, type VolumeDirs } from './volumes.ts';

export interface PodSetup {
  readonly dirs: VolumeDirs;
  facts(): PodFacts;
  /** Throws; MountError for volumes. Safe to repeat. */
  prepare(pod: Pod): Promise<void>;
  /** Writes changed ConfigMaps, Secrets, labels and tokens into the volumes. */
  refreshVolumes(pod: Pod): Promise<void>;
  /** Gives back address, namespaces and volumes; logs stay. */
  release(): Promise<void>;
  /** Deletes everything of the pod. */
  forget(): Promise<void>;
}

/** When the API server refuses a token's renewal. */
const TOKEN_RETRY_MS = 10_000;

export function createPodSetup(context: PodContext, uid: string, store: PodStore): PodSetup {
  const { layout } = context.settings;
  const podRun = layout.podRun(uid);
  const podDisk = layout.podDisk(uid);
  const dirs: VolumeDirs = { run: path.join(podRun, 'volumes'), disk: path.join(podDisk, 'volumes') };
  const tokens = createPodTokens(context.client, context.clock);
  let prepared = false;
  let released = false;
  let cancelRenewal = (): void => {};
  const facts = (): PodFacts => ({
    podIp: store.state.podIp ?? '',
    hostIp: context.hostIp,
    capacity: context.capacity,
  });

  const renewLater = (pod: Pod, atLeastMs: number): void => {
    cancelRenewal();
    const next = tokens.nextRenewal();
    if (next === undefined || released) return;
    cancelRenewal = context.clock.after(Math.max(atLeastMs, next - context.clock.now()), () => {
      refreshVolumes(pod).catch((error) => {
        context.log.warn('token not renewed', { pod: pod.metadata.name, error: errorText(error) });
        renewLater(pod, TOKEN_RETRY_MS);
      });
    });
  };
  const refreshVolumes = async (pod: Pod): Promise<void> => {
    await tokens.refresh(pod);
    // The pod may have gone while the API server was asked.
    if (released) return;
    const token = tokens.get;
    setUpVolumes(pod, dirs, { pod, facts: facts(), lookup: context.lookup, token });
    renewLater(pod, 0);
  };
  return {
    dirs,
    facts,
    refreshVolumes,
    async prepare(pod) {
      if (prepared) return;
      const hostname = kernelHostname(pod, context.dns.clusterDomain);
      const [network] = await Promise.all([
        context.network.attachPod(uid),
        ensureSandbox(podRun, hostname),
        tokens.refresh(pod),
      ]);
      writeOnce(podRun, {
        'resolv.conf': podResolvConf(pod, context.dns),
        hostname: `${hostname}\n`,
        hosts: podHosts(pod, network.ip, context.dns.clusterDomain),
      });
      store.update({ podIp: network.ip, netnsPath: network.netnsPath, sandbox: true });
      await refreshVolumes(pod);
      prepared = true;
    },
    async release() {
      released = true;
      cancelRenewal();
      tearDownVolumes(podRun);
      removeSandbox(podRun);
      await context.network.detachPod(uid);
      await removePrepared(podRun, dirs);
      if (store.state.sandbox) store.update({ sandbox: false });
    },
    async forget() {
      removePodCgroups(layout, uid);
      await Promise.all([rm(podRun, { recursive: true, force: true }), rm(podDisk, { recursive: true, force: true })]);
    },
  };
}

/** The application may have changed them since; `hosts` is written last. */
function writeOnce(podRun: string, files: Readonly<Record<string, string>>): void {
  if (!existsSync(path.join(podRun, 'etc', 'hosts'))) writePodFiles(podRun, files);
}

async function removePrepared(podRun: string, dirs: VolumeDirs): Promise<void> {
  await Promise.all([
    rm(path.join(podRun, 'volumes'), { recursive: true, force: true }),
    rm(path.join(podRun, 'sandbox'), { force: true }),
    rm(dirs.disk, { recursive: true, force: true }),
  ]);
}

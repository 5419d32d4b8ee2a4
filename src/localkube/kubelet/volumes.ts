// The volumes of one pod as directories of the host, and the mounts of a container. Called by the pod worker.
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  realpathSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import type { Container, VolumeMount } from '../../api/kubernetes/container.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import type { HostPathVolumeSource, Volume } from '../../api/kubernetes/volume.ts';
import { errorText } from '../../base/runtime/log.ts';
import { writePayload } from './atomic-writer.ts';
import { expandVariables } from './env.ts';
import type { BindMount } from './oci.ts';
import { type PayloadInput, volumePayload } from './payload.ts';
import { parseQuantity } from './quantity.ts';
import { mount, mountPoints, unmount } from './sys.ts';

export interface VolumeDirs {
  /** On the run tmpfs: secrets, tokens, memory. */
  readonly run: string;
  /** On disk: emptyDir. */
  readonly disk: string;
}

/** A volume could not be set up; the message is the kubelet's event text. */
export class MountError extends Error {
  constructor(volume: string, cause: unknown) {
    super(`MountVolume.SetUp failed for volume "${volume}" : ${errorText(cause)}`);
    this.name = 'MountError';
  }
}

const KNOWN_SOURCES = ['emptyDir', 'hostPath', 'secret', 'configMap', 'projected', 'downwardAPI'];

/** Makes or updates every volume; safe to repeat. Throws {@link MountError}. */
export function setUpVolumes(pod: Pod, dirs: VolumeDirs, input: PayloadInput): void {
  const gid = pod.spec.securityContext?.fsGroup;
  for (const volume of pod.spec.volumes ?? []) {
    try {
      setUp(volume, dirs, input, gid);
    } catch (error) {
      throw new MountError(volume.name, error);
    }
  }
}

function setUp(volume: Volume, dirs: VolumeDirs, input: PayloadInput, gid: number | undefined): void {
  if (volume.hostPath) {
    checkHostPath(volume.hostPath);
    return;
  }
  const dir = volumeDir(volume, dirs);
  if (volume.emptyDir) {
    makeEmptyDir(volume, dir, gid);
    return;
  }
  const payload = volumePayload(volume, input);
  if (!payload) {
    const source = Object.keys(volume).find((name) => name !== 'name') ?? 'none';
    throw new Error(`volume source ${source} is not supported by localkube: use one of ${KNOWN_SOURCES.join(', ')}`);
  }
  mkdirSync(dir, { recursive: true, mode: 0o755 });
  chmodSync(dir, 0o755);
  writePayload(dir, payload, gid);
}

/** An empty volume source (`- name: x`) means emptyDir only after defaulting, which is the API server's work. */
function volumeDir(volume: Volume, dirs: VolumeDirs): string {
  if (volume.hostPath) return volume.hostPath.path;
  const root = volume.emptyDir && volume.emptyDir.medium !== 'Memory' ? dirs.disk : dirs.run;
  return path.join(root, volume.name);
}

function makeEmptyDir(volume: Volume, dir: string, gid: number | undefined): void {
  const { medium, sizeLimit } = volume.emptyDir!;
  if (medium && medium !== 'Memory')
    throw new Error(`emptyDir medium ${JSON.stringify(medium)} is not supported by localkube`);
  const mode = gid === undefined ? 0o777 : 0o2777;
  if (medium === 'Memory') {
    // A directory without its mount is what a crash left.
    if (mountPoints().some((point) => point.path === dir)) return;
    mkdirSync(dir, { recursive: true });
    const size = sizeLimit === undefined ? undefined : parseQuantity(sizeLimit);
    const limit = size ? `,size=${Math.ceil(size)}` : '';
    mount('tmpfs', dir, 'tmpfs', 0, `mode=${mode.toString(8)},gid=${gid ?? 0}${limit}`);
    return;
  }
  if (existsSync(dir)) return;
  // Complete before it has its name: a crash in between leaves no volume with wrong rights.
  const draft = `${dir}.new`;
  mkdirSync(draft, { recursive: true });
  chmodSync(draft, mode);
  if (gid !== undefined) chownSync(draft, 0, gid);
  renameSync(draft, dir);
}

function checkHostPath(source: HostPathVolumeSource): void {
  const { path: at, type = '' } = source;
  if (type === '') return;
  if (type === 'DirectoryOrCreate') mkdirSync(at, { recursive: true, mode: 0o755 });
  else if (type === 'FileOrCreate' && !existsSync(at)) writeFileSync(at, '', { mode: 0o644 });
  const stat = existsSync(at) ? statSync(at) : undefined;
  const matches: Readonly<Record<string, boolean | undefined>> = {
    Directory: stat?.isDirectory(),
    DirectoryOrCreate: stat?.isDirectory(),
    File: stat?.isFile(),
    FileOrCreate: stat?.isFile(),
    Socket: stat?.isSocket(),
    CharDevice: stat?.isCharacterDevice(),
    BlockDevice: stat?.isBlockDevice(),
  };
  if (!(type in matches)) throw new Error(`hostPath type ${JSON.stringify(type)} is unknown`);
  if (!matches[type])
    throw new Error(`hostPath type check failed: ${at} is not a ${type.replace('OrCreate', '').toLowerCase()}`);
}

/** Throws when a mount names no volume, or a subPath leaves it. */
export function containerMounts(
  pod: Pod,
  container: Container,
  dirs: VolumeDirs,
  env: ReadonlyMap<string, string>,
): readonly BindMount[] {
  return (container.volumeMounts ?? []).map((wanted) => {
    const volume = pod.spec.volumes?.find((v) => v.name === wanted.name);
    if (!volume) throw new Error(`volume mount ${JSON.stringify(wanted.name)} names no volume of the pod`);
    const readOnly = (wanted.readOnly ?? false) || isGenerated(volume);
    const source = subPath(volumeDir(volume, dirs), wanted, env);
    return { source, target: wanted.mountPath, readOnly, ...propagation(wanted) };
  });
}

function isGenerated(volume: Volume): boolean {
  return Boolean(volume.configMap ?? volume.secret ?? volume.projected ?? volume.downwardAPI);
}

function propagation(wanted: VolumeMount): { readonly propagation?: BindMount['propagation'] } {
  if (wanted.mountPropagation === 'HostToContainer') return { propagation: 'rslave' };
  if (wanted.mountPropagation === 'Bidirectional') return { propagation: 'rshared' };
  return {};
}

function subPath(dir: string, wanted: VolumeMount, env: ReadonlyMap<string, string>): string {
  const relative = wanted.subPathExpr ? expandVariables(wanted.subPathExpr, env) : wanted.subPath;
  if (!relative) return dir;
  if (relative.startsWith('/') || relative.split('/').includes('..'))
    throw new Error(`subPath ${JSON.stringify(relative)} must be a path inside the volume`);
  const full = path.join(dir, relative);
  if (!existsSync(full)) mkdirSync(full, { recursive: true, mode: 0o755 });
  // A container may have planted a symbolic link.
  const real = realpathSync(full);
  const root = realpathSync(dir);
  if (real !== root && !real.startsWith(`${root}/`))
    throw new Error(`subPath ${JSON.stringify(relative)} leaves the volume`);
  return real;
}

/** Unmounts memory volumes below `dir`. */
export function tearDownVolumes(dir: string): void {
  for (const point of mountPoints()) if (point.path.startsWith(`${dir}/`)) unmount(point.path);
}

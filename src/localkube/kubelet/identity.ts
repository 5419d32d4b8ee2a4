// As whom a container runs: uid, gid, groups and capabilities, and its own passwd, group and shadow files. Pure.
import type { Container } from '../../api/kubernetes/container.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import type { ImageUser } from '../images/catalog.ts';

export interface RunAs {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
}

/** What containerd and Docker give by default. */
const DEFAULT_CAPABILITIES = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FSETID',
  'FOWNER',
  'MKNOD',
  'NET_RAW',
  'SETGID',
  'SETUID',
  'SETFCAP',
  'SETPCAP',
  'NET_BIND_SERVICE',
  'SYS_CHROOT',
  'KILL',
  'AUDIT_WRITE',
];

/** In the kernel's order, so that a bit of CapBnd is an index. */
const ALL_CAPABILITIES = (
  'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST ' +
  'NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE ' +
  'SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM ' +
  'BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE'
).split(' ');

/** The names of the capabilities in a /proc/PID/status mask (CapBnd). */
export function capabilitiesInMask(hex: string): ReadonlySet<string> {
  const mask = BigInt(`0x${hex}`);
  return new Set(ALL_CAPABILITIES.filter((_, bit) => (mask >> BigInt(bit)) & 1n));
}

/** Throws when an unknown capability is named. `available`: what the host lets us give. */
export function capabilities(container: Container, available: ReadonlySet<string>): readonly string[] {
  const context = container.securityContext;
  const plain = (name: string): string => {
    const short = name.toUpperCase().replace(/^CAP_/, '');
    if (short !== 'ALL' && !ALL_CAPABILITIES.includes(short))
      throw new Error(`unknown capability ${JSON.stringify(name)}`);
    return short;
  };
  if (context?.privileged) return ALL_CAPABILITIES.filter((c) => available.has(c)).map((c) => `CAP_${c}`);
  const add = (context?.capabilities?.add ?? []).map(plain);
  const drop = (context?.capabilities?.drop ?? []).map(plain);
  let set = new Set(add.includes('ALL') ? ALL_CAPABILITIES : DEFAULT_CAPABILITIES);
  if (drop.includes('ALL')) set = new Set();
  else for (const name of drop) set.delete(name);
  for (const name of add) if (name !== 'ALL') set.add(name);
  return ALL_CAPABILITIES.filter((c) => set.has(c) && available.has(c)).map((c) => `CAP_${c}`);
}

/** Throws with the kubelet's words when runAsNonRoot is not kept. */
export function runAs(pod: Pod, container: Container, image: ImageUser | undefined): RunAs {
  const podContext = pod.spec.securityContext;
  const own = container.securityContext;
  const uid = own?.runAsUser ?? podContext?.runAsUser ?? image?.uid ?? 0;
  const imageGid = uid === image?.uid ? image.gid : 0;
  const gid = own?.runAsGroup ?? podContext?.runAsGroup ?? imageGid;
  if ((own?.runAsNonRoot ?? podContext?.runAsNonRoot) && uid === 0) {
    const stated = own?.runAsUser ?? podContext?.runAsUser;
    throw new Error(
      stated === undefined
        ? `container has runAsNonRoot and image will run as root (pod: "${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})", container: ${container.name})`
        : `container's runAsUser breaks non-root policy (pod: "${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})", container: ${container.name})`,
    );
  }
  const groups = [...(podContext?.supplementalGroups ?? [])];
  if (podContext?.fsGroup !== undefined) groups.push(podContext.fsGroup);
  return { uid, gid, additionalGids: [...new Set(groups)] };
}

/** Host accounts up to here are the system's; above are people, whom containers must not see. */
const LAST_SYSTEM_UID = 999;
const NOBODY = 65534;

export interface AccountFiles {
  readonly passwd: string;
  readonly group: string;
  readonly shadow: string;
}

/** The container's own account files: the host's system accounts and the image's user. No password works. */
export function accountFiles(hostPasswd: string, hostGroup: string, user: ImageUser | undefined): AccountFiles {
  const keep = (line: string): boolean => {
    const [name, , id] = line.split(':');
    const number = Number(id);
    return Boolean(name) && (number <= LAST_SYSTEM_UID || number === NOBODY);
  };
  const passwd = hostPasswd.split('\n').filter((line) => {
    const [name, , uid] = line.split(':');
    return keep(line) && name !== user?.name && Number(uid) !== user?.uid;
  });
  const group = hostGroup.split('\n').filter((line) => {
    const [name, , gid] = line.split(':');
    return keep(line) && name !== user?.name && Number(gid) !== user?.gid;
  });
  if (user) {
    passwd.push(`${user.name}:x:${user.uid}:${user.gid}::${user.home}:${user.shell}`);
    group.push(`${user.name}:x:${user.gid}:`);
  }
  // sudo's account check wants an entry; `*` matches no password.
  const shadow = passwd.map((line) => `${line.split(':', 1)[0]}:*:19000:0:99999:7:::`);
  return { passwd: `${passwd.join('\n')}\n`, group: `${group.join('\n')}\n`, shadow: `${shadow.join('\n')}\n` };
}

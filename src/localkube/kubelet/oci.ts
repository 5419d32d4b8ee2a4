// The OCI runtime configuration of one container. Pure. Called when a container starts.
import type { Container } from '../../api/kubernetes/container.ts';
import { CHECKOUT } from '../images/catalog.ts';
import type { RunAs } from './identity.ts';
import { parseQuantity } from './quantity.ts';

export interface BindMount {
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
  readonly propagation?: 'rprivate' | 'rslave' | 'rshared';
  /** Set-user-id bits and devices in it mean nothing: for folders of the host's disk that containers write. */
  readonly inert?: boolean;
}

export interface OciInput {
  readonly container: Container;
  readonly argv: readonly string[];
  readonly env: ReadonlyMap<string, string>;
  readonly cwd: string;
  readonly runAs: RunAs;
  readonly capabilities: readonly string[];
  readonly seccomp: object | undefined;
  readonly rootfs: string;
  readonly checkout: string;
  /** Paths inside the checkout to hide (the home directory, when it is there). */
  readonly hidden: readonly string[];
  readonly mounts: readonly BindMount[];
  readonly namespaces: { readonly network: string; readonly ipc: string; readonly uts: string; readonly pid?: string };
  readonly cgroupsPath: string;
  readonly sysctls: Readonly<Record<string, string>>;
  readonly shm: string;
  readonly cgroupMount: boolean;
}

/** Processes of one container. */
const PIDS_LIMIT = 4096;
const CPU_PERIOD_US = 100_000;
const MIN_SHARES = 2;
const MASKED = ['/proc/kcore', '/proc/keys', '/proc/timer_list', '/proc/sched_debug', '/sys/firmware', '/proc/scsi'];
const READ_ONLY = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

export function ociConfig(input: OciInput): object {
  const { container, runAs } = input;
  const privileged = container.securityContext?.privileged ?? false;
  const escalation = privileged || (container.securityContext?.allowPrivilegeEscalation ?? true);
  const caps = input.capabilities;
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: container.tty ?? false,
      user: { uid: runAs.uid, gid: runAs.gid, additionalGids: runAs.additionalGids },
      args: input.argv,
      env: [...input.env].map(([name, value]) => `${name}=${value}`),
      cwd: input.cwd,
      capabilities: { bounding: caps, effective: caps, permitted: caps },
      noNewPrivileges: !escalation,
    },
    root: { path: input.rootfs, readonly: container.securityContext?.readOnlyRootFilesystem ?? false },
    mounts: [...systemMounts(input, privileged), ...input.mounts.map(bindMount)],
    linux: {
      namespaces: [
        { type: 'mount' },
        { type: 'pid', path: input.namespaces.pid },
        { type: 'network', path: input.namespaces.network },
        { type: 'ipc', path: input.namespaces.ipc },
        { type: 'uts', path: input.namespaces.uts },
      ],
      cgroupsPath: input.cgroupsPath,
      sysctl: input.sysctls,
      seccomp: input.seccomp,
      resources: {
        devices: [{ allow: privileged, access: 'rwm' }],
        ...cgroupLimits(container),
      },
      ...(privileged ? {} : { maskedPaths: MASKED, readonlyPaths: READ_ONLY }),
    },
  };
}

function bindMount(mount: BindMount): object {
  return {
    destination: mount.target,
    type: 'bind',
    source: mount.source,
    options: [
      'rbind',
      mount.readOnly ? 'ro' : 'rw',
      mount.propagation ?? 'rprivate',
      ...(mount.inert ? ['nosuid', 'nodev'] : []),
    ],
  };
}

function systemMounts(input: OciInput, privileged: boolean): readonly object[] {
  const rw = privileged ? 'rw' : 'ro';
  const none = ['nosuid', 'noexec', 'nodev'];
  const mounts: object[] = [
    { destination: '/proc', type: 'proc', source: 'proc', options: none },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
    },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: none },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...none, rw] },
  ];
  if (input.cgroupMount)
    mounts.push({
      destination: '/sys/fs/cgroup',
      type: 'cgroup',
      source: 'cgroup',
      options: [...none, 'relatime', rw],
    });
  mounts.push(
    { destination: '/dev/shm', type: 'bind', source: input.shm, options: ['rbind', 'rw', 'nosuid', 'nodev'] },
    {
      destination: CHECKOUT,
      type: 'bind',
      source: input.checkout,
      options: ['rbind', 'ro', 'rprivate', 'nosuid', 'nodev'],
    },
  );
  for (const hidden of input.hidden)
    mounts.push({ destination: hidden, type: 'tmpfs', source: 'tmpfs', options: [...none, 'ro', 'size=4k'] });
  return mounts;
}

/** cgroup v1 words; runc translates them for v2. */
function cgroupLimits(container: Container): object {
  const { limits, requests } = container.resources ?? {};
  const memory = limits?.memory === undefined ? undefined : parseQuantity(limits.memory);
  const cpu = limits?.cpu === undefined ? undefined : parseQuantity(limits.cpu);
  const shares = parseQuantity(requests?.cpu ?? limits?.cpu ?? 0) ?? 0;
  return {
    ...(memory ? { memory: { limit: Math.floor(memory) } } : {}),
    cpu: {
      shares: Math.max(MIN_SHARES, Math.round(shares * 1024)),
      ...(cpu ? { quota: Math.max(1000, Math.round(cpu * CPU_PERIOD_US)), period: CPU_PERIOD_US } : {}),
    },
    pids: { limit: PIDS_LIMIT },
  };
}

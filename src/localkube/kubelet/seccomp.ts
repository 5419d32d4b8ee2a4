// The filter behind seccompProfile RuntimeDefault: system calls that change the machine, its kernel or other containers are
// refused, each unless the container has the capability it is for. Pure. Called by oci.ts.
import type { Container } from '../../api/kubernetes/container.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';

/** Refused always: nothing in a container has a use for them. */
const ALWAYS = [
  ...['add_key', 'keyctl', 'request_key', 'userfaultfd', 'vmsplice', 'lookup_dcookie', 'nfsservctl', 'quotactl_fd'],
  ...['io_uring_enter', 'io_uring_register', 'io_uring_setup', 'move_pages', 'migrate_pages', 'vserver', 'uselib'],
];

/** Refused without the capability. */
const UNLESS: Readonly<Record<string, readonly string[]>> = {
  CAP_SYS_ADMIN: [
    ...['mount', 'umount', 'umount2', 'mount_setattr', 'move_mount', 'open_tree', 'fsopen', 'fsconfig', 'fsmount'],
    ...['fspick', 'pivot_root', 'setns', 'unshare', 'quotactl', 'fanotify_init', 'swapon', 'swapoff', '_sysctl'],
    ...['bpf', 'perf_event_open', 'setdomainname', 'sethostname'],
  ],
  CAP_DAC_READ_SEARCH: ['open_by_handle_at'],
  CAP_SYS_BOOT: ['reboot', 'kexec_load', 'kexec_file_load'],
  CAP_SYS_MODULE: ['init_module', 'finit_module', 'delete_module', 'create_module', 'query_module', 'get_kernel_syms'],
  CAP_SYS_PACCT: ['acct'],
  CAP_SYS_PTRACE: ['kcmp', 'process_madvise', 'pidfd_getfd'],
  CAP_SYS_RAWIO: ['iopl', 'ioperm'],
  CAP_SYS_TIME: ['settimeofday', 'stime', 'clock_settime', 'clock_settime64', 'adjtimex', 'clock_adjtime'],
  CAP_SYS_TTY_CONFIG: ['vhangup'],
  CAP_SYSLOG: ['syslog'],
};
/** As `unshare` by another door: namespaces asked for in clone's flags (CLONE_NEWNS … CLONE_NEWNET, CLONE_NEWTIME apart). */
const NAMESPACE_FLAGS = 0x7e02_0000;
const EPERM = 1;
const ENOSYS = 38;

/** Undefined: no filter, as Kubernetes does by default and for privileged containers. */
export function seccompFilter(pod: Pod, container: Container, capabilities: readonly string[]): object | undefined {
  const own = container.securityContext;
  const type = (own?.seccompProfile ?? pod.spec.securityContext?.seccompProfile)?.type;
  if (type !== 'RuntimeDefault' || own?.privileged) return undefined;
  const has = new Set(capabilities);
  const names = Object.entries(UNLESS).flatMap(([capability, calls]) => (has.has(capability) ? [] : calls));
  const deny = { action: 'SCMP_ACT_ERRNO', errnoRet: EPERM };
  const namespaces = has.has('CAP_SYS_ADMIN')
    ? []
    : [
        // Flag by flag: a filter compares one masked value at a time.
        ...flagsOf(NAMESPACE_FLAGS).map((flag) => ({
          ...deny,
          names: ['clone'],
          args: [{ index: 0, value: flag, valueTwo: flag, op: 'SCMP_CMP_MASKED_EQ' }],
        })),
        // Its flags lie in memory, out of a filter's sight: libc falls back to clone.
        { action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS, names: ['clone3'] },
      ];
  return {
    defaultAction: 'SCMP_ACT_ALLOW',
    architectures: ARCHITECTURES[process.arch] ?? [],
    syscalls: [{ ...deny, names: [...ALWAYS, ...names] }, ...namespaces],
  };
}

/** With those the same kernel also serves, or a 32-bit program would go round the filter. */
const ARCHITECTURES: Readonly<Record<string, readonly string[]>> = {
  x64: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
  arm64: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
};

function flagsOf(mask: number): readonly number[] {
  return Array.from({ length: 31 }, (_, bit) => 2 ** bit).filter((flag) => (mask & flag) !== 0);
}

// Where the kubelet keeps what, under the home directory. `run` is a tmpfs: gone after a reboot, with everything that ran.
import { createHash } from 'node:crypto';
import path from 'node:path';

export interface Layout {
  /** Eight hex digits that stand for this home in names of cgroups. */
  readonly instance: string;
  readonly home: string;
  /** Persistent: logs and emptyDirs. */
  readonly disk: string;
  readonly run: string;
  /** runc's own state. */
  readonly runcRoot: string;
  /** `<id>.pid` and `<id>.exit` appear here. */
  readonly signals: string;
  readonly bases: string;
  readonly pods: string;
  readonly compileCache: string;
  podRun(uid: string): string;
  podDisk(uid: string): string;
}

export function layoutOf(home: string): Layout {
  const run = path.join(home, 'run', 'kubelet');
  const disk = path.join(home, 'localkube', 'kubelet');
  return {
    instance: createHash('sha256').update(home).digest('hex').slice(0, 8),
    home,
    disk,
    run,
    runcRoot: path.join(run, 'runc'),
    signals: path.join(run, 'signals'),
    bases: path.join(run, 'bases'),
    pods: path.join(run, 'pods'),
    compileCache: path.join(home, 'cache', 'node-compile'),
    podRun: (uid) => path.join(run, 'pods', uid),
    podDisk: (uid) => path.join(disk, 'pods', uid),
  };
}

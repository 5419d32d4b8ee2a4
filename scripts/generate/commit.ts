// generated/commit: the commit this checkout stands at, for the version line of the proxy. Called by main.ts.
import { spawnSync } from 'node:child_process';
import { realpathSync, writeFileSync } from 'node:fs';

/** Without git, or in another project's checkout, nothing is written. */
export function generateCommit(root: string, out: string): void {
  const git = (...args: string[]): string => {
    const { status, stdout } = spawnSync('git', args, { cwd: root, encoding: 'utf8' });
    return status === 0 ? stdout.trim() : '';
  };
  const commit = git('rev-parse', 'HEAD');
  if (/^[0-9a-f]{40}$/.test(commit) && git('rev-parse', '--show-toplevel') === realpathSync(root))
    writeFileSync(out, commit);
}

// `down`, also after a crash: no namespace, rule, mount or process left behind. Runs last; uses a cluster of its own.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { eventually, root, run } from './cluster.ts';

const cli = path.join(root, 'meltemi');

/** Everything on this machine that names the home or the instance. */
function leftovers(home: string, instance: string): readonly string[] {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((l) => l.includes(home) || l.includes(`mt-${instance}`));
  const namespaces = execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' })
    .split('\n')
    .filter((l) => l.includes(instance));
  const processes = execFileSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' })
    .split('\n')
    .filter((l) => l.includes(home));
  const links = execFileSync('ip', ['-o', 'link'], { encoding: 'utf8' })
    .split('\n')
    .filter((l) => l.includes(instance));
  const cgroups = execFileSync(
    'sh',
    ['-c', `find /sys/fs/cgroup -maxdepth 3 -name '*${instance}*' 2>/dev/null || true`],
    { encoding: 'utf8' },
  ).split('\n');
  return [...mounts, ...namespaces, ...processes, ...links, ...cgroups].filter((l) => l.trim() !== '');
}

for (const crash of [false, true])
  test(`down leaves nothing behind${crash ? ' after a crash' : ''}`, async () => {
    const home = realpathSync(mkdtempSync(path.join(tmpdir(), 'meltemi-down-')));
    const up = run(cli, ['up', '--bare', '--home', home]);
    assert.equal(up.status, 0, up.stderr);
    const kubectl = (...args: string[]) =>
      run(process.env.KUBECTL!, args, { env: { KUBECONFIG: path.join(home, 'kubeconfig') } });
    assert.equal(kubectl('create', 'deployment', 'web', '--image=nginx', '--replicas=2').status, 0);
    assert.equal(kubectl('expose', 'deployment', 'web', '--port=80').status, 0);
    assert.equal(kubectl('rollout', 'status', 'deployment/web', '--timeout=60s').status, 0);
    const state = JSON.parse(readFileSync(path.join(home, 'localkube', 'state.json'), 'utf8')) as {
      pid: number;
      instance: string;
    };
    assert.ok(leftovers(home, state.instance).length > 0, 'the check sees a running cluster');
    if (crash) process.kill(state.pid, 'SIGKILL');
    const down = run(cli, ['down', '--home', home]);
    assert.equal(down.status, 0, down.stderr);
    await eventually(() => assert.deepEqual(leftovers(home, state.instance), []));
    rmSync(home, { recursive: true });
  });

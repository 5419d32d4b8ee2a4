// istio-iptables in namespaces of the test's own: the exact rules as iptables lists them, and their effect. Needs root.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, test } from 'node:test';

const main = new URL('../../src/data-plane/capture/main.ts', import.meta.url).pathname;
const netns = `mt-captest-${process.pid}`;
const STANDARD = [
  '-p',
  '15001',
  '-z',
  '15006',
  '-u',
  '1337',
  '-m',
  'REDIRECT',
  '-i',
  '*',
  '-x',
  '',
  '-b',
  '*',
  '-d',
  '15090,15021,15020',
];

const run = (...command: string[]) => spawnSync('ip', ['netns', 'exec', netns, ...command], { encoding: 'utf8' });
const istioIptables = (...args: string[]) => run(process.execPath, main, ...args);
const natRules = (): string => run('iptables', '-t', 'nat', '-S').stdout;

before(() => {
  assert.equal(spawnSync('ip', ['netns', 'add', netns]).status, 0);
  run('ip', 'link', 'set', 'lo', 'up');
});
after(() => {
  spawnSync('ip', ['netns', 'del', netns]);
});

const EXPECTED = `-P PREROUTING ACCEPT
-P INPUT ACCEPT
-P OUTPUT ACCEPT
-P POSTROUTING ACCEPT
-N ISTIO_INBOUND
-N ISTIO_IN_REDIRECT
-N ISTIO_OUTPUT
-N ISTIO_REDIRECT
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
`;

test('the kernel lists the standard rules, once, however often it runs', () => {
  const first = istioIptables(...STANDARD);
  assert.equal(first.status, 0, first.stderr);
  assert.equal(natRules(), EXPECTED);
  assert.equal(istioIptables(...STANDARD).status, 0);
  assert.equal(natRules(), EXPECTED);
});

test('validation succeeds with the rules and exits 126 without them', () => {
  const good = istioIptables(...STANDARD, '--run-validation', '--skip-rule-apply');
  assert.equal(good.status, 0, good.stderr);
  assert.equal(istioIptables(...STANDARD, '--cleanup-only').status, 0);
  assert.ok(!natRules().includes('ISTIO_'));
  const bad = istioIptables(...STANDARD, '--run-validation', '--skip-rule-apply', '--probe-timeout=300ms');
  assert.equal(bad.status, 126);
  assert.match(bad.stderr, /no redirected connection on port 15006/);
});

test('every variation is accepted by the kernel and can be cleaned up', () => {
  const args = [
    '-i',
    '10.0.0.0/8',
    '-x',
    '10.1.0.0/16',
    '-q',
    '9000',
    '-o',
    '3306',
    '-b',
    '80',
    '-c',
    'eth1',
    '-k',
    'net1',
  ];
  const all = [...args, '--redirect-dns', '--capture-all-dns', '--drop-invalid', '--dual-stack'];
  const result = istioIptables(...all);
  assert.equal(result.status, 0, result.stderr);
  assert.match(run('iptables', '-t', 'raw', '-S').stdout, /CT --zone 2/);
  assert.match(run('ip6tables', '-t', 'nat', '-S').stdout, /-s ::6\/128/);
  assert.equal(istioIptables(...all, '--cleanup-only').status, 0);
  for (const command of ['iptables', 'ip6tables'])
    for (const table of ['nat', 'raw', 'mangle'])
      assert.ok(!/^-[AN]/m.test(run(command, '-t', table, '-S').stdout), `${command} ${table}`);
});

test('a dry run prints and changes nothing; TPROXY is refused', () => {
  const dry = istioIptables(...STANDARD, '--dry-run');
  assert.match(dry.stdout, /-A OUTPUT -j ISTIO_OUTPUT/);
  assert.ok(!natRules().includes('ISTIO_'));
  const refused = istioIptables('-m', 'TPROXY');
  assert.equal(refused.status, 2);
  assert.match(refused.stderr, /TPROXY \(-m\) is not supported/);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CaptureUsageError, parseCaptureCommand } from './options.ts';
import { buildRules, type Family } from './rules.ts';

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
const rules = (args: readonly string[], family: Family = 'ipv4', resolvConf = '', env = {}): string[] =>
  buildRules(parseCaptureCommand(args, env, resolvConf).options, family)
    .trimEnd()
    .split('\n');
const outbound = (args: readonly string[]): string[] =>
  rules(args)
    .filter((line) => line.startsWith('-A ISTIO_OUTPUT '))
    .map((line) => line.slice('-A ISTIO_OUTPUT '.length));

test('the standard command gives the standard rules in their order', () => {
  assert.deepEqual(rules(STANDARD), [
    '*nat',
    '-N ISTIO_INBOUND',
    '-N ISTIO_REDIRECT',
    '-N ISTIO_IN_REDIRECT',
    '-N ISTIO_OUTPUT',
    '-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN',
    '-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001',
    '-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006',
    '-A PREROUTING -p tcp -j ISTIO_INBOUND',
    '-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN',
    '-A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN',
    '-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN',
    '-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT',
    '-A OUTPUT -j ISTIO_OUTPUT',
    '-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN',
    '-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT',
    '-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN',
    '-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN',
    '-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT',
    '-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN',
    '-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN',
    '-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN',
    '-A ISTIO_OUTPUT -j ISTIO_REDIRECT',
    'COMMIT',
  ]);
});

test('listed inbound ports leave out the catch-all and the exclusions; none means no inbound capture', () => {
  const listed = rules(['-i', '*', '-b', '80,8080', '-d', '15090']);
  assert.deepEqual(
    listed.filter((line) => line.startsWith('-A ISTIO_INBOUND')),
    [
      '-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN',
      '-A ISTIO_INBOUND -p tcp --dport 80 -j ISTIO_IN_REDIRECT',
      '-A ISTIO_INBOUND -p tcp --dport 8080 -j ISTIO_IN_REDIRECT',
    ],
  );
  assert.ok(!rules(['-i', '*', '-b', '']).some((line) => line.includes('PREROUTING')));
});

test('outbound exclusions and inclusions stand where they decide', () => {
  const got = outbound(['-i', '10.0.0.0/8,fd00::/8', '-x', '10.1.0.0/16', '-q', '9000', '-o', '3306', '-b', '*']);
  assert.deepEqual(got.slice(0, 3), [
    '-p tcp --dport 3306 -j RETURN',
    '-p udp --dport 3306 -j RETURN',
    '-s 127.0.0.6/32 -o lo -j RETURN',
  ]);
  assert.deepEqual(got.slice(-4), [
    '-d 127.0.0.1/32 -j RETURN',
    '-d 10.1.0.0/16 -j RETURN',
    '-p tcp --dport 9000 -j ISTIO_REDIRECT',
    '-d 10.0.0.0/8 -j ISTIO_REDIRECT',
  ]);
  assert.ok(!outbound(['-i', '', '-b', '*']).some((line) => line.includes('ISTIO_REDIRECT')));
  assert.ok(!outbound(['-i', '127.0.0.0/8', '-b', '*']).some((line) => line.includes('! --uid-owner')));
});

test('interfaces, owner groups, several users, IPv6', () => {
  const excluded = rules(['-i', '*', '-b', '*', '-c', 'eth1']);
  assert.ok(
    excluded.indexOf('-A PREROUTING -i eth1 -j RETURN') < excluded.indexOf('-A PREROUTING -p tcp -j ISTIO_INBOUND'),
  );
  assert.ok(excluded.indexOf('-A OUTPUT -o eth1 -j RETURN') < excluded.indexOf('-A OUTPUT -j ISTIO_OUTPUT'));
  const virtual = rules(['-i', '*', '-b', '*', '-k', 'net1']).filter((line) => line.startsWith('-I'));
  assert.deepEqual(virtual, ['-I PREROUTING 1 -i net1 -j RETURN', '-I PREROUTING 1 -i net1 -j ISTIO_REDIRECT']);
  const groups = rules(STANDARD, 'ipv4', '', { ISTIO_OUTBOUND_OWNER_GROUPS: 'java,202' });
  assert.ok(groups.includes('-A ISTIO_OUTPUT -m owner ! --gid-owner java -m owner ! --gid-owner 202 -j RETURN'));
  const users = outbound(['-i', '*', '-b', '*', '-u', '1337,0']);
  assert.equal(users.filter((line) => line === '-m owner --uid-owner 0 -j RETURN').length, 1);
  assert.ok(users.indexOf('-m owner --uid-owner 0 -j RETURN') < users.indexOf('-m owner --gid-owner 1337 -j RETURN'));
  const six = rules(STANDARD, 'ipv6');
  assert.ok(six.includes('-A ISTIO_OUTPUT -s ::6/128 -o lo -j RETURN'));
  assert.ok(six.includes('-A ISTIO_OUTPUT -d ::1/128 -j RETURN'));
});

test('DNS capture', () => {
  const got = rules([...STANDARD, '--redirect-dns'], 'ipv4', 'search x\nnameserver 10.96.0.10\nnameserver fd00::1\n');
  assert.ok(
    got.includes(
      '-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp -m multiport ! --dports 53,15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT',
    ),
  );
  assert.ok(got.includes('-A ISTIO_OUTPUT -o lo -p tcp ! --dport 53 -m owner ! --gid-owner 1337 -j RETURN'));
  const output = got.filter((line) => line.startsWith('-A ISTIO_OUTPUT '));
  const dns = output.indexOf('-A ISTIO_OUTPUT -j ISTIO_OUTPUT_DNS');
  assert.equal(output[dns + 1], '-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN');
  assert.ok(got.includes('-A ISTIO_OUTPUT_DNS -p udp --dport 53 -d 10.96.0.10/32 -j REDIRECT --to-ports 15053'));
  const raw = got.slice(0, got.indexOf('COMMIT'));
  assert.equal(raw[0], '*raw');
  assert.deepEqual(
    raw.filter((line) => line.startsWith('-A')),
    [
      '-A OUTPUT -j ISTIO_OUTPUT_DNS',
      '-A ISTIO_OUTPUT_DNS -p udp --dport 53 -m owner --uid-owner 1337 -j CT --zone 1',
      '-A ISTIO_OUTPUT_DNS -p udp --sport 15053 -m owner --uid-owner 1337 -j CT --zone 2',
      '-A ISTIO_OUTPUT_DNS -p udp --dport 53 -m owner --gid-owner 1337 -j CT --zone 1',
      '-A ISTIO_OUTPUT_DNS -p udp --sport 15053 -m owner --gid-owner 1337 -j CT --zone 2',
      '-A PREROUTING -j ISTIO_INBOUND',
      '-A ISTIO_OUTPUT_DNS -p udp --dport 53 -d 10.96.0.10/32 -j CT --zone 2',
      '-A ISTIO_INBOUND -p udp --sport 53 -s 10.96.0.10/32 -j CT --zone 1',
    ],
  );
});

test('the environment stands in for absent flags', () => {
  const env = {
    ENVOY_PORT: '16001',
    ISTIO_SERVICE_CIDR: '*',
    ISTIO_INBOUND_PORTS: '*',
    INVALID_DROP: 'true',
    DRY_RUN: 'true',
  };
  const command = parseCaptureCommand([], env, '');
  assert.equal(command.options.outboundPort, 16001);
  assert.equal(command.dryRun, true);
  assert.match(
    buildRules(command.options, 'ipv4'),
    /^\*mangle\n-N ISTIO_DROP\n-A PREROUTING -m conntrack --ctstate INVALID -j ISTIO_DROP\n-A ISTIO_DROP -j DROP\n/,
  );
});

test('what is wrong or not supported is refused by name', () => {
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [['-m', 'TPROXY'], /TPROXY.*not supported/],
    [['-m', 'MAGIC'], /"MAGIC".*unknown/],
    [['--native-nftables'], /native-nftables is not supported/],
    [['-p', '70000'], /-p: "70000" is not a port/],
    [['-x', '*'], /-x: "\*" is not allowed/],
    [['-i', '10.0.0.0/33'], /-i: "10.0.0.0\/33"/],
    [['-i', '10.0.0.0/8 -j ACCEPT'], /-i:/],
    [['-c', 'eth0 -j ACCEPT'], /-c:/],
    [['-u', '1 -j ACCEPT'], /user or group id/],
    [['--what'], /--what/],
  ];
  for (const [args, message] of cases)
    assert.throws(
      () => parseCaptureCommand(args, {}, ''),
      (error) => error instanceof CaptureUsageError && message.test(error.message),
      args.join(' '),
    );
});

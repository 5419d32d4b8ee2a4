// Envoy's command line as the agent gives it, and as users mistype it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCommandLine } from './command-line.ts';

test("the agent's command line", () => {
  const parsed = parseCommandLine(
    '-c etc/istio/proxy/envoy-rev.json --drain-time-s 45 --drain-strategy immediate --local-address-ip-version v4 --file-flush-interval-msec 1000 --disable-hot-restart --allow-unknown-static-fields -l warning --component-log-level misc:error --skip-deprecated-logs --config-yaml {} --concurrency 2'.split(
      ' ',
    ),
  );
  assert.ok(parsed.kind === 'run');
  const {
    configPath,
    drainTimeS,
    drainStrategy,
    fileFlushMs,
    allowUnknownStaticFields,
    logLevel,
    configYaml,
    concurrency,
    mode,
  } = parsed.options;
  assert.deepEqual(
    [
      configPath,
      drainTimeS,
      drainStrategy,
      fileFlushMs,
      allowUnknownStaticFields,
      logLevel,
      configYaml,
      concurrency,
      mode,
    ],
    ['etc/istio/proxy/envoy-rev.json', 45, 'immediate', 1000, true, 'warning', '{}', 2, 'serve'],
  );
});

test('other spellings and mistakes', () => {
  const long = parseCommandLine(['--config-path=a.yaml', '--mode=validate']);
  assert.ok(long.kind === 'run' && long.options.mode === 'validate' && long.options.configPath === 'a.yaml');
  assert.equal(parseCommandLine(['--version']).kind, 'version');
  assert.equal(parseCommandLine(['--help']).kind, 'help');
  const message = (...argv: string[]) => {
    const parsed = parseCommandLine(argv);
    return parsed.kind === 'error' ? parsed.message : parsed.kind;
  };
  assert.equal(message('-c', 'a', '--mode', 'x'), "error: unknown mode 'x'");
  assert.match(message('--nope'), /Argument: --nope\n\s+Couldn't find match for argument/);
  assert.match(message('-c'), /Missing a value/);
  assert.match(message('-c', 'a', '-l', 'loud'), /invalid log level specified 'loud'/);
  assert.match(message('-c', 'a', '--drain-time-s', 'soon'), /Couldn't read argument value from string 'soon'/);
  assert.match(message(), /At least one of --config-path or --config-yaml/);
});

test("every flag of Envoy's help is taken or refused by name", () => {
  const message = (...argv: string[]) => {
    const parsed = parseCommandLine(argv);
    return parsed.kind === 'error' ? parsed.message : parsed.kind;
  };
  const run =
    '-c a --stats-tag a:b --stats-tag c:d --cpuset-threads --parent-shutdown-time-s 1 --file-flush-min-size-kb 1 --service-zone z --hot-restart-version --log-path /x --log-format %v --log-format-escaped --admin-address-path /x --skip-deprecated-logs --ignore-unknown-dynamic-fields --reject-unknown-dynamic-fields --allow-unknown-fields --base-id-path /x --skip-hot-restart-parent-stats --skip-hot-restart-on-no-parent --use-dynamic-base-id --base-id 1 --log-stacktrace-single-entry';
  assert.equal(message(...run.split(' ')), 'hot-restart-version');
  assert.equal(message(...run.replace(' --hot-restart-version', '').split(' ')), 'run');
  for (const flag of ['--enable-core-dump', '--enable-mutex-tracing', '--enable-fine-grain-logging'])
    assert.match(message('-c', 'a', flag), new RegExp(`error: ${flag} is not supported by this proxy`));
  for (const flag of ['--socket-path', '--socket-mode', '--disable-extensions'])
    assert.match(message('-c', 'a', flag, 'x'), new RegExp(`error: ${flag} is not supported by this proxy`));
  assert.match(message('-c', 'a', '--restart-epoch', '1'), /POST \/drain_listeners\?graceful/);
  assert.equal(
    message('-c', 'a', '--restart-epoch', '1', '--use-dynamic-base-id'),
    'error: cannot use --restart-epoch=1 with --use-dynamic-base-id',
  );
  assert.match(
    message('-c', 'a', '--mode', 'serve', '--mode', 'serve'),
    /Argument: \(--mode\)\n\s+Argument already set!/,
  );
  assert.match(message('-c'), /Argument: -c \(--config-path\)/);
  assert.equal(message('-c', 'a', '--', '--nope'), 'run');
  assert.equal(message('-c', 'a', '--stats-tag', 'foo'), "error: misformatted stats-tag 'foo'");
  assert.equal(message('-c', 'a', '--component-log-level', 'nope:info'), "error: invalid component specified 'nope'");
  assert.equal(message('-c', 'a', '--drain-strategy', 'foo'), "error: unknown drain-strategy 'foo'");
  const zero = parseCommandLine(['-c', 'a', '--concurrency', '0']);
  assert.ok(zero.kind === 'run' && zero.options.concurrency === 1);
});

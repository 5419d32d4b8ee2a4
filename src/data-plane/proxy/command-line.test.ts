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

// The process's log: patterns of spdlog, levels by component.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileFormat, createProcessLog, parseComponentLevels } from './process-log.ts';

const clock = { now: () => Date.UTC(2026, 10, 28, 13, 4, 5, 67), after: () => () => {} };

test("Envoy's default pattern and the others", () => {
  const line = (format: string) =>
    compileFormat(format, { clock, pid: 7, thread: 9 })('upstream', 'warning', 'a "b"\n').slice(0, -1);
  assert.match(
    line('[%Y-%m-%d %T.%e][%t][%l][%n] %v'),
    /^\[2026-11-28 \d\d:\d4:05\.067\]\[9\]\[warning\]\[upstream\] a "b"\n$/,
  );
  assert.equal(line('%L %P %% %q %g%j|%_'), 'W 7 % %q a \\"b\\"\\n|a \\"b\\"\\n');
  assert.equal(line('trailing %'), 'trailing %');
});

test('levels of components override the common one until that is set again', () => {
  const lines: string[] = [];
  const components = parseComponentLevels('upstream:debug,config:off');
  assert.ok(typeof components !== 'string');
  const { log, control } = createProcessLog({
    level: 'warn',
    components,
    format: '%n %l %v',
    escaped: false,
    clock,
    pid: 1,
    thread: 1,
    write: (line) => lines.push(line),
  });
  log.info('no');
  log.warn('yes', { key: 'two words', absent: undefined });
  log.scope('upstream').debug('deep');
  log.scope('config').error('never');
  assert.deepEqual(lines, ['main warning yes key="two words"\n', 'upstream debug deep\n']);
  assert.equal(control.setOne('upstream', 'loud'), false);
  assert.equal(control.setOne('nope', 'info'), false);
  assert.equal(control.set('loud'), false);
  assert.ok(control.set('error'));
  assert.deepEqual(new Set(control.all().map(([, level]) => level)), new Set(['error']));
  log.critical('last');
  assert.equal(lines.at(-1), 'main critical last\n');
});

test("Envoy's words for wrong component levels", () => {
  assert.equal(parseComponentLevels('upstream:foo'), "error: invalid log level specified 'foo'");
  assert.equal(parseComponentLevels('nope:debug'), "error: invalid component specified 'nope'");
  assert.equal(parseComponentLevels('upstream'), "error: component log level not correctly specified 'upstream'");
});

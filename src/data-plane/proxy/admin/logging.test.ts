// Words and effects of the stock binary.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createProcessLog } from '../process-log.ts';
import { logging } from './logging.ts';
import type { AdminTarget } from './target.ts';

function loggers() {
  const { control } = createProcessLog({
    level: 'info',
    components: new Map(),
    format: '%v',
    escaped: false,
    clock: { now: () => 0, after: () => () => {} },
    pid: 1,
    thread: 1,
    write: () => {},
  });
  return (query: string) => {
    const { status, body } = logging({ log: control } as unknown as AdminTarget, new URLSearchParams(query));
    const at = (name: string) => new RegExp(`^  ${name}: (.*)$`, 'm').exec(String(body))?.[1];
    return [status ?? 200, /^error: (.*)$/m.exec(String(body))?.[1], at('admin'), at('config')];
  };
}

test('what is changed, and what is refused without changing anything', () => {
  const ask = loggers();
  for (const [query, ...expected] of [
    ['', 200, undefined, 'info', 'info'],
    ['paths=admin:debug,nope:info', 400, 'unknown logger name', 'info', 'info'],
    ['paths=admin:debug,config:x', 400, 'unknown logger level', 'info', 'info'],
    ['paths=admin', 400, 'empty logger name or empty logger level', 'info', 'info'],
    ['paths=:debug', 400, 'empty logger name or empty logger level', 'info', 'info'],
    ['paths=admin:debug:x', 400, 'unknown logger level', 'info', 'info'],
    ['nope=x', 400, 'unknown logger level', 'info', 'info'],
    ['nope=', 200, undefined, 'info', 'info'],
    ['level=warn', 400, 'unknown logger level', 'info', 'info'],
    ['group=admin:debug', 400, 'group parameter requires fine-grain logging to be enabled', 'info', 'info'],
    ['admin=debug&config=debug', 400, 'invalid number of parameters', 'info', 'info'],
    ['admin=&config=', 200, undefined, 'info', 'info'],
    ['paths=config:debug,,admin:trace', 200, undefined, 'trace', 'debug'],
    ['config=error', 200, undefined, 'trace', 'error'],
    ['level=debug&level=info', 200, undefined, 'debug', 'debug'],
  ] as const)
    assert.deepEqual(ask(query), expected, query);
});

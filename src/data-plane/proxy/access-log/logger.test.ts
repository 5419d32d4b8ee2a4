// How lines become bytes in a file: blocks, flushes by size and time, a disk that is slow.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFakeClock } from '../../../../test/fakes/fake-clock.ts';
import { LOG_BLOCK_BYTES, MAX_LOG_BACKLOG_BYTES, MAX_LOG_LINE_BYTES } from '../limits.ts';
import { StatsStore } from '../stats/stats.ts';
import { AccessLogManager, type LogDeps } from './logger.ts';

function start(flushBytes = 64 * 1024) {
  const clock = createFakeClock(0);
  const stats = new StatsStore();
  const written: { path: string; text: string }[] = [];
  const pending: (() => void)[] = [];
  let slow = false;
  const manager = new AccessLogManager({
    files: {
      open(path: string) {
        if (path.startsWith('/nowhere')) throw Object.assign(new Error(), { code: 'ENOENT' });
      },
      append(path: string, bytes: Buffer, done: (error: Error | undefined) => void) {
        const finish = (): void => {
          written.push({ path, text: bytes.toString() });
          done(undefined);
        };
        if (slow) pending.push(finish);
        else finish();
      },
      reopen() {},
    },
    clock,
    stats,
    flushMs: 1_000,
    flushBytes,
  } as unknown as LogDeps);
  return {
    clock,
    written,
    write: manager.writer('/log'),
    manager,
    dropped: () => stats.counter('filesystem.write_dropped').value,
    holdWrites: () => {
      slow = true;
    },
    release: () => {
      slow = false;
      for (const finish of pending.splice(0)) finish();
    },
  };
}

test('lines wait for the flush time and leave together, in UTF-8', async () => {
  const log = start();
  log.write('one\n');
  log.write('zwölf → 12\n');
  assert.deepEqual(log.written, []);
  await log.clock.advance(1_000);
  assert.deepEqual(log.written, [{ path: '/log', text: 'one\nzwölf → 12\n' }]);
  await log.clock.advance(10_000);
  assert.equal(log.written.length, 1, 'nothing new, nothing written');
});

test('enough bytes leave at once', () => {
  const log = start(10);
  log.write('12345\n');
  log.write('67890\n');
  assert.deepEqual(log.written, [{ path: '/log', text: '12345\n67890\n' }]);
});

test('nothing is lost or reordered while the disk is slow; far behind, lines are dropped and counted', () => {
  const log = start(1);
  log.holdWrites();
  log.write('first\n');
  const line = `${'x'.repeat(LOG_BLOCK_BYTES / 4)}\n`;
  let kept = 0;
  for (let i = 0; i < 200 && log.dropped() === 0; i++) {
    log.write(line);
    if (log.dropped() === 0) kept += 1;
  }
  assert.equal(log.dropped(), 1);
  assert.ok(kept * line.length <= MAX_LOG_BACKLOG_BYTES + 2 * LOG_BLOCK_BYTES, `${kept} lines kept`);
  log.release();
  log.manager.flush();
  assert.equal(log.written.map((each) => each.text).join(''), `first\n${line.repeat(kept)}`);
});

test('a line over the limit is dropped, a large one passes', () => {
  const log = start(1);
  log.write('y'.repeat(MAX_LOG_LINE_BYTES + 1));
  assert.equal(log.dropped(), 1);
  const large = 'z'.repeat(LOG_BLOCK_BYTES * 2);
  log.write(large);
  assert.equal(log.written[0]?.text, large);
});

test('a file that cannot be opened is refused at once', () => {
  const { manager } = start();
  assert.throws(
    () => manager.writer('/nowhere/log'),
    /^ConfigError: unable to open file '\/nowhere\/log': No such file or directory$/,
  );
  assert.doesNotThrow(() => manager.writer('/somewhere/log'));
});

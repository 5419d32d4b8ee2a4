// The cron language.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextTime, parseCron, zoneOffset } from './cron-schedule.ts';

const next = (schedule: string, after: string, zone?: string): string | undefined => {
  const parsed = parseCron(schedule);
  assert.equal(parsed.kind, 'ok', schedule);
  const at =
    parsed.kind === 'ok' ? nextTime(parsed.value, Date.parse(after), zone ? zoneOffset(zone) : undefined) : undefined;
  return at === undefined ? undefined : new Date(at).toISOString().slice(0, 16);
};

test('the next time of a schedule', () => {
  assert.equal(next('* * * * *', '2030-01-01T00:00:00Z'), '2030-01-01T00:01');
  assert.equal(next('*/15 9-17 * * mon-fri', '2030-01-04T17:50:00Z'), '2030-01-07T09:00');
  assert.equal(next('0 0 1 */3 *', '2030-01-01T00:00:00Z'), '2030-04-01T00:00');
  assert.equal(next('0 12 13 * 5', '2030-01-01T00:00:00Z'), '2030-01-04T12:00');
  assert.equal(next('@weekly', '2030-01-01T00:00:00Z'), '2030-01-06T00:00');
  assert.equal(next('0 0 * * 7', '2030-01-01T00:00:00Z'), '2030-01-06T00:00');
  assert.equal(next('30 5/10 * * *', '2030-01-01T06:00:00Z'), '2030-01-01T15:30');
  assert.equal(next('0 8 * * *', '2030-07-01T00:00:00Z', 'Europe/Athens'), '2030-07-01T05:00');
  assert.equal(next('0 0 30 2 *', '2030-01-01T00:00:00Z'), undefined);
});

test('bad schedules are refused', () => {
  for (const bad of [
    '',
    '* * * *',
    '60 * * * *',
    '* * * * 8',
    '5-1 * * * *',
    '*/0 * * * *',
    'x * * * *',
    'TZ=UTC * * * * *',
  ])
    assert.equal(parseCron(bad).kind, 'invalid', bad);
  assert.equal(zoneOffset('Nowhere/Land'), undefined);
});

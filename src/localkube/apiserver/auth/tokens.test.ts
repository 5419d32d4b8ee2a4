import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Clock, systemClock } from '../../../base/runtime/clock.ts';
import { silentLog } from '../../../base/runtime/log.ts';
import { startApiServer } from '../server.ts';

interface Review {
  readonly status: { readonly authenticated?: boolean; readonly error?: string; readonly token?: string };
}

const ACCOUNTS = { group: '', version: 'v1', resource: 'serviceaccounts', kind: 'ServiceAccount', namespaced: true };

test('a token is good until its time is over, and refused after', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'meltemi-tokens-'));
  let aheadMs = 0;
  const clock: Clock = { now: () => systemClock.now() + aheadMs, after: systemClock.after };
  const api = await startApiServer({ dataDir: dir, clock, log: silentLog, port: 0 });
  try {
    const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'web', namespace: 'default' } };
    await api.client.create(ACCOUNTS, account);
    const spec = { audiences: ['istio-ca'], expirationSeconds: 600 };
    const made = await api.client.post<Review>('/api/v1/namespaces/default/serviceaccounts/web/token', { spec });
    const review = (): Promise<Review> =>
      api.client.post('/apis/authentication.k8s.io/v1/tokenreviews', {
        spec: { token: made.status.token, audiences: ['istio-ca'] },
      });
    aheadMs = 590_000;
    assert.equal((await review()).status.authenticated, true);
    aheadMs = 700_000;
    const late = await review();
    assert.notEqual(late.status.authenticated, true);
    assert.match(late.status.error ?? '', /expired/);
  } finally {
    await api.close();
    rmSync(dir, { recursive: true });
  }
});

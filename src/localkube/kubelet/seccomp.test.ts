import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Container, SecurityContext } from '../../api/kubernetes/container.ts';
import type { Pod, PodSecurityContext } from '../../api/kubernetes/pod.ts';
import { seccompFilter } from './seccomp.ts';

function filter(
  own: SecurityContext | undefined,
  ofPod: PodSecurityContext | undefined,
  caps: readonly string[] = [],
): string {
  const container: Container = { name: 'a', ...(own ? { securityContext: own } : {}) };
  const pod: Pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p' },
    spec: { containers: [container], ...(ofPod ? { securityContext: ofPod } : {}) },
  };
  return JSON.stringify(seccompFilter(pod, container, caps)) ?? 'none';
}
const DEFAULT = { seccompProfile: { type: 'RuntimeDefault' } };
const UNCONFINED = { seccompProfile: { type: 'Unconfined' } };

test('RuntimeDefault of the pod or the container makes a filter, the container decides', () => {
  assert.match(filter(undefined, DEFAULT), /"keyctl"/);
  assert.match(filter(DEFAULT, undefined), /"keyctl"/);
  assert.match(filter(DEFAULT, UNCONFINED), /"keyctl"/);
  assert.equal(filter(UNCONFINED, DEFAULT), 'none');
  assert.equal(filter(undefined, undefined), 'none');
  assert.equal(filter({ privileged: true }, DEFAULT), 'none');
});

test('a capability opens the calls it is for', () => {
  assert.match(filter(DEFAULT, undefined), /"mount".*"clone"/);
  const admin = filter(DEFAULT, undefined, ['CAP_SYS_ADMIN']);
  assert.doesNotMatch(admin, /"mount"|"clone"|"clone3"/);
  assert.match(admin, /"reboot"/);
});

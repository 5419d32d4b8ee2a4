import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseImageReference, resolveImage } from './resolve.ts';

test('any registry and any tag name the same program', () => {
  for (const name of [
    'istio/proxyv2',
    'docker.io/istio/proxyv2:1.23.2',
    'gcr.io/istio-release/proxyv2:1.30-alpha',
    'localhost:5000/mirror/istio/proxyv2@sha256:'.concat('a'.repeat(64)),
  ]) {
    const image = resolveImage(name);
    assert.equal(image.kind, 'found', name);
    assert.equal(image.kind === 'found' && image.entry.user?.uid, 1337);
  }
  for (const name of [
    'nginx',
    'nginx:1.27-alpine',
    'docker.io/library/nginx',
    'registry.k8s.io/pause:3.10',
    'docker.io/kennethreitz/httpbin',
  ])
    assert.equal(resolveImage(name).kind, 'found', name);
});

test('a registry port is not a tag', () => {
  assert.deepEqual(parseImageReference('localhost:5000/busybox'), {
    registry: 'localhost:5000',
    repository: 'busybox',
    tag: 'latest',
  });
});

test('an unknown image says which images there are', () => {
  const image = resolveImage('example/nothing:1');
  assert.equal(image.kind, 'unknown');
  assert.match(image.kind === 'unknown' ? image.message : '', /busybox.*catalog\.ts/);
});

test('what is no reference is invalid', () => {
  for (const name of ['', 'UPPER', 'a b', 'a:', 'x@sha256:12', 'a//b'])
    assert.equal(resolveImage(name).kind, 'invalid', name);
});

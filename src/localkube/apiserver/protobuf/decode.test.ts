import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ApiError } from '../status.ts';
import { decodeProtobuf } from './decode.ts';

const bytes = (field: number, value: Buffer | string): Buffer => {
  const body = Buffer.from(value);
  return Buffer.concat([Buffer.from([(field << 3) | 2, body.length]), body]);
};
const number = (field: number, value: number): Buffer => Buffer.from([field << 3, value]);

function envelope(apiVersion: string, kind: string, raw: Buffer): Buffer {
  const type = Buffer.concat([bytes(1, apiVersion), bytes(2, kind)]);
  return Buffer.concat([Buffer.from('k8s\0'), bytes(1, type), bytes(2, raw)]);
}

test('a message becomes the JSON that Go would write: empty fields left out, pointers to zero kept', () => {
  const meta = Buffer.concat([
    bytes(1, 'web'),
    bytes(2, ''),
    bytes(8, ''),
    bytes(11, Buffer.concat([bytes(1, 'a'), bytes(2, 'b')])),
  ]);
  const strategy = bytes(2, Buffer.concat([bytes(2, Buffer.concat([number(1, 1), bytes(3, '25%')]))]));
  const spec = Buffer.concat([number(1, 0), number(5, 0), bytes(4, strategy)]);
  const body = envelope('apps/v1', 'Deployment', Buffer.concat([bytes(1, meta), bytes(2, spec)]));
  assert.deepEqual(decodeProtobuf(body), {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', labels: { a: 'b' } },
    spec: { replicas: 0, strategy: { rollingUpdate: { maxSurge: '25%' } } },
  });
});

test('secret bytes become base64, inlined messages join their parent', () => {
  const data = bytes(2, Buffer.concat([bytes(1, 'k'), bytes(2, Buffer.from([0xff, 0]))]));
  assert.deepEqual(decodeProtobuf(envelope('v1', 'Secret', data)).data, { k: '/wA=' });
  const emptyDir = bytes(2, Buffer.alloc(0));
  const volume = Buffer.concat([bytes(1, 'tmp'), bytes(2, emptyDir)]);
  const pod = decodeProtobuf(envelope('v1', 'Pod', bytes(2, bytes(1, volume))));
  assert.deepEqual(pod.spec, { volumes: [{ name: 'tmp', emptyDir: {} }] });
});

test('garbage is refused with 400, whatever it is', () => {
  const good = envelope('v1', 'Pod', bytes(1, bytes(1, 'x')));
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(good.length), (noise, cut) => {
      for (const body of [
        Buffer.concat([Buffer.from('k8s\0'), noise]),
        Buffer.concat([good.subarray(0, cut), noise]),
      ]) {
        try {
          decodeProtobuf(body);
        } catch (error) {
          assert.ok(error instanceof ApiError && error.code === 400, String(error));
        }
      }
    }),
  );
  assert.throws(() => decodeProtobuf(envelope('v9', 'Pod', Buffer.alloc(0))), /send application\/json/);
});

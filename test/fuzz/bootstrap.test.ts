// Bootstraps from anybody, in every format: a reader answers with a configuration or with ConfigError, soon, whatever the bytes
// are; and what it accepts can be read again from the binary form.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toBinary } from '@bufbuild/protobuf';
import { BootstrapSchema } from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import { type BootstrapSource, loadBootstrap } from '../../src/data-plane/proxy/config/bootstrap.ts';
import { parseTextProto } from '../../src/data-plane/proxy/config/text-proto.ts';
import { parseYaml } from '../../src/data-plane/proxy/config/yaml.ts';
import { corpus, fuzz } from './mutate.ts';

const SEEDS = corpus('bootstrap');
const SLOW_MS = 5_000;

for (const [kind, times] of [
  ['json', 3_000],
  ['yaml', 1_500],
  ['pb_text', 3_000],
  ['pb', 3_000],
] as const)
  for (const allowUnknownFields of [false, true])
    test(`${kind}, unknown fields ${allowUnknownFields ? 'allowed' : 'refused'}`, async () => {
      const options = { parseYaml, parseTextProto, allowUnknownFields };
      await fuzz(SEEDS, times, (input) => {
        const source: BootstrapSource = { name: 'f', text: input.toString('utf8'), bytes: input, kind };
        const start = performance.now();
        try {
          const bootstrap = loadBootstrap([source], options);
          const bytes = toBinary(BootstrapSchema, bootstrap);
          loadBootstrap([{ name: 'again', text: '', bytes, kind: 'pb' }], options);
        } catch (error) {
          assert.equal((error as Error).name, 'ConfigError', (error as Error).stack ?? '');
        }
        assert.ok(performance.now() - start < SLOW_MS, 'it takes too long');
      });
    });

// Fields of xDS resources that their type does not know: skipped with a warning, in silence, or refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { AnySchema } from '@bufbuild/protobuf/wkt';
import { silentLog } from '../../../base/runtime/log.ts';
import { dynamicBootstrap, edsCluster, resource, startAds } from '../testing/discovery.ts';
import { startEngine, until } from '../testing/engine.ts';

/** Field 900, varint 1, behind a cluster. */
function newer(name: string) {
  const any = resource('cds', edsCluster(name));
  return create(AnySchema, { typeUrl: any.typeUrl, value: Buffer.concat([any.value, Buffer.from([0xa0, 0x38, 1])]) });
}

for (const [unknownFields, refused, warnings] of [
  ['warn', 0, 1],
  ['ignore', 0, 0],
  ['reject', 1, 0],
] as const)
  test(`unknown dynamic fields: ${unknownFields}`, async (t) => {
    const ads = await startAds(t);
    const told: string[] = [];
    const log = {
      ...silentLog,
      warn: (message: string, fields?: object) => void told.push(`${message} ${JSON.stringify(fields)}`),
      scope: () => log,
    };
    const { engine, counter } = await startEngine(t, dynamicBootstrap(ads.port), false, {
      options: { unknownFields },
      deps: { log },
    });
    ads.setAny('cds', 'app', newer('app'));
    await until(() => ads.requests.some((request) => request.responseNonce !== ''), 'the answer');
    assert.equal(ads.nacks().length, refused);
    assert.equal(
      engine.clusters.views().some(({ name }) => name === 'app'),
      refused === 0,
    );
    assert.equal(told.filter((line) => line.startsWith('Unknown field')).length, warnings);
    if (refused === 1)
      assert.match(ads.nacks()[0]!.message, /app: .*unknown field number 900 in envoy\.config\.cluster\.v3\.Cluster/);
    else assert.equal(counter('server.dynamic_unknown_fields'), 1);
  });

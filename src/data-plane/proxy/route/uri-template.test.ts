// What a template of a rewrite makes of the variables of a match.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileTemplate } from '../../../base/envoy-api/uri-template.ts';
import { compileTemplateRewrite } from './uri-template.ts';

test('a rewrite puts the variables where its own template says', () => {
  const template = compileTemplate('/api/{version}/{rest=**}', '');
  const rewrite = compileTemplateRewrite('/{rest}/v-{version}', template, '');
  assert.equal(rewrite('/api/v1/a/b'), '/a/b/v-v1');
  assert.equal(rewrite('/other'), undefined);
  assert.throws(() => compileTemplateRewrite('/{nope}', template, 'p'), /mismatch between variables/);
  assert.throws(() => compileTemplateRewrite('x/{rest}', template, 'p'), /is invalid/);
  assert.throws(() => compileTemplateRewrite('/a//{rest}', template, 'p'), /is invalid/);
});

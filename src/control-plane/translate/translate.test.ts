// Golden tests: testdata/<case>.in.yaml (a mesh, a proxy, what to show) → <case>.out.yaml. MELTEMI_GOLDEN=write rewrites them.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { parse, stringify } from 'yaml';
import { TYPE_URL } from '../../base/xds/type-urls.ts';
import { resourcesToJson } from '../serve/resource-json.ts';
import { generate } from './generate.ts';
import { GOLDEN_DIR, goldenCase, goldenCases } from './golden.ts';

for (const name of goldenCases())
  test(`golden: ${name}`, () => {
    const { given, snapshot, proxy } = goldenCase(name);
    const out: Record<string, unknown> = {};
    for (const [type, names] of Object.entries(given.show)) {
      const resources = generate(snapshot, proxy, TYPE_URL[type as keyof typeof TYPE_URL], names);
      out[`${type} names`] = resources.map((r) => r.name);
      // Keys are never written anywhere.
      if (type !== 'secret') out[type] = resourcesToJson(resources.filter((r) => names.includes(r.name)));
    }
    const target = path.join(GOLDEN_DIR, `${name}.out.yaml`);
    if (process.env.MELTEMI_GOLDEN === 'write')
      writeFileSync(target, stringify(out, { lineWidth: 0, aliasDuplicateObjects: false }));
    assert.deepEqual(JSON.parse(JSON.stringify(out)), parse(readFileSync(target, 'utf8')));
  });

// Finds the cases: every YAML file under cases/ and every TypeScript file beside it (`export const cases`). Called by main.ts,
// conformance.test.ts and differences.ts.
import { globSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Case, type CaseFile, loadCases } from './format.ts';

const dir = path.join(import.meta.dirname, 'cases');

export async function loadSuite(only?: string): Promise<readonly CaseFile[]> {
  const wanted = only === undefined ? undefined : path.basename(only).replace(/\.(yaml|ts)$/, '');
  const names = globSync('*.{yaml,ts}', { cwd: dir })
    .filter(
      (name) => !name.endsWith('.test.ts') && (wanted === undefined || name.replace(/\.(yaml|ts)$/, '') === wanted),
    )
    .sort();
  if (wanted !== undefined && names.length === 0) throw new Error(`there is no cases/${wanted}.yaml or .ts`);
  return Promise.all(
    names.map((name) => (name.endsWith('.yaml') ? loadCases(path.join(dir, name)) : loadTypeScript(name))),
  );
}

async function loadTypeScript(name: string): Promise<CaseFile> {
  const module = (await import(pathToFileURL(path.join(dir, name)).href)) as { readonly cases: readonly Case[] };
  return {
    file: `cases/${name}`,
    topic: `${path.basename(name, '.ts')}-ts`,
    cases: module.cases.map((test) => ({ ...test, where: `cases/${name}` })),
  };
}

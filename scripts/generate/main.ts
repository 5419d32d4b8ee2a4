// Makes everything under generated/ from packages the lockfile pins: protobuf code, CRDs, Kubernetes schemas,
// the programs as bundles, and a compile cache. Called by npm's postinstall and by `npm run generate`. Nothing of it is committed.
import { spawn } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { generateCommit } from './commit.ts';
import { generateCompileCache } from './compile-cache.ts';
import { generateCrds } from './crds.ts';
import { generateKubernetesSchemas } from './kubernetes-schemas.ts';
import { generatePrograms } from './programs.ts';
import { generateProto } from './proto.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const out = path.join(root, 'generated');
const SCHEMAS_ONLY = '--schemas-only';

if (process.argv[2] === SCHEMAS_ONLY) {
  generateKubernetesSchemas(root, path.join(out, 'kubernetes'));
  generateCrds(root, path.join(out, 'crds'));
} else {
  await generateAll();
}

async function generateAll(): Promise<void> {
  const started = performance.now();
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  // The schemas depend on nothing else and keep a core busy as long as the rest does.
  const schemas = inOtherProcess(SCHEMAS_ONLY);
  generateCommit(root, path.join(out, 'commit'));
  generateProto(root, path.join(out, 'proto'));
  generatePrograms(root, path.join(out, 'programs'));
  await generateCompileCache(root, path.join(out, 'compile-cache'));
  await schemas;
  console.log(`generated/ made in ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

function inOtherProcess(what: string): Promise<void> {
  const child = spawn(process.execPath, [import.meta.filename, what], { cwd: root, stdio: 'inherit' });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`making the schemas failed (${signal ?? `exit ${code}`})`));
    });
  });
}

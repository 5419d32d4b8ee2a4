// Makes everything under generated/ from packages the lockfile pins: protobuf code, CRDs, and Kubernetes schemas.
// Called by npm's postinstall and by `npm run generate`. Nothing it writes is committed.
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { generateCrds } from './crds.ts';
import { generateKubernetesSchemas } from './kubernetes-schemas.ts';
import { generateProto } from './proto.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const out = path.join(root, 'generated');

const started = performance.now();
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
generateProto(root, path.join(out, 'proto'));
generateKubernetesSchemas(root, path.join(out, 'kubernetes'));
generateCrds(root, path.join(out, 'crds'));
console.log(`generated/ made in ${((performance.now() - started) / 1000).toFixed(1)} s`);

// OUTPUT_CERTS: the workload's key, chain and roots as files for other programs of the pod. Called by wiring.ts.
import { chmod, mkdir, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { WorkloadSecret } from './secret-cache.ts';

/** Each file is replaced whole. `mode` is 0o644 in Kubernetes, 0o600 elsewhere. */
export async function writeCerts(directory: string, secret: WorkloadSecret, mode: number): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (const [name, text] of [
    ['key.pem', secret.keyPem],
    ['cert-chain.pem', secret.chainPem],
    ['root-cert.pem', secret.rootsPem],
  ] as const)
    await writeWhole(path.join(directory, name), text, mode);
}

export async function writeWhole(file: string, text: string, mode: number): Promise<void> {
  const temporary = `${file}.tmp`;
  await writeFile(temporary, text, { mode });
  // The mode of writeFile is cut by the umask, and is not applied to a file left from before.
  await chmod(temporary, mode);
  await rename(temporary, file);
}

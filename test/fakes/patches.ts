// JSON patch and merge patch for the fake client; small, for trusted input only.

export interface JsonPatchStep {
  readonly op: 'add' | 'remove' | 'replace' | 'test';
  readonly path: string;
  readonly value?: unknown;
}

type Json = Record<string, unknown>;
const isRecord = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export function applyMergePatch(target: unknown, patch: unknown): unknown {
  if (!isRecord(patch)) return structuredClone(patch);
  const out: Json = isRecord(target) ? structuredClone(target) : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete out[key];
    else out[key] = applyMergePatch(out[key], value);
  }
  return out;
}

export function applyJsonPatch(target: unknown, steps: readonly JsonPatchStep[]): unknown {
  const root = { '': structuredClone(target) } as Json;
  for (const step of steps) {
    const parts = step.path.split('/').map((p) => p.replaceAll('~1', '/').replaceAll('~0', '~'));
    let at: unknown = root;
    for (const part of parts.slice(0, -1)) at = (at as Json)[part];
    applyStep(at, parts.at(-1)!, step);
  }
  return root[''];
}

function applyStep(at: unknown, key: string, step: JsonPatchStep): void {
  if (typeof at !== 'object' || at === null) throw new Error(`nothing at ${step.path}`);
  if (step.op === 'test') {
    if (JSON.stringify((at as Json)[key]) !== JSON.stringify(step.value))
      throw new Error(`test failed at ${step.path}`);
  } else if (Array.isArray(at)) {
    const index = key === '-' ? at.length : Number(key);
    if (step.op === 'add') at.splice(index, 0, step.value);
    else if (step.op === 'remove') at.splice(index, 1);
    else at[index] = step.value;
  } else if (step.op === 'remove') delete (at as Json)[key];
  else (at as Json)[key] = step.value;
}

// Lab files: examples/*/lab.yaml. Parsed with every mistake named; run by runner.ts.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parseDocument } from 'yaml';
import { UserError } from '../command.ts';

export interface LabStep {
  readonly title: string;
  /** Told before the command. */
  readonly say: string | undefined;
  /** One shell script; the working directory is the lab's folder. */
  readonly run: string;
  readonly exit: number;
  readonly stdout: RegExp | undefined;
  readonly stderr: RegExp | undefined;
  /** Tried again until it matches, this long. */
  readonly withinSeconds: number;
}

export interface Lab {
  readonly name: string;
  readonly title: string;
  readonly summary: string;
  readonly folder: string;
  /** False: it runs without the local cluster. */
  readonly needsCluster: boolean;
  readonly steps: readonly LabStep[];
}

const MAX_WITHIN_SECONDS = 300;

export function labNames(repoRoot: string): readonly string[] {
  const folder = path.join(repoRoot, 'examples');
  return readdirSync(folder)
    .filter((name) => existsSync(path.join(folder, name, 'lab.yaml')))
    .sort();
}

export function loadLab(repoRoot: string, name: string): Lab {
  const names = labNames(repoRoot);
  if (!names.includes(name)) throw new UserError(`There is no lab "${name}". The labs are: ${names.join(', ')}.`);
  const folder = path.join(repoRoot, 'examples', name);
  return parseLab(readFileSync(path.join(folder, 'lab.yaml'), 'utf8'), folder);
}

/** Throws {@link UserError} with every mistake in the file. */
export function parseLab(text: string, folder: string): Lab {
  const doc = parseDocument(text);
  const wrong: string[] = doc.errors.map((e) => e.message.split('\n')[0]!);
  const root = doc.errors.length === 0 ? (doc.toJS() as Record<string, unknown>) : {};
  const steps: LabStep[] = [];
  if (wrong.length === 0) {
    for (const key of Object.keys(root))
      if (!['name', 'title', 'summary', 'cluster', 'steps'].includes(key)) wrong.push(`${key}: unknown field`);
    for (const key of ['name', 'title', 'summary'])
      if (typeof root[key] !== 'string') wrong.push(`${key}: expected text`);
    if (root.cluster !== undefined && root.cluster !== 'local' && root.cluster !== 'none')
      wrong.push('cluster: expected local or none');
    if (!Array.isArray(root.steps) || root.steps.length === 0) wrong.push('steps: expected a list');
    else for (const [i, step] of root.steps.entries()) steps.push(parseStep(step, `steps[${i}]`, wrong));
  }
  if (wrong.length > 0) throw new UserError(`${path.join(folder, 'lab.yaml')}:\n  ${wrong.join('\n  ')}`, 2);
  return {
    name: String(root.name),
    title: String(root.title),
    summary: String(root.summary),
    folder,
    needsCluster: root.cluster !== 'none',
    steps,
  };
}

function parseStep(value: unknown, at: string, wrong: string[]): LabStep {
  const step = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const expect = (typeof step.expect === 'object' && step.expect !== null ? step.expect : {}) as Record<
    string,
    unknown
  >;
  for (const key of Object.keys(step))
    if (!['title', 'say', 'run', 'expect', 'withinSeconds'].includes(key)) wrong.push(`${at}.${key}: unknown field`);
  for (const key of Object.keys(expect))
    if (!['exit', 'stdout', 'stderr'].includes(key)) wrong.push(`${at}.expect.${key}: unknown field`);
  if (typeof step.title !== 'string') wrong.push(`${at}.title: expected text`);
  if (typeof step.run !== 'string') wrong.push(`${at}.run: expected a command`);
  const within = step.withinSeconds ?? 0;
  if (typeof within !== 'number' || within < 0 || within > MAX_WITHIN_SECONDS)
    wrong.push(`${at}.withinSeconds: expected 0 to ${MAX_WITHIN_SECONDS}`);
  const exit = expect.exit ?? 0;
  if (typeof exit !== 'number' || !Number.isInteger(exit)) wrong.push(`${at}.expect.exit: expected a number`);
  return {
    title: String(step.title),
    say: typeof step.say === 'string' ? step.say : undefined,
    run: String(step.run),
    exit: Number(exit),
    stdout: pattern(expect.stdout, `${at}.expect.stdout`, wrong),
    stderr: pattern(expect.stderr, `${at}.expect.stderr`, wrong),
    withinSeconds: Number(within),
  };
}

function pattern(value: unknown, at: string, wrong: string[]): RegExp | undefined {
  if (value === undefined) return undefined;
  try {
    return new RegExp(String(value), 'm');
  } catch (error) {
    wrong.push(`${at}: ${error instanceof Error ? error.message : error}`);
    return undefined;
  }
}

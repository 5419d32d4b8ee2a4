// Runs a lab step by step: what happens, the command, its output, whether it is what was expected. Called by demo and lab.
import { spawn } from 'node:child_process';
import type { Context } from '../command.ts';
import type { Lab, LabStep } from './lab-file.ts';

export interface StepResult {
  readonly step: LabStep;
  readonly ok: boolean;
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Why it is not ok: one line each. */
  readonly differences: readonly string[];
}

/** Output beyond this is cut; the step then shows it. */
const MAX_OUTPUT_BYTES = 1 << 20;
const RETRY_PAUSE_MS = 250;
const STEP_TIMEOUT_MS = 180_000;
const SHOWN_LINES = 60;

export async function runLab(context: Context, lab: Lab, env: NodeJS.ProcessEnv): Promise<readonly StepResult[]> {
  const { terminal } = context;
  const results: StepResult[] = [];
  for (const [i, step] of lab.steps.entries()) {
    terminal.out(`\n${terminal.bold(`${i + 1}/${lab.steps.length}  ${step.title}`)}\n`);
    if (step.say) terminal.out(`${wrap(step.say)}\n`);
    for (const line of step.run.trimEnd().split('\n')) terminal.out(`${terminal.cyan(`  $ ${line}`)}\n`);
    const result = await runStep(context, lab, step, env);
    results.push(result);
    terminal.out(indent(shown(result.stdout + result.stderr)));
    if (result.exit !== 0) terminal.out(`  ${terminal.dim(`exit status ${result.exit}`)}\n`);
    if (result.ok) terminal.out(`${terminal.green('✔')} ${expectation(step)}\n`);
    else for (const difference of result.differences) terminal.out(`${terminal.red('✘')} ${difference}\n`);
    if (!result.ok) break;
  }
  return results;
}

async function runStep(context: Context, lab: Lab, step: LabStep, env: NodeJS.ProcessEnv): Promise<StepResult> {
  const deadline = context.clock.now() + step.withinSeconds * 1000;
  for (;;) {
    const run = await shell(step.run, lab.folder, env);
    const differences = compare(step, run);
    if (differences.length === 0 || context.clock.now() >= deadline)
      return { step, ok: differences.length === 0, ...run, differences };
    await new Promise((resolve) => setTimeout(resolve, RETRY_PAUSE_MS));
  }
}

interface Run {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

function shell(script: string, cwd: string, env: NodeJS.ProcessEnv): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn('/bin/sh', ['-ec', script], {
      cwd,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: STEP_TIMEOUT_MS,
    });
    const keep = (stream: NodeJS.ReadableStream): (() => string) => {
      const chunks: Buffer[] = [];
      let size = 0;
      stream.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size <= MAX_OUTPUT_BYTES) chunks.push(chunk);
      });
      return () => Buffer.concat(chunks).toString('utf8') + (size > MAX_OUTPUT_BYTES ? '\n… cut\n' : '');
    };
    const stdout = keep(child.stdout);
    const stderr = keep(child.stderr);
    child.on('error', reject);
    child.on('close', (code, signal) =>
      resolve({ exit: code ?? 128, stdout: stdout(), stderr: stderr() + (signal ? `ended by ${signal}\n` : '') }),
    );
  });
}

function compare(step: LabStep, run: Run): readonly string[] {
  const differences: string[] = [];
  if (run.exit !== step.exit) differences.push(`exit status ${run.exit}, expected ${step.exit}`);
  if (step.stdout && !step.stdout.test(run.stdout)) differences.push(`standard output does not match ${step.stdout}`);
  if (step.stderr && !step.stderr.test(run.stderr)) differences.push(`standard error does not match ${step.stderr}`);
  return differences;
}

function expectation(step: LabStep): string {
  const parts = [
    ...(step.exit === 0 ? [] : [`exit status ${step.exit}`]),
    ...(step.stdout ? [`output has ${readable(step.stdout)}`] : []),
    ...(step.stderr ? [`error has ${readable(step.stderr)}`] : []),
  ];
  return parts.length === 0 ? 'as expected' : `as expected: ${parts.join(', ')}`;
}

/** RegExp.source escapes slashes, which nobody typed. */
function readable(pattern: RegExp): string {
  return pattern.source.replaceAll('\\/', '/');
}

function shown(text: string): string {
  const lines = text.split('\n');
  if (lines.length <= SHOWN_LINES) return text;
  return [...lines.slice(0, SHOWN_LINES), `… ${lines.length - SHOWN_LINES} more lines`].join('\n');
}
function indent(text: string): string {
  const trimmed = text.trimEnd();
  return trimmed === '' ? '' : `${trimmed.replace(/^/gm, '  ')}\n`;
}
function wrap(text: string, width = 100): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.trim().split(/\s+/)) {
    if (line.length + word.length + 1 > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line].join('\n');
}

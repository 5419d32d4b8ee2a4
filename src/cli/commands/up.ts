// `meltemi up`: the local cluster with the mesh in it, ready when this returns. Running it again is harmless.
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { loadKubeconfig } from '../../base/kube/connection.ts';
import { createHttpKubeClient } from '../../base/kube/http-client.ts';
import { kubeconfigPath, readState, startLocal } from '../cluster/local.ts';
import { boolFlag, type Command, type Context, listFlag, stringFlag, UserError } from '../command.ts';
import { requireEngine } from '../engines.ts';
import { applyPlan } from '../install/apply.ts';
import { installPlan } from '../install/plan.ts';
import { resolveInstall } from '../install/profiles.ts';
import { CLUSTER_PACKAGES, ensurePackages, requireRoot } from '../system-packages.ts';

const ENGINE_METADATA = 'ISTIO_META_ENGINE';
/** The server is on this machine: an answer that takes longer does not come. */
const REQUEST_TIMEOUT_MS = 10_000;

export const up: Command = {
  name: 'up',
  summary: 'Start the local cluster and install the mesh',
  usage: '[--bare] [--engine E] [--profile P] [--set PATH=VALUE] [--home DIR] [--api-port N]',
  options: {
    home: { type: 'string' },
    bare: { type: 'boolean' },
    profile: { type: 'string' },
    set: { type: 'string', multiple: true },
    'api-port': { type: 'string' },
    engine: { type: 'string' },
  },
  maxPositionals: 0,
  help: [
    '--bare           only the cluster, without the mesh',
    '--engine E       proxies run "meltemi" (default) or "envoy" (see "meltemi engine add"); a pod may choose another by annotation',
    '--profile P      installation profile; default: demo',
    '--set PATH=VALUE as in install',
    '--api-port N     port of the API server on 127.0.0.1; default: 6443, or a free one when it is taken',
    '--home DIR       state, kubeconfig and logs; default: $MELTEMI_HOME or ~/.meltemi',
  ],
  async run(context, flags) {
    const engine = requireEngine(context.home, stringFlag(flags, 'engine') ?? 'meltemi');
    const took = await bringUp(context, {
      bare: boolFlag(flags, 'bare'),
      profile: stringFlag(flags, 'profile') ?? 'demo',
      // Everything a proxy is told goes through its pod: the agent obeys it, istiod reads it from the node's metadata.
      sets: [
        ...(engine === 'meltemi' ? [] : [`meshConfig.defaultConfig.proxyMetadata.${ENGINE_METADATA}=${engine}`]),
        ...listFlag(flags, 'set'),
      ],
      apiPort: port(stringFlag(flags, 'api-port')),
    });
    const file = kubeconfigPath(context.home);
    context.terminal.out(
      `\n${took.already ? 'It was up already' : `Up in ${(took.ms / 1000).toFixed(1)} s`}. Use it:\n  export KUBECONFIG=${file}\n  kubectl get pods -A\n`,
    );
    return 0;
  },
};

function port(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 65535)
    throw new UserError(`--api-port ${text}: expected a port number, 1 to 65535.`, 64);
  return value;
}

export interface UpOptions {
  readonly bare: boolean;
  readonly profile: string;
  readonly sets: readonly string[];
  readonly apiPort: number | undefined;
}

/** Starts what is not running, installs what is not installed. Milliseconds it took. */
export async function bringUp(
  context: Context,
  options: UpOptions,
): Promise<{ readonly ms: number; readonly already: boolean }> {
  requireRoot(context, 'The local cluster');
  ensurePackages(context, CLUSTER_PACKAGES);
  const resolved = resolveInstall({ profile: options.profile, files: [], sets: options.sets });
  if (resolved.kind === 'invalid') throw new UserError(resolved.diagnostics.map((d) => d.message).join('\n'));
  const started = performance.now();
  const running = readState(context.home);
  if (running && options.apiPort !== undefined && options.apiPort !== running.apiPort)
    throw new UserError(
      `The cluster of ${context.home} is up on port ${running.apiPort}. "meltemi down" first to move it to ${options.apiPort}.`,
    );
  const already = running !== undefined && existsSync(kubeconfigPath(context.home));
  if (!already) {
    makeHome(context.home);
    const done = context.terminal.progress('Local cluster');
    try {
      const state = await startLocal(context, { apiPort: options.apiPort, onStep: () => {} });
      done({ ok: true, note: `at https://127.0.0.1:${state.apiPort}` });
    } catch (error) {
      done({ ok: false });
      throw error;
    }
  }
  if (!options.bare) await installMesh(context, options, resolved.spec);
  return { ms: performance.now() - started, already };
}

/** Level by level: Node's recursive mkdir spins forever below a directory like /proc. */
function makeHome(home: string): void {
  const missing: string[] = [];
  for (let at = home; !existsSync(at); at = path.dirname(at)) missing.unshift(at);
  try {
    if (missing.length === 0 && !statSync(home).isDirectory()) throw new Error('it is a file');
    for (const directory of missing) mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new UserError(`Cannot keep state in ${home}: ${reason}. Name another directory with --home or MELTEMI_HOME.`);
  }
}

async function installMesh(
  context: Context,
  options: UpOptions,
  spec: Parameters<typeof installPlan>[0],
): Promise<void> {
  const connection = loadKubeconfig(kubeconfigPath(context.home), {
    clock: context.clock,
    readFile: (file) => readFileSync(file, 'utf8'),
  });
  const client = createHttpKubeClient(connection, { timeoutMs: REQUEST_TIMEOUT_MS });
  const done = context.terminal.progress(`Mesh (profile ${options.profile})`);
  try {
    await applyPlan(client, context.clock, installPlan(spec, context.repoRoot), () => {});
    done({ ok: true });
  } catch (error) {
    done({ ok: false });
    throw error;
  } finally {
    client.close();
  }
}

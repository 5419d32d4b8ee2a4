// Finds the program that is the proxy: our own by its name on the PATH, or a stock Envoy. Called by main.ts.
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { type AgentOptions, UsageError } from './options.ts';

/** Where localkube shows what `meltemi engine add` brought; an image of one's own may hold the same. */
export const ENGINES = '/usr/lib/meltemi-engines';

/** Throws {@link UsageError} when the wanted engine is not here. */
export function proxyCommand(options: Pick<AgentOptions, 'engine' | 'env'>, engines: string): string {
  if (options.engine === 'meltemi') return 'envoy';
  const given = options.env.MELTEMI_ENVOY;
  if (given) {
    if (existsSync(given)) return given;
    throw new UsageError(`MELTEMI_ENVOY names ${given}, which is not there`);
  }
  const dir = path.join(engines, 'envoy');
  const versions = existsSync(dir) ? readdirSync(dir).filter((name) => existsSync(path.join(dir, name, 'envoy'))) : [];
  const newest = versions.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1);
  if (newest === undefined)
    throw new UsageError(
      `this pod wants the engine "envoy", but there is none in ${engines}: run "meltemi engine add envoy" on the node, or set MELTEMI_ENVOY`,
    );
  return path.join(dir, newest, 'envoy');
}

// Brings capture rules into the kernel of the current network namespace with the host's iptables. Called by main.ts.
import { spawnSync } from 'node:child_process';
import { buildRules, type CaptureOptions, cleanupCommands, type Family } from './rules.ts';

/** Looked for in this order; the first whose nat table can be read is taken. */
const VARIANTS: Readonly<Record<Family, readonly string[]>> = {
  ipv4: ['iptables', 'iptables-nft', 'iptables-legacy'],
  ipv6: ['ip6tables', 'ip6tables-nft', 'ip6tables-legacy'],
};
const WAIT_SECONDS = '30';

export class CaptureApplyError extends Error {}

/** The iptables that works here. Throws {@link CaptureApplyError} with what each said. */
export function findIptables(family: Family): string {
  const said: string[] = [];
  for (const command of VARIANTS[family]) {
    const result = spawnSync(command, ['-t', 'nat', '-S'], { encoding: 'utf8' });
    if (result.status === 0) return command;
    said.push(`${command}: ${result.error?.message ?? firstLine(result.stderr)}`);
  }
  throw new CaptureApplyError(
    `no usable ${family === 'ipv4' ? 'iptables' : 'ip6tables'} (is the package installed, has this container NET_ADMIN?): ${said.join('; ')}`,
  );
}

/** Applies the rules in one transaction a table; what an earlier run left goes first. */
export function applyRules(command: string, options: CaptureOptions, family: Family): void {
  if (hasResidue(command)) cleanup(command, options);
  const input = buildRules(options, family);
  const result = spawnSync(`${command}-restore`, ['--noflush', `--wait=${WAIT_SECONDS}`], { input, encoding: 'utf8' });
  if (result.status !== 0)
    throw new CaptureApplyError(
      `${command}-restore failed: ${result.error?.message ?? firstLine(result.stderr)}; no rule of that table was applied`,
    );
}

/** Removes every rule and chain these rules make; what is not there is no error. */
export function cleanup(command: string, options: CaptureOptions): void {
  for (const args of cleanupCommands(options))
    spawnSync(command, [`--wait=${WAIT_SECONDS}`, ...args], { stdio: 'ignore' });
}

function hasResidue(command: string): boolean {
  for (const table of ['nat', 'mangle', 'raw']) {
    const result = spawnSync(command, ['-t', table, '-S'], { encoding: 'utf8' });
    if (result.status === 0 && result.stdout.includes('ISTIO_')) return true;
  }
  return false;
}

const firstLine = (text: string): string => text.trim().split('\n')[0] ?? '';

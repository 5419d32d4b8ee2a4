// istio-iptables: redirects a pod's traffic to its proxy. Run by the init containers istio-init and istio-validation.
import { readFileSync } from 'node:fs';
import { errorText } from '../../base/runtime/log.ts';
import { applyRules, cleanup, findIptables } from './apply.ts';
import { type CaptureCommand, CaptureUsageError, parseCaptureCommand } from './options.ts';
import { buildRules, type Family } from './rules.ts';
import { validateCapture } from './validate.ts';

const EXIT_USAGE = 2;
const EXIT_FAILED = 1;
/** Tells the CNI's repair that the pod's rules are missing. */
const EXIT_VALIDATION_FAILED = 126;

const USAGE = `Usage: istio-iptables [flags]
  -p PORT   outbound port of the proxy (15001)       -z PORT   inbound port of the proxy (15006)
  -e PORT   tunnel port, never captured (15008)      -u UIDS   users whose traffic is left alone (1337)
  -g GIDS   groups whose traffic is left alone (as -u)   -m MODE  REDIRECT
  -b PORTS  inbound ports to capture, * = all        -d PORTS  inbound ports to leave alone
  -i CIDRS  outbound ranges to capture, * = all      -x CIDRS  outbound ranges to leave alone
  -q PORTS  outbound ports to capture besides        -o PORTS  outbound ports to leave alone
  -k IFS    virtual interfaces, inbound = outbound   -c IFS    interfaces to leave alone
  --redirect-dns --capture-all-dns --drop-invalid --dual-stack --dry-run --cleanup-only --reconcile --force-apply
  --run-validation --skip-rule-apply --probe-timeout=5s --iptables-probe-port=15002
`;

function readResolvConf(): string {
  try {
    return readFileSync('/etc/resolv.conf', 'utf8');
  } catch {
    return '';
  }
}

function program(command: CaptureCommand): void {
  const families: Family[] = command.dualStack ? ['ipv4', 'ipv6'] : ['ipv4'];
  for (const family of families) {
    if (command.dryRun) {
      process.stdout.write(buildRules(command.options, family));
      continue;
    }
    const iptables = findIptables(family);
    if (command.cleanupOnly) cleanup(iptables, command.options);
    else applyRules(iptables, command.options, family);
    process.stdout.write(`${iptables}: capture rules ${command.cleanupOnly ? 'removed' : 'applied'}\n`);
  }
}

async function validate(command: CaptureCommand): Promise<void> {
  const { uids, gids, inboundPort } = command.options;
  // Only the proxy's own user is redirected to the inbound side; istio-init runs as root.
  if (process.getuid?.() === 0) {
    process.setgid?.(Number(gids[0]));
    process.setuid?.(Number(uids[0]));
  }
  await validateCapture({ inboundPort, probePort: command.validationPort, timeoutMs: command.probeTimeoutMs });
  process.stdout.write('capture rules validated\n');
}

async function main(): Promise<number> {
  const args = process.argv.slice(2);
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(USAGE);
    return 0;
  }
  let command: CaptureCommand;
  try {
    command = parseCaptureCommand(args, process.env, readResolvConf());
  } catch (error) {
    if (!(error instanceof CaptureUsageError)) throw error;
    process.stderr.write(`istio-iptables: ${error.message}\n`);
    return EXIT_USAGE;
  }
  try {
    if (!command.skipRuleApply) program(command);
  } catch (error) {
    process.stderr.write(`istio-iptables: ${errorText(error)}\n`);
    return EXIT_FAILED;
  }
  if (!command.runValidation || command.dryRun || command.cleanupOnly) return 0;
  try {
    await validate(command);
    return 0;
  } catch (error) {
    process.stderr.write(`istio-iptables: validation failed: ${errorText(error)}\n`);
    return EXIT_VALIDATION_FAILED;
  }
}

process.exitCode = await main();

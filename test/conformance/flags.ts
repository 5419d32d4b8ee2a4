// The flags of `npm run conformance`, read in one place by it and by the two suites it runs.
import { parseArgs } from 'node:util';

export const USAGE = `npm run conformance [-- FLAGS]
  --engine meltemi|envoy|both   which engines run the cases (both)
  --filter RE                   cases whose names match
Of the proxy's suite alone:
  --file NAME                   cases of one file
  --show                        every observation, ≠ where the engines differ
  --keep                        leave configurations and logs
  --pending                     also cases that are known to fail
  --differences                 write the list in docs/reference/engine-differences.md anew
`;

export interface Flags {
  readonly engine: 'meltemi' | 'envoy' | 'both';
  readonly filter: RegExp | undefined;
  readonly file: string | undefined;
  readonly keep: boolean;
  readonly show: boolean;
  readonly pending: boolean;
  readonly differences: boolean;
}

/** Ends the process with the usage: 0 for --help, 2 for a mistake, which is named. */
export function readFlags(): Flags {
  try {
    const { values } = parseArgs({
      options: {
        engine: { type: 'string', default: 'both' },
        filter: { type: 'string' },
        file: { type: 'string' },
        keep: { type: 'boolean', default: false },
        show: { type: 'boolean', default: false },
        pending: { type: 'boolean', default: false },
        differences: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) {
      process.stdout.write(USAGE);
      process.exit(0);
    }
    const { engine, filter, file, keep, show, pending, differences } = values;
    if (engine !== 'meltemi' && engine !== 'envoy' && engine !== 'both')
      throw new Error(`--engine is meltemi, envoy or both, not '${engine}'`);
    return {
      engine,
      filter: filter === undefined ? undefined : new RegExp(filter, 'i'),
      file,
      keep,
      show,
      pending,
      differences,
    };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message.split('\n')[0] : error}\n${USAGE}`);
    process.exit(2);
  }
}

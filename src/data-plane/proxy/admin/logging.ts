// /logging: shows and changes the levels of the process's loggers.
import { LEVELS } from '../process-log.ts';
import type { AdminReply, AdminTarget } from './target.ts';

const USAGE =
  '\nusage: /logging?<name>=<level> (change single level)\nusage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\nusage: /logging?level=<level> (change all levels)\nusage: /logging?group=<group_name>:<level> (change group of loggers)\nlevels: trace debug info warning error critical off \n';

export function logging({ log }: AdminTarget, query: URLSearchParams): AdminReply {
  const problem = change(log, query);
  const lines = log.all().map(([name, level]) => `  ${name}: ${level}\n`);
  const list = `active loggers:\n${lines.join('')}\n`;
  return problem === undefined ? { body: list } : { status: 400, body: `error: ${problem}\n${USAGE}${list}` };
}

/** What is wrong with the request, in Envoy's words; nothing is changed then. Parameters without a value mean nothing. */
function change(log: AdminTarget['log'], query: URLSearchParams): string | undefined {
  const asked = [...new Set(query.keys())].map((key) => [key, query.get(key) ?? ''] as const);
  const given = asked.filter(([, value]) => value !== '');
  if (given.length > 1) return 'invalid number of parameters';
  const [name, value] = given[0] ?? ['', ''];
  if (value === '') return undefined;
  if (name === 'group') return 'group parameter requires fine-grain logging to be enabled';
  if (name === 'level') return isLevel(value) && log.set(value) ? undefined : 'unknown logger level';
  const pairs: (readonly [string, string])[] = [];
  if (name !== 'paths') pairs.push([name, value]);
  else
    for (const pair of value.split(',')) {
      if (pair === '') continue;
      const colon = pair.indexOf(':');
      if (colon <= 0 || colon === pair.length - 1) return 'empty logger name or empty logger level';
      pairs.push([pair.slice(0, colon), pair.slice(colon + 1)]);
    }
  if (!pairs.every(([, level]) => isLevel(level))) return 'unknown logger level';
  const known = new Set(log.all().map(([each]) => each));
  if (!pairs.every(([logger]) => known.has(logger))) return 'unknown logger name';
  for (const [logger, level] of pairs) log.setOne(logger, level);
  return undefined;
}

/** `warn`, which the command line takes, is none here. */
function isLevel(text: string): boolean {
  return LEVELS.some((level) => level === text);
}

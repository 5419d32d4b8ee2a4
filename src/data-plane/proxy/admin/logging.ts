// /logging: shows and changes the levels of the process's loggers.
import type { AdminReply, AdminTarget } from './target.ts';

const USAGE =
  '\nusage: /logging?<name>=<level> (change single level)\nusage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\nusage: /logging?level=<level> (change all levels)\nusage: /logging?group=<group_name>:<level> (change group of loggers)\nlevels: trace debug info warning error critical off \n';

export function logging({ log }: AdminTarget, query: URLSearchParams): AdminReply {
  const problem = change(log, [...query]);
  const lines = log.all().map(([name, level]) => `  ${name}: ${level}\n`);
  const list = `active loggers:\n${lines.join('')}\n`;
  return problem === undefined ? { body: list } : { status: 400, body: `error: ${problem}\n${USAGE}${list}` };
}

/** What is wrong with the request, in Envoy's words. */
function change(log: AdminTarget['log'], asked: readonly (readonly [string, string])[]): string | undefined {
  if (asked.length > 1) return 'invalid number of parameters';
  const [name, value] = asked[0] ?? ['', ''];
  if (name === '') return undefined;
  if (name === 'group') return 'group parameter requires fine-grain logging to be enabled';
  if (name === 'level') return value === '' || log.set(value) ? undefined : 'unknown logger level';
  const pairs = name === 'paths' ? value.split(',').map((pair) => pair.split(':')) : [[name, value]];
  const known = new Set(log.all().map(([each]) => each));
  if (pairs.some(([logger = '']) => !known.has(logger))) return 'unknown logger name';
  for (const [logger = '', level = ''] of pairs) if (!log.setOne(logger, level)) return 'unknown logger level';
  return undefined;
}

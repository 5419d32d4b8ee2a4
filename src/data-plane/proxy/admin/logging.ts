// /logging: shows and changes the levels of the process's loggers.
import type { AdminReply, AdminTarget } from './target.ts';

const USAGE =
  '\nusage: /logging?<name>=<level> (change single level)\nusage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\nusage: /logging?level=<level> (change all levels)\nlevels: trace debug info warning error critical off\n';

const wrong = (what: string): AdminReply => ({ status: 400, body: `error: ${what}\n${USAGE}` });

export function logging({ log }: AdminTarget, query: URLSearchParams): AdminReply {
  const asked = [...query];
  if (asked.length > 1) return wrong('invalid number of parameters');
  const [name, value] = asked[0] ?? ['', ''];
  if (name === 'level' && value !== '') {
    if (!log.set(value)) return wrong('unknown logger level');
  } else if (name === 'paths') {
    const pairs = value.split(',').map((pair) => pair.split(':'));
    // All or nothing: a mistake in the second changes the first neither.
    for (const [logger = '', level = ''] of pairs) {
      const known = log.all().find(([each]) => each === logger);
      if (!known) return wrong('unknown logger name');
      if (!log.setOne(logger, level)) return wrong('unknown logger level');
    }
  } else if (name === 'group') {
    return wrong('logger groups are not supported by this proxy');
  } else if (name !== '' && name !== 'level') {
    if (!log.all().some(([each]) => each === name)) return wrong('unknown logger name');
    if (!log.setOne(name, value)) return wrong('unknown logger level');
  }
  return {
    body: `active loggers:\n${log
      .all()
      .map(([each, level]) => `  ${each}: ${level}\n`)
      .join('')}\n`,
  };
}

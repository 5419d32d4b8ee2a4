// The five-field cron language of CronJobs: parse, and find the next time. Pure. Called by cron-job.ts.
import type { Parsed } from '../../base/runtime/diagnostics.ts';

export interface CronSchedule {
  readonly minutes: ReadonlySet<number>;
  readonly hours: ReadonlySet<number>;
  readonly days: ReadonlySet<number>;
  readonly months: ReadonlySet<number>;
  readonly weekdays: ReadonlySet<number>;
  /** Both day fields are restricted: either one is enough. */
  readonly eitherDay: boolean;
}

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** 30 February never comes: the search ends. */
const MAX_SEARCH_MS = 5 * 366 * DAY;
const MAX_SCHEDULE_CHARS = 256;

const MACROS: Readonly<Record<string, string>> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
};
const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const WEEKDAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];

interface Field {
  readonly name: string;
  readonly low: number;
  readonly high: number;
  readonly names?: readonly string[];
}
const FIELDS: readonly Field[] = [
  { name: 'minute', low: 0, high: 59 },
  { name: 'hour', low: 0, high: 23 },
  { name: 'day of month', low: 1, high: 31 },
  { name: 'month', low: 1, high: 12, names: MONTHS },
  { name: 'day of week', low: 0, high: 7, names: WEEKDAYS },
];

export function parseCron(text: string): Parsed<CronSchedule> {
  const invalid = (message: string): Parsed<CronSchedule> => ({
    kind: 'invalid',
    diagnostics: [{ path: 'spec.schedule', code: 'bad-schedule', message }],
  });
  if (text.length > MAX_SCHEDULE_CHARS) return invalid(`longer than ${MAX_SCHEDULE_CHARS} characters`);
  const parts = (MACROS[text.trim()] ?? text).trim().split(/\s+/);
  if (parts.length !== FIELDS.length) return invalid(`"${text}" must have 5 fields: minute hour day month weekday`);
  const sets: Set<number>[] = [];
  for (const [i, field] of FIELDS.entries()) {
    const set = parseField(parts[i]!, field);
    if (typeof set === 'string') return invalid(set);
    sets.push(set);
  }
  const [minutes, hours, days, months, weekdays] = sets as [
    Set<number>,
    Set<number>,
    Set<number>,
    Set<number>,
    Set<number>,
  ];
  if (weekdays.has(7)) weekdays.add(0);
  const open = (part: string): boolean => /^[*?]/.test(part);
  return {
    kind: 'ok',
    value: { minutes, hours, days, months, weekdays, eitherDay: !open(parts[2]!) && !open(parts[4]!) },
  };
}

function parseField(text: string, field: Field): Set<number> | string {
  const out = new Set<number>();
  for (const item of text.split(',')) {
    const m = /^(\*|\?|[A-Za-z0-9]+)(?:-([A-Za-z0-9]+))?(?:\/(\d+))?$/.exec(item);
    const step = m?.[3] === undefined ? 1 : Number(m[3]);
    const any = m?.[1] === '*' || m?.[1] === '?';
    const from = any ? field.low : fieldValue(m?.[1], field);
    // `5/10` means from 5 to the end.
    const to = any || (m?.[3] !== undefined && m[2] === undefined) ? field.high : fieldValue(m?.[2] ?? m?.[1], field);
    if (!m || step === 0 || from === undefined || to === undefined || from > to || (any && m[2] !== undefined))
      return `"${item}" is not a valid ${field.name}`;
    for (let n = from; n <= to; n += step) out.add(n);
  }
  return out;
}

function fieldValue(text: string | undefined, field: Field): number | undefined {
  if (text === undefined) return undefined;
  const named = field.names?.indexOf(text.toLowerCase()) ?? -1;
  if (named >= 0) return named + field.low;
  const n = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  return n >= field.low && n <= field.high ? n : undefined;
}

/** The offset of a zone at a time, in ms to add to UTC. */
export type ZoneOffset = (utcMs: number) => number;

/** Undefined when the zone is not known. */
export function zoneOffset(timeZone: string): ZoneOffset | undefined {
  try {
    const format = new Intl.DateTimeFormat('en-US', { timeZone, timeZoneName: 'longOffset' });
    return (utcMs) => {
      const name = format.formatToParts(utcMs).find((p) => p.type === 'timeZoneName')?.value ?? '';
      const m = /([+-])(\d\d):(\d\d)/.exec(name);
      return m ? (m[1] === '-' ? -1 : 1) * (Number(m[2]) * HOUR + Number(m[3]) * MINUTE) : 0;
    };
  } catch {
    return undefined;
  }
}

/** The first time after `afterMs` that the schedule names; undefined when none comes within five years. */
export function nextTime(schedule: CronSchedule, afterMs: number, offset: ZoneOffset = () => 0): number | undefined {
  let at = Math.floor(afterMs / MINUTE) * MINUTE + MINUTE;
  while (at < afterMs + MAX_SEARCH_MS) {
    const local = new Date(at + offset(at));
    const inMonth = schedule.months.has(local.getUTCMonth() + 1);
    if (!inMonth || !isDay(schedule, local)) at += DAY - (local.getTime() % DAY);
    else if (!schedule.hours.has(local.getUTCHours())) at += HOUR - (local.getTime() % HOUR);
    else if (!schedule.minutes.has(local.getUTCMinutes())) at += MINUTE;
    else return at;
  }
  return undefined;
}

function isDay(schedule: CronSchedule, local: Date): boolean {
  const day = schedule.days.has(local.getUTCDate());
  const weekday = schedule.weekdays.has(local.getUTCDay());
  return schedule.eitherDay ? day || weekday : day && weekday;
}

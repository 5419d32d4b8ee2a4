// Judges an observation by what the case expects of it. Pure. Called by run-file.ts and the TypeScript cases.
import {
  type Case,
  type EngineName,
  isObject,
  list,
  type Matcher,
  type ResponseExpectation,
  type UpstreamExpectation,
} from './format.ts';
import type { Observation } from './observation.ts';

export interface Failure {
  readonly key: string;
  readonly expected: string;
  readonly got: string;
}

/** Undefined when `value` is as `matcher` says, else the expectation in words. */
export function mismatch(matcher: Matcher, value: string | undefined, engine: EngineName): string | undefined {
  if (matcher === null) return value === undefined ? undefined : 'absent';
  if (typeof matcher !== 'object') return value === String(matcher) ? undefined : quoted(String(matcher));
  if (Array.isArray(matcher))
    return value === JSON.stringify(matcher.map(String)) ? undefined : JSON.stringify(matcher);
  const form = matcher as Exclude<Matcher, null | string | number | boolean | readonly string[]>;
  if ('meltemi' in form) return mismatch(form[engine], value, engine);
  if ('matches' in form)
    return value !== undefined && new RegExp(form.matches, 's').test(value) ? undefined : `/${form.matches}/`;
  if ('contains' in form) {
    const missing = list(form.contains).find((part) => !value?.includes(part));
    return missing === undefined ? undefined : `something with ${quoted(missing)}`;
  }
  const present = list(form.absent).find((part) => value?.includes(part));
  return present === undefined ? undefined : `nothing with ${quoted(present)}`;
}

export const quoted = (text: string | undefined): string => (text === undefined ? 'absent' : JSON.stringify(text));

export function checkCase(test: Case, seen: Observation, engine: EngineName): readonly Failure[] {
  const failures: Failure[] = [];
  const check = (key: string, matcher: Matcher | undefined): void => {
    if (matcher === undefined) return;
    const expected = mismatch(matcher, seen.get(key), engine);
    if (expected !== undefined) failures.push({ key, expected, got: quoted(seen.get(key)) });
  };
  const checkMap = (key: string, matchers: { readonly [name: string]: Matcher } | undefined): void => {
    for (const [name, matcher] of Object.entries(matchers ?? {})) check(`${key}.${name.toLowerCase()}`, matcher);
  };
  check('refused', test.refused === undefined ? null : undefined);
  if (test.refused !== undefined) check('refused', reasonMatcher(test.refused));
  if (seen.has('refused') && test.refused === undefined) return failures;
  check('exit', test.exit);
  check('stdout', test.stdout);
  check('stderr', test.stderr);
  for (const [i, step] of (test.steps ?? []).entries())
    for (const [j, expect] of list(step.expect).entries())
      checkReply(`step${i + 1}${j === 0 ? '' : `.${j + 1}`}`, expect, check, checkMap);
  for (const [name, expected] of Object.entries(test.upstream ?? {})) {
    if (!Array.isArray(expected)) {
      check(`upstream.${name}.count`, expected as Matcher);
      continue;
    }
    check(`upstream.${name}.count`, expected.length);
    for (const [i, one] of (expected as readonly UpstreamExpectation[]).entries())
      checkUpstream(`upstream.${name}.${i + 1}`, one, check, checkMap);
  }
  for (const [i, line] of (test.log ?? []).entries()) check(`log.${i + 1}`, line);
  if (test.log) check(`log.${test.log.length + 1}`, null);
  checkStats(test, check);
  return failures;
}

type Check = (key: string, matcher: Matcher | undefined) => void;
type CheckMap = (key: string, matchers: { readonly [name: string]: Matcher } | undefined) => void;

function reasonMatcher(matcher: Matcher): Matcher {
  if (typeof matcher === 'string') return { matches: matcher };
  if (isObject(matcher) && 'meltemi' in matcher)
    return { meltemi: reasonMatcher(matcher.meltemi as Matcher), envoy: reasonMatcher(matcher.envoy as Matcher) };
  return matcher;
}

function checkStats(test: Case, check: Check): void {
  for (const [name, matcher] of Object.entries(test.stats ?? {})) check(`stats.${name}`, matcher);
}

function checkReply(key: string, expect: ResponseExpectation, check: Check, checkMap: CheckMap): void {
  const { headers, trailers, tls, ...rest } = expect;
  for (const [what, matcher] of Object.entries(rest)) check(`${key}.${what}`, matcher);
  checkMap(`${key}.header`, headers);
  checkMap(`${key}.trailer`, trailers);
  for (const [what, matcher] of Object.entries(tls ?? {})) check(`${key}.tls.${what}`, matcher);
}

function checkUpstream(key: string, expect: UpstreamExpectation, check: Check, checkMap: CheckMap): void {
  const { headers, trailers, tls, ...rest } = expect;
  for (const [what, matcher] of Object.entries(rest)) check(`${key}.${what}`, matcher);
  checkMap(`${key}.header`, headers);
  checkMap(`${key}.trailer`, trailers);
  for (const [what, matcher] of Object.entries(tls ?? {})) check(`${key}.tls.${what}`, matcher);
}

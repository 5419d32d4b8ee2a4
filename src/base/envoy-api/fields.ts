// Turns Envoy messages into checked configuration: what we do not support is refused by name and path, never ignored.
// Called by every builder of the engine.
import { type DescMessage, isFieldSet, type MessageShape } from '@bufbuild/protobuf';
import type { Duration } from '@bufbuild/protobuf/wkt';

/** A configuration that cannot be used. The message names the path and the reason; it becomes the NACK text. */
export class ConfigError extends Error {
  readonly path: string;
  /** Where the wrong value stands, which may be deeper than the path in the message. */
  readonly at: string;
  constructor(path: string, reason: string, at: string = path) {
    super(path === '' ? reason : `${path}: ${reason}`);
    this.name = 'ConfigError';
    this.path = path;
    this.at = at;
  }
}

/** A field that the message's type does not know: newer than this proxy, or a mistake. */
export class UnknownFieldError extends ConfigError {}

/** Throws when a field outside `supported` (proto names) is set in `message`. */
export function only<D extends DescMessage>(
  schema: D,
  message: MessageShape<D>,
  path: string,
  supported: readonly string[],
): void {
  for (const field of schema.fields) {
    if (isFieldSet(message, field) && !supported.includes(field.name))
      throw new ConfigError(join(path, field.name), `field of ${schema.typeName} is not supported by this proxy`);
  }
  const unknown = message.$unknown?.[0];
  if (unknown) throw new UnknownFieldError(path, `unknown field number ${unknown.no} in ${schema.typeName}`);
}

export function join(path: string, part: string): string {
  return path === '' ? part : `${path}.${part}`;
}

/** Milliseconds of a protobuf duration; `fallback` when absent. None of the durations read here may be negative. */
export function millis(duration: Duration | undefined, fallback: number): number {
  if (!duration) return fallback;
  if (duration.seconds < 0n || duration.nanos < 0)
    throw new ConfigError(
      '',
      `Invalid duration: Expected positive duration: ${duration.seconds}.${Math.abs(duration.nanos)}s`,
    );
  return Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

/** `value`, or an error that says the field is required. */
export function required<T>(value: T | undefined, path: string): T {
  if (value === undefined || value === '') throw new ConfigError(path, 'value is required');
  return value;
}

// Refusals of bad objects, worded as Kubernetes words them. Thrown by schema/ and turned into a Status by the API server.
import type { FieldError, Gvk, StatusCause } from './types.ts';

/** The object is refused: 400 BadRequest (cannot be read) or 422 Invalid (read, but wrong). */
export class SchemaError extends Error {
  readonly httpStatus: 400 | 422;
  readonly reason: 'BadRequest' | 'Invalid';
  readonly causes: readonly StatusCause[];
  constructor(httpStatus: 400 | 422, message: string, causes: readonly StatusCause[] = []) {
    super(message);
    this.name = 'SchemaError';
    this.httpStatus = httpStatus;
    this.reason = httpStatus === 400 ? 'BadRequest' : 'Invalid';
    this.causes = causes;
  }
}

/** `Deployment.apps "web" is invalid: spec.selector: Required value`; several errors in brackets. */
export function invalidMessage(gvk: Gvk, name: string, errors: readonly FieldError[]): string {
  const kind = gvk.group === '' ? gvk.kind : `${gvk.kind}.${gvk.group}`;
  const texts = [...new Set(errors.map(errorText))];
  const list = texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`;
  return `${kind} ${JSON.stringify(name)} is invalid: ${list}`;
}

export function errorText(error: FieldError): string {
  return `${error.field}: ${error.message}`;
}

/** The whole Status answer (code 422) for a list of field errors. */
export function invalidStatus(gvk: Gvk, name: string, errors: readonly FieldError[]) {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: invalidMessage(gvk, name, errors),
    reason: 'Invalid',
    details: { name, group: gvk.group || undefined, kind: gvk.kind, causes: toCauses(errors) },
    code: 422,
  } as const;
}

export function toCauses(errors: readonly FieldError[]): StatusCause[] {
  return errors.map((e) => ({ reason: e.type, message: e.message, field: e.field }));
}

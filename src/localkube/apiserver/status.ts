// Failures of the API as Kubernetes tells them: an ApiError becomes a Status object. Thrown everywhere in the API server.
import { KubeError } from '../../base/kube/types.ts';
import { StoreError } from '../store/store.ts';
import type { Dict } from './json.ts';

export interface StatusCause {
  readonly reason: string;
  readonly message: string;
  readonly field: string;
}

export interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly StatusCause[];
  readonly retryAfterSeconds?: number;
}

export class ApiError extends Error {
  readonly code: number;
  readonly reason: string;
  readonly details: StatusDetails | undefined;
  constructor(code: number, reason: string, message: string, details?: StatusDetails) {
    super(message);
    this.name = 'ApiError';
    this.code = code;
    this.reason = reason;
    this.details = details;
  }
}

export interface Named {
  readonly group: string;
  readonly resource: string;
  readonly kind: string;
}

/** `deployments.apps`, as it stands in messages. */
export function qualified(type: { readonly group: string; readonly resource: string }): string {
  return type.group === '' ? type.resource : `${type.resource}.${type.group}`;
}

const details = (type: Named, name: string): StatusDetails => ({
  name,
  ...(type.group ? { group: type.group } : {}),
  kind: type.resource,
});

export const notFound = (type: Named, name: string): ApiError =>
  new ApiError(404, 'NotFound', `${qualified(type)} "${name}" not found`, details(type, name));

export const alreadyExists = (type: Named, name: string): ApiError =>
  new ApiError(409, 'AlreadyExists', `${qualified(type)} "${name}" already exists`, details(type, name));

export const conflict = (type: Named, name: string, why: string): ApiError =>
  new ApiError(
    409,
    'Conflict',
    `Operation cannot be fulfilled on ${qualified(type)} "${name}": ${why}`,
    details(type, name),
  );

export const modified = (type: Named, name: string): ApiError =>
  conflict(type, name, 'the object has been modified; please apply your changes to the latest version and try again');

export const badRequest = (message: string): ApiError => new ApiError(400, 'BadRequest', message);

export const forbidden = (type: Named, name: string, why: string): ApiError =>
  new ApiError(403, 'Forbidden', `${qualified(type)} "${name}" is forbidden: ${why}`, details(type, name));

export const methodNotAllowed = (): ApiError =>
  new ApiError(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource', {});

export const unknownPath = (): ApiError =>
  new ApiError(404, 'NotFound', 'the server could not find the requested resource', {});

export const internal = (message: string): ApiError =>
  new ApiError(500, 'InternalError', `Internal error occurred: ${message}`, {
    causes: [{ reason: '', message, field: '' }],
  });

export const expired = (message: string): ApiError => new ApiError(410, 'Expired', message);

const CAUSE_REASON: readonly (readonly [string, string])[] = [
  ['Required value', 'FieldValueRequired'],
  ['Forbidden', 'FieldValueForbidden'],
  ['Duplicate value', 'FieldValueDuplicate'],
  ['Unsupported value', 'FieldValueNotSupported'],
  ['Not found', 'FieldValueNotFound'],
];

/** One wrong field. `message` starts with its class: `Invalid value: "x": must be …`, `Required value`, `Forbidden: …`. */
export interface FieldError {
  readonly path: string;
  readonly message: string;
}

/** 422 in the words kubectl prints: `Deployment.apps "x" is invalid: spec.replicas: Invalid value: -1: …`. */
export function invalid(type: Named, name: string, errors: readonly FieldError[]): ApiError {
  const texts = errors.map((error) => (error.path ? `${error.path}: ${error.message}` : error.message));
  const text = texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`;
  const kind = type.group === '' ? type.kind : `${type.kind}.${type.group}`;
  return new ApiError(422, 'Invalid', `${kind} "${name}" is invalid: ${text}`, {
    name,
    ...(type.group ? { group: type.group } : {}),
    kind: type.kind,
    causes: errors.map((error) => ({
      reason: CAUSE_REASON.find(([start]) => error.message.startsWith(start))?.[1] ?? 'FieldValueInvalid',
      message: error.message,
      field: error.path,
    })),
  });
}

/** Any failure as an ApiError; what is not one already is a fault of the server. */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof KubeError) return new ApiError(error.code || 500, error.reason, error.message);
  if (error instanceof StoreError) {
    if (error.kind === 'disk-full')
      return new ApiError(
        507,
        'InsufficientStorage',
        `${error.message}; nothing was changed. Free some space and try again.`,
      );
    if (error.kind === 'too-large')
      return new ApiError(413, 'RequestEntityTooLarge', `Request entity too large: ${error.message}`);
    if (error.kind === 'conflict') return new ApiError(409, 'Conflict', error.message);
  }
  return internal(error instanceof Error ? error.message : String(error));
}

export function statusObject(error: ApiError): Dict {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: error.message,
    reason: error.reason,
    ...(error.details ? { details: error.details } : {}),
    code: error.code,
  };
}

// Why a patch was refused; the API server turns it into a Status.
import type { StatusCause } from '../schema/types.ts';

/** 400 BadRequest: not a patch. 409 Conflict: server-side apply meets another owner. 422 Invalid: cannot be applied. */
export class PatchError extends Error {
  readonly httpStatus: 400 | 409 | 422;
  readonly reason: 'BadRequest' | 'Conflict' | 'Invalid';
  readonly causes: readonly StatusCause[];
  constructor(httpStatus: 400 | 409 | 422, message: string, causes: readonly StatusCause[] = []) {
    super(message);
    this.name = 'PatchError';
    this.httpStatus = httpStatus;
    this.reason = httpStatus === 400 ? 'BadRequest' : httpStatus === 409 ? 'Conflict' : 'Invalid';
    this.causes = causes;
  }
}

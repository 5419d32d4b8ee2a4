// Who makes a request: client certificate, bearer token, or nobody; then impersonation. Called by the HTTP layer.
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import type { Store } from '../../store/store.ts';
import type { UserInfo } from '../core.ts';
import { ApiError } from '../status.ts';
import { authorize } from './rbac.ts';
import type { TokenIssuer } from './tokens.ts';

export const ANONYMOUS: UserInfo = { username: 'system:anonymous', groups: ['system:unauthenticated'] };
const MAX_IMPERSONATED_GROUPS = 64;

export const unauthorized = (): ApiError => new ApiError(401, 'Unauthorized', 'Unauthorized');

/** Throws 401 for a token that is not good; no credentials at all give {@link ANONYMOUS}. */
export function authenticate(request: IncomingMessage, tokens: TokenIssuer): UserInfo {
  const fromCertificate = certificateUser(request.socket as TLSSocket);
  if (fromCertificate) return fromCertificate;
  const header = request.headers.authorization;
  if (header === undefined) return ANONYMOUS;
  const match = /^Bearer\s+(\S+)$/i.exec(header);
  if (!match) throw unauthorized();
  const check = tokens.check(match[1] ?? '', []);
  if (check.kind === 'refused') throw unauthorized();
  return check.user;
}

function certificateUser(socket: TLSSocket): UserInfo | undefined {
  if (!socket.authorized) return undefined;
  const subject = socket.getPeerCertificate()?.subject;
  if (!subject) return undefined;
  const first = (value: string | string[] | undefined): string =>
    Array.isArray(value) ? (value[0] ?? '') : (value ?? '');
  const username = first(subject.CN);
  if (username === '') return undefined;
  const groups = subject.O === undefined ? [] : Array.isArray(subject.O) ? subject.O : [subject.O];
  return { username, groups: [...groups, 'system:authenticated'] };
}

/** The user the request asks to act as, when its maker may (kubectl --as). Throws 403. */
export function impersonate(request: IncomingMessage, user: UserInfo, store: Store): UserInfo {
  const name = request.headers['impersonate-user'];
  const asked = request.headersDistinct['impersonate-group'] ?? [];
  if (typeof name !== 'string') {
    if (asked.length)
      throw new ApiError(400, 'BadRequest', 'requested impersonation of groups without impersonating a user');
    return user;
  }
  const account = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(name);
  const may = (resource: string, namespace: string, target: string): void => {
    const attributes = {
      kind: 'resource',
      verb: 'impersonate',
      group: '',
      resource,
      namespace,
      subresource: '',
      name: target,
    } as const;
    if (!authorize(store, user, attributes).allowed)
      throw new ApiError(
        403,
        'Forbidden',
        `${resource} "${target}" is forbidden: User "${user.username}" cannot impersonate resource "${resource}" in API group "" ${namespace ? `in the namespace "${namespace}"` : 'at the cluster scope'}`,
      );
  };
  if (account) may('serviceaccounts', account[1] ?? '', account[2] ?? '');
  else may('users', '', name);
  const groups = asked.slice(0, MAX_IMPERSONATED_GROUPS);
  for (const group of groups) may('groups', '', group);
  if (account && groups.length === 0) groups.push('system:serviceaccounts', `system:serviceaccounts:${account[1]}`);
  return {
    username: name,
    groups: [...groups, name === ANONYMOUS.username ? 'system:unauthenticated' : 'system:authenticated'],
  };
}

// /init_dump: what listeners still wait for before they serve.
import { type AdminReply, type AdminTarget, JSON_TYPE } from './target.ts';

export function initDump(target: AdminTarget, query: URLSearchParams): AdminReply {
  const mask = query.get('mask');
  if (mask !== null && mask !== 'listener') return { body: '{}\n', type: JSON_TYPE };
  const dumps = target.listeners.views().flatMap(({ name, warming }) =>
    warming
      ? [
          {
            name: `init manager Listener-local-init-manager ${name}`,
            target_names: warming.awaited().map(targetName),
          },
        ]
      : [],
  );
  return {
    body: `${JSON.stringify(dumps.length === 0 ? {} : { unready_targets_dumps: dumps }, null, 1)}\n`,
    type: JSON_TYPE,
  };
}

/** Envoy's names of the targets that both have. */
function targetName(awaited: string): string {
  const [, kind, name] = /^(route|secret) '(.*)'$/s.exec(awaited) ?? [];
  if (kind === 'route') return `shared target RdsRouteConfigSubscription RDS init ${name}`;
  return kind === 'secret' ? `shared target SdsApi ${name}` : awaited;
}

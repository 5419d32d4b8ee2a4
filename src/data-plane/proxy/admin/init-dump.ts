// /init_dump: what listeners still wait for before they serve.
import { type AdminReply, type AdminTarget, JSON_TYPE } from './target.ts';

export function initDump(target: AdminTarget, query: URLSearchParams): AdminReply {
  const mask = query.get('mask');
  if (mask !== null && mask !== 'listener') return { body: '{}\n', type: JSON_TYPE };
  const dumps = target.listeners
    .views()
    .flatMap(({ name, warming }) =>
      warming ? [{ name: `init manager Listener-local-init-manager ${name}`, target_names: warming.awaited() }] : [],
    );
  return {
    body: `${JSON.stringify(dumps.length === 0 ? {} : { unready_targets_dumps: dumps }, null, 1)}\n`,
    type: JSON_TYPE,
  };
}

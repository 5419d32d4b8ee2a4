// Namespaces: name label, phase, the `kubernetes` finalizer, and the ones nobody may delete.
import { dict } from '../json.ts';
import { forbidden } from '../status.ts';
import type { Strategy } from './strategy.ts';

const PROTECTED: ReadonlySet<string> = new Set(['default', 'kube-system', 'kube-public']);
const NAME_LABEL = 'kubernetes.io/metadata.name';

export const namespaceStrategy: Strategy = {
  prepareCreate(_core, object) {
    object.metadata.labels = { ...object.metadata.labels, [NAME_LABEL]: object.metadata.name };
    object.spec = { ...dict(object.spec), finalizers: ['kubernetes'] };
    object.status = { phase: 'Active' };
  },
  prepareUpdate(_core, next, live, _context, subresource) {
    next.metadata.labels = { ...next.metadata.labels, [NAME_LABEL]: next.metadata.name };
    if (subresource !== 'finalize') next.spec = live.spec;
  },
  checkDelete(_core, live) {
    if (PROTECTED.has(live.metadata.name))
      throw forbidden(
        { group: '', resource: 'namespaces', kind: 'Namespace' },
        live.metadata.name,
        'this namespace may not be deleted',
      );
  },
  markDeleted(_core, next) {
    next.status = { ...dict(next.status), phase: 'Terminating' };
    delete next.metadata.deletionGracePeriodSeconds;
  },
};

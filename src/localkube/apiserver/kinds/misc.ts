// Small rules of single kinds: Secrets' stringData, Jobs' own selector, Nodes' status, webhook conditions.
import type { Core } from '../core.ts';
import { type ApiObject, dict, dicts, isDict, str } from '../json.ts';
import { ApiError, invalid } from '../status.ts';
import type { Strategy } from './strategy.ts';

export const nodeStrategy: Strategy = { keepsStatusOnCreate: true };

function mergeStringData(secret: ApiObject): void {
  if (!isDict(secret.stringData)) return;
  const data = { ...dict(secret.data) };
  for (const [key, value] of Object.entries(secret.stringData)) data[key] = Buffer.from(str(value)).toString('base64');
  secret.data = data;
  delete secret.stringData;
}

const ACCOUNT_TOKEN = 'kubernetes.io/service-account-token';
const ACCOUNT_NAME = 'kubernetes.io/service-account.name';
const ACCOUNT_UID = 'kubernetes.io/service-account.uid';

/** The long-lived token that remote secrets and older tools are built on. */
function fillAccountToken(core: Core, secret: ApiObject): void {
  const { namespace = '', name } = secret.metadata;
  const account = secret.metadata.annotations?.[ACCOUNT_NAME] ?? '';
  const found = core.store.get('/serviceaccounts', namespace, account);
  if (!found)
    throw invalid({ group: '', resource: 'secrets', kind: 'Secret' }, name, [
      {
        path: `metadata.annotations[${ACCOUNT_NAME}]`,
        message: `Invalid value: "${account}": there is no such ServiceAccount in namespace ${namespace}`,
      },
    ]);
  const uid = found.metadata.uid ?? '';
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  secret.metadata.annotations = { ...secret.metadata.annotations, [ACCOUNT_UID]: uid };
  secret.data = {
    ...dict(secret.data),
    'ca.crt': base64(core.accountSecrets.caPem),
    namespace: base64(namespace),
    token: base64(core.accountSecrets.token(namespace, account, uid, name)),
  };
}

export const secretStrategy: Strategy = {
  prepareCreate(core, object) {
    mergeStringData(object);
    if (object.type === ACCOUNT_TOKEN) fillAccountToken(core, object);
  },
  prepareUpdate: (_core, next) => mergeStringData(next),
};

/** A Job without a selector of its own is given one by its uid. */
export const jobStrategy: Strategy = {
  prepareCreate(_core, job) {
    job.status = {};
    const spec = dict(job.spec);
    if (spec.manualSelector === true) return;
    const uid = str(job.metadata.uid);
    const template = dict(spec.template);
    const meta = dict(template.metadata);
    const labels = {
      ...dict(meta.labels),
      'batch.kubernetes.io/controller-uid': uid,
      'controller-uid': uid,
      'batch.kubernetes.io/job-name': job.metadata.name,
      'job-name': job.metadata.name,
    };
    const selector = { ...dict(spec.selector), matchLabels: { 'batch.kubernetes.io/controller-uid': uid } };
    job.spec = { ...spec, selector, template: { ...template, metadata: { ...meta, labels } } };
  },
};

export const deploymentLike: Strategy = {
  prepareCreate(_core, object) {
    object.status =
      object.kind === 'DaemonSet'
        ? { currentNumberScheduled: 0, numberMisscheduled: 0, desiredNumberScheduled: 0, numberReady: 0 }
        : object.kind === 'Deployment'
          ? {}
          : { replicas: 0 };
  },
};

export const webhookStrategy: Strategy = {
  validate(_core, next, _live, _context, def) {
    for (const [index, webhook] of dicts(next.webhooks).entries()) {
      if (dicts(webhook.matchConditions).length > 0)
        throw invalid(def, next.metadata.name, [
          {
            path: `webhooks[${index}].matchConditions`,
            message: 'Forbidden: this cluster does not evaluate match conditions; use rules and selectors',
          },
        ]);
      const config = dict(webhook.clientConfig);
      if (typeof config.url === 'string' && !config.url.startsWith('https://'))
        throw new ApiError(
          422,
          'Invalid',
          `${def.kind}.${def.group} "${next.metadata.name}" is invalid: webhooks[${index}].clientConfig.url: Invalid value: "${config.url}": 'https' is the only allowed URL scheme`,
        );
    }
  },
};

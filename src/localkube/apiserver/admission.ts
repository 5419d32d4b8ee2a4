// Everything between a well-formed request and its validation: built-in admission, then the webhooks. Called by ops/*.
import type { Core } from './core.ts';
import type { ApiObject } from './json.ts';
import { admitPriority, admitServiceAccount } from './kinds/service-account-admission.ts';
import { decodeAgain } from './ops/again.ts';
import { type Admission, runMutatingWebhooks, runValidatingWebhooks } from './webhooks/admit.ts';

/** The object as webhooks leave it, with defaults filled in again. */
export async function admitMutating(core: Core, admission: Admission): Promise<ApiObject> {
  let object = admission.object as ApiObject;
  if (admission.operation === 'CREATE' && admission.def.collection === '/pods' && !admission.subresource)
    object = admitPriority(core, admitServiceAccount(core, object));
  const mutated = await runMutatingWebhooks(core, { ...admission, object });
  return mutated === object ? object : decodeAgain(core, admission.context, admission.def, mutated);
}

export function admitValidating(core: Core, admission: Admission): Promise<void> {
  return runValidatingWebhooks(core, admission);
}

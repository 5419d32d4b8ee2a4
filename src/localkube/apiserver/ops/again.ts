// A webhook may return anything: its object is decoded and defaulted like a client's. Called by admission.ts.
import { asJson, type Core, type RequestContext, schemaOf } from '../core.ts';
import { type ApiObject, isDict } from '../json.ts';
import type { ResourceDef } from '../resources.ts';
import { applyDefaults, decodeObject } from '../schema/index.ts';
import { internal } from '../status.ts';

export function decodeAgain(core: Core, context: RequestContext, def: ResourceDef, object: ApiObject): ApiObject {
  if (!isDict(object.metadata)) throw internal(`a webhook returned a ${def.kind} without metadata`);
  const schema = schemaOf(core, def);
  const decoded = decodeObject(asJson(object), schema, 'Warn');
  context.warnings.push(...decoded.warnings);
  return structuredClone(applyDefaults(decoded.object, schema)) as unknown as ApiObject;
}

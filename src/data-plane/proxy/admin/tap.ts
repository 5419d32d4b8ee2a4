// POST /tap: shows what goes through the tap filters with a config id, until the client goes or as many traces as it asked for
// are there. What is shown holds credentials and bodies: whoever reaches the admin interface sees them, as in Envoy.
import { fromJson, type JsonValue } from '@bufbuild/protobuf';
import { type TapRequest, TapRequestSchema } from '#proto/envoy/admin/v3/tap_pb.js';
import { checkConstraints } from '../../../base/envoy-api/constraints.ts';
import { errorText } from '../../../base/runtime/log.ts';
import { extensionRegistry } from '../config/bootstrap.ts';
import { explain } from '../config/explain.ts';
import { ConfigError } from '../config/fields.ts';
import { MAX_ADMIN_YAML_NODES, MAX_TAP_BACKLOG_CHARS } from '../limits.ts';
import type { TapPlan } from '../tap/plan.ts';
import type { AdminAsk, AdminReply, AdminStream, AdminTarget } from './target.ts';

export async function tapPage(target: AdminTarget, _query: URLSearchParams, ask: AdminAsk): Promise<AdminReply> {
  if (ask.body === '') return refused('/tap requires a JSON/YAML body');
  let request: TapRequest;
  let plan: TapPlan;
  const { tap } = target;
  try {
    request = readRequest(await parse(ask.body), ask.body);
    const { configId } = request;
    if (tap.attached) return refused('An attached /tap admin stream already exists. Detach it.');
    if (!tap.knows(configId))
      return refused(`Unknown config id '${configId}'. No extension has registered with this id.`);
    plan = tap.read(request.tapConfig!);
  } catch (error) {
    if (error instanceof ConfigError) return refused(error.message);
    // No stack is deep enough for it.
    if (error instanceof RangeError) return refused('Unable to parse JSON as proto: it is nested too deep');
    throw error;
  }
  const asked = plan;
  return { body: '', stream: (out) => show(target, request, asked, out) };
}

const refused = (body: string): AdminReply => ({ status: 400, body });

async function parse(text: string): Promise<JsonValue> {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    const { parseYaml } = await import('../config/yaml.ts');
    let json: JsonValue;
    try {
      json = parseYaml(text, MAX_ADMIN_YAML_NODES);
    } catch (error) {
      throw error instanceof ConfigError ? error : new ConfigError('', `Unable to parse YAML: ${errorText(error)}`);
    }
    if (typeof json !== 'object') throw new ConfigError('', `Unable to convert YAML as JSON: ${text}`);
    return json;
  }
}

function readRequest(json: JsonValue, text: string): TapRequest {
  let request: TapRequest;
  try {
    request = fromJson(TapRequestSchema, json, { registry: extensionRegistry });
  } catch (error) {
    const mistake = explain(TapRequestSchema, json, extensionRegistry);
    const where = mistake && mistake.path !== '' ? ` @ ${mistake.path}` : '';
    const what = mistake
      ? `invalid JSON in ${TapRequestSchema.typeName}${where}: ${mistake.type === '' ? '' : `${mistake.type}: `}${mistake.reason}`
      : errorText(error);
    throw new ConfigError(
      '',
      mistake?.kind === 'unknown'
        ? `Protobuf message (type ${TapRequestSchema.typeName} reason INVALID_ARGUMENT: ${what}) has unknown fields`
        : `Unable to parse JSON as proto (INVALID_ARGUMENT: ${what}): ${text}`,
    );
  }
  checkConstraints(TapRequestSchema, request, '');
  return request;
}

function show({ tap, clock }: AdminTarget, { configId, tapConfig }: TapRequest, plan: TapPlan, out: AdminStream): void {
  const { collect } = plan;
  const kept: string[] = [];
  let keptChars = 0;
  let cancel = (): void => {};
  const finish = (): void => {
    detach();
    cancel();
    for (const trace of kept) out.write(trace);
    out.end();
  };
  const detach = tap.attach(configId, tapConfig!, plan, (trace) => {
    if (!collect) {
      // A client that does not read loses traces.
      if (!out.full) out.write(trace);
      return;
    }
    kept.push(trace);
    keptChars += trace.length;
    if (kept.length >= collect.traces || keptChars > MAX_TAP_BACKLOG_CHARS) finish();
  });
  if (collect?.timeoutMs !== undefined) cancel = clock.after(collect.timeoutMs, finish);
  out.onGone(() => {
    detach();
    cancel();
  });
}

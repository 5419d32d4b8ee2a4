// A watch as a stream of JSON lines, with bookmarks and an end. Called by http/handler.ts.
import type { ServerResponse } from 'node:http';
import type { Core } from '../core.ts';
import type { Dict } from '../json.ts';
import { groupVersion, type ResourceDef } from '../resources.ts';
import { asApiError, statusObject } from '../status.ts';
import { type IncludeObject, tableOf } from '../tables/table.ts';
import { outputRevision, type WatchInput, type WatchOutput, watchObjects } from '../watch.ts';
import type { Rendering } from './negotiate.ts';

const BOOKMARK_INTERVAL_MS = 60_000;
const MIN_WATCH_MS = 30 * 60_000;
/** A client that reads slower than this much behind is cut off; it lists again. */
const MAX_UNREAD_BYTES = 64 * 1024 * 1024;

export interface WatchStream {
  readonly input: WatchInput;
  readonly rendering: Rendering;
  readonly includeObject: IncludeObject;
  readonly bookmarks: boolean;
  readonly timeoutSeconds: number | undefined;
  readonly warnings: readonly string[];
}

export function streamWatch(core: Core, response: ServerResponse, stream: WatchStream): void {
  response.writeHead(200, { 'content-type': 'application/json;stream=watch', 'cache-control': 'no-cache, private' });
  response.flushHeaders();
  const render = renderer(core, stream);
  const send = (event: Dict): void => {
    if (response.destroyed || response.writableEnded) return;
    if (response.writableLength > MAX_UNREAD_BYTES) response.destroy();
    else response.write(`${JSON.stringify(event)}\n`);
  };
  let stop: () => void;
  try {
    stop = watchObjects(core, stream.input, (output) => send(render(output)));
  } catch (error) {
    send({ type: 'ERROR', object: statusObject(asApiError(error)) });
    response.end();
    return;
  }
  const bookmark = (): void => {
    send(render({ type: 'BOOKMARK', resourceVersion: String(core.store.revision()) }));
    cancelBookmark = core.clock.after(BOOKMARK_INTERVAL_MS, bookmark);
  };
  let cancelBookmark = stream.bookmarks ? core.clock.after(BOOKMARK_INTERVAL_MS, bookmark) : () => {};
  const timeoutMs =
    stream.timeoutSeconds === undefined ? MIN_WATCH_MS * (1 + Math.random()) : stream.timeoutSeconds * 1000;
  const cancelEnd = core.clock.after(timeoutMs, () => response.end());
  response.once('close', () => {
    stop();
    cancelBookmark();
    cancelEnd();
  });
}

function renderer(core: Core, stream: WatchStream): (output: WatchOutput) => Dict {
  const { def } = stream.input;
  let first = true;
  return (output) => {
    const object = output.type === 'BOOKMARK' ? bookmarkObject(def, output) : output.object;
    if (stream.rendering.kind === 'object') return { type: output.type, object };
    if (stream.rendering.kind === 'metadata')
      return {
        type: output.type,
        object: {
          kind: 'PartialObjectMetadata',
          apiVersion: `meta.k8s.io/${stream.rendering.version}`,
          metadata: object.metadata,
        },
      };
    const table = tableOf({
      def,
      objects: output.type === 'BOOKMARK' ? [] : [object],
      metadata: { resourceVersion: outputRevision(output) },
      includeObject: stream.includeObject,
      version: stream.rendering.version,
      now: core.clock.now(),
      withColumns: first,
    });
    first = false;
    return { type: output.type, object: table };
  };
}

function bookmarkObject(def: ResourceDef, output: Extract<WatchOutput, { type: 'BOOKMARK' }>): Dict {
  const annotations = output.initialEventsEnd ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {};
  return {
    kind: def.kind,
    apiVersion: groupVersion(def),
    metadata: { resourceVersion: output.resourceVersion, creationTimestamp: null, ...annotations },
  };
}

// /cpuprofiler and /heapprofiler: V8's own profiles, written to admin.profile_path when they end. Open them in any viewer of
// .cpuprofile and .heapprofile files. The inspector is loaded when the first one starts.
import type { Session } from 'node:inspector/promises';
import type { AdminReply, AdminTarget } from './target.ts';

type Kind = 'cpu' | 'heap';

const DEFAULT_PROFILE_PATH = '/var/log/envoy/envoy.prof';
const running = new Map<Kind, Session>();

export async function profiler(kind: Kind, target: AdminTarget, query: URLSearchParams): Promise<AdminReply> {
  const enable = query.get('enable');
  if (enable !== 'y' && enable !== 'n') return { status: 400, body: '?enable=<y|n>\n' };
  const session = running.get(kind);
  if (enable === 'y') {
    if (session) return { status: 500, body: 'failure to start the profiler: it is running\n' };
    await begin(kind);
    return { body: 'OK\n' };
  }
  if (!session) return { body: 'OK\n' };
  running.delete(kind);
  try {
    const { writeFile } = await import('node:fs/promises');
    const path = target.bootstrap.admin?.profilePath || DEFAULT_PROFILE_PATH;
    await writeFile(path, JSON.stringify(await end(kind, session)));
    return { body: 'OK\n' };
  } catch (error) {
    return { status: 500, body: `failure to write the profile: ${error instanceof Error ? error.message : error}\n` };
  } finally {
    session.disconnect();
  }
}

async function begin(kind: Kind): Promise<void> {
  const inspector = await import('node:inspector/promises');
  const session = new inspector.Session();
  session.connect();
  running.set(kind, session);
  if (kind === 'cpu') {
    await session.post('Profiler.enable');
    await session.post('Profiler.start');
  } else await session.post('HeapProfiler.startSampling');
}

async function end(kind: Kind, session: Session): Promise<unknown> {
  const { profile } =
    kind === 'cpu' ? await session.post('Profiler.stop') : await session.post('HeapProfiler.stopSampling');
  return profile;
}

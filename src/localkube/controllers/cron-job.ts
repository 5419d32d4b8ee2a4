// CronJob controller: makes a Job whenever the schedule says so. Started by start.ts.
import { CRON_JOBS, type CronJob } from '../../api/kubernetes/cron-job.ts';
import { JOBS, type Job } from '../../api/kubernetes/job.ts';
import { controllerRef, timestamp } from './children.ts';
import {
  type Controller,
  type ControllerContext,
  enqueueOwner,
  ignoreNotFound,
  isConflict,
  keyOf,
  startController,
} from './context.ts';
import { type CronSchedule, nextTime, parseCron, type ZoneOffset, zoneOffset } from './cron-schedule.ts';
import { isFinished } from './job-plan.ts';
import { created, writeStatus } from './pods.ts';

const MAX_MISSED = 1_000;
const MAX_NAME_BASE = 52;

/** The latest time in (`since`, `now`] that the schedule names. Pure. */
export function lastDue(schedule: CronSchedule, since: number, now: number, offset: ZoneOffset): number | undefined {
  let due: number | undefined;
  let at = since;
  for (let i = 0; i < MAX_MISSED; i++) {
    const next = nextTime(schedule, at, offset);
    if (next === undefined || next > now) return due;
    due = next;
    at = next;
  }
  // So many were missed that the clock jumped or it slept for long: begin again from the last hour.
  return lastDue(schedule, now - 3_600_000, now, offset) ?? due;
}

function makeJob(cron: CronJob, due: number): Job {
  const { jobTemplate } = cron.spec;
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: {
      name: `${cron.metadata.name.slice(0, MAX_NAME_BASE)}-${Math.floor(due / 60_000)}`,
      namespace: cron.metadata.namespace,
      ...(jobTemplate.metadata?.labels ? { labels: jobTemplate.metadata.labels } : {}),
      annotations: {
        ...jobTemplate.metadata?.annotations,
        'batch.kubernetes.io/cronjob-scheduled-timestamp': timestamp(due),
      },
      ownerReferences: [controllerRef(cron)],
    },
    spec: jobTemplate.spec,
  };
}

export function startCronJobController(context: ControllerContext): Controller {
  const crons = context.store<CronJob>(CRON_JOBS);
  const jobs = context.store<Job>(JOBS);
  const recorder = context.recorder('cronjob-controller');

  const trimHistory = async (cron: CronJob, finished: readonly Job[]): Promise<void> => {
    const good = (job: Job): boolean => job.status?.conditions?.some((c) => c.type === 'Complete') ?? false;
    const newestFirst = finished.toSorted((a, b) => created(b) - created(a));
    const spare = [
      ...newestFirst.filter(good).slice(cron.spec.successfulJobsHistoryLimit ?? 3),
      ...newestFirst.filter((job) => !good(job)).slice(cron.spec.failedJobsHistoryLimit ?? 1),
    ];
    for (const job of spare) await ignoreNotFound(jobs.delete(job, { propagationPolicy: 'Background' }));
  };
  const launch = async (cron: CronJob, due: number, active: readonly Job[]): Promise<boolean> => {
    if (active.length > 0 && cron.spec.concurrencyPolicy === 'Forbid') {
      recorder.record(
        cron,
        'Normal',
        'JobAlreadyActive',
        'Not starting job because prior execution is running and concurrency policy is Forbid',
      );
      return false;
    }
    if (cron.spec.concurrencyPolicy === 'Replace')
      for (const job of active) await ignoreNotFound(jobs.delete(job, { propagationPolicy: 'Background' }));
    try {
      const job = await jobs.create(makeJob(cron, due));
      recorder.record(cron, 'Normal', 'SuccessfulCreate', `Created job ${job.metadata.name}`);
    } catch (error) {
      // The same tick was served before a restart.
      if (!isConflict(error)) throw error;
    }
    return true;
  };
  const reconcile = async (cron: CronJob): Promise<number | undefined> => {
    const { namespace, name, uid = '' } = cron.metadata;
    if (cron.metadata.deletionTimestamp !== undefined) return undefined;
    const schedule = parseCron(cron.spec.schedule);
    const offset = zoneOffset(cron.spec.timeZone ?? 'UTC');
    if (schedule.kind === 'invalid' || !offset) {
      const why =
        schedule.kind === 'invalid' ? schedule.diagnostics[0]!.message : `unknown time zone "${cron.spec.timeZone}"`;
      recorder.record(cron, 'Warning', 'UnparseableSchedule', why);
      return undefined;
    }
    const now = context.clock.now();
    const before = jobs.ownedBy(namespace, uid);
    await trimHistory(cron, before.filter(isFinished));
    let lastScheduleTime = cron.status?.lastScheduleTime;
    const deadline = cron.spec.startingDeadlineSeconds;
    const since = Math.max(
      Date.parse(lastScheduleTime ?? '') || created(cron),
      deadline === undefined ? 0 : now - deadline * 1000,
    );
    const due = cron.spec.suspend ? undefined : lastDue(schedule.value, since, now, offset);
    if (
      due !== undefined &&
      (await launch(
        cron,
        due,
        before.filter((job) => !isFinished(job)),
      ))
    )
      lastScheduleTime = timestamp(due);
    const owned = jobs.ownedBy(namespace, uid);
    const ends = owned.map((job) => job.status?.completionTime ?? '').filter((t) => t !== '');
    const lastSuccessfulTime = [...ends, cron.status?.lastSuccessfulTime ?? ''].sort().at(-1);
    await writeStatus(crons, crons.get(namespace, name) ?? cron, {
      active: owned
        .filter((job) => !isFinished(job) && !job.metadata.deletionTimestamp)
        .map((job) => ({
          apiVersion: 'batch/v1',
          kind: 'Job',
          namespace,
          name: job.metadata.name,
          uid: job.metadata.uid,
        })),
      ...(lastScheduleTime ? { lastScheduleTime } : {}),
      ...(lastSuccessfulTime ? { lastSuccessfulTime } : {}),
    });
    const next = cron.spec.suspend ? undefined : nextTime(schedule.value, now, offset);
    return next === undefined ? undefined : next - now;
  };

  return startController(context, {
    name: 'cronjob',
    async reconcile(namespace, name) {
      const cron = crons.get(namespace, name);
      return cron && reconcile(cron);
    },
    watch: (add) => [
      crons.onChange((change) => add(keyOf(change.object))),
      jobs.onChange(enqueueOwner('CronJob', add)),
    ],
  });
}

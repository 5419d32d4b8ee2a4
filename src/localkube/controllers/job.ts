// Job controller: runs pods to completion. Whether a pod succeeded is the kubelet's word (its phase), so native
// sidecars do not hold a job open. Started by start.ts.
import { JOBS, type Job } from '../../api/kubernetes/job.ts';
import { PODS, type Pod } from '../../api/kubernetes/pod.ts';
import { randomSuffix } from './children.ts';
import {
  type Controller,
  type ControllerContext,
  enqueueOwner,
  ignoreNotFound,
  keyOf,
  startController,
} from './context.ts';
import { INDEX_ANNOTATION, isFinished, planJob, ttl, unsupportedField } from './job-plan.ts';
import { createPodControl, podFromTemplate, slowStart, writeStatus } from './pods.ts';

const UID_LABEL = 'batch.kubernetes.io/controller-uid';
const NAME_LABEL = 'batch.kubernetes.io/job-name';
const MAX_NAME_BASE = 50;

function makePod(job: Job, index: number | undefined, random: () => number): Pod {
  const { name, uid = '' } = job.metadata;
  const labels = { [UID_LABEL]: uid, 'controller-uid': uid, [NAME_LABEL]: name, 'job-name': name };
  const { template } = job.spec;
  if (index === undefined) return podFromTemplate(job, template, { random, labels });
  const env = { name: 'JOB_COMPLETION_INDEX', value: String(index) };
  const withEnv = <C extends { readonly env?: readonly { readonly name: string }[] }>(container: C): C => ({
    ...container,
    env: [...(container.env ?? []), env],
  });
  return podFromTemplate(job, template, {
    random,
    name: `${name.slice(0, MAX_NAME_BASE)}-${index}-${randomSuffix(random)}`,
    labels: { ...labels, [INDEX_ANNOTATION]: String(index) },
    annotations: { [INDEX_ANNOTATION]: String(index) },
    spec: {
      hostname: `${name.slice(0, MAX_NAME_BASE)}-${index}`,
      containers: template.spec.containers.map(withEnv),
      ...(template.spec.initContainers ? { initContainers: template.spec.initContainers.map(withEnv) } : {}),
    },
  });
}

export function startJobController(context: ControllerContext): Controller {
  const jobs = context.store<Job>(JOBS);
  const pods = context.store<Pod>(PODS);
  const recorder = context.recorder('job-controller');
  const control = createPodControl(pods, recorder);

  const reconcile = async (job: Job): Promise<number | undefined> => {
    const { namespace, name, uid = '' } = job.metadata;
    if (job.metadata.deletionTimestamp !== undefined) return undefined;
    const refused = unsupportedField(job);
    if (refused !== undefined) {
      recorder.record(job, 'Warning', 'Unsupported', `spec.${refused} is not supported by localkube; remove it`);
      return undefined;
    }
    const plan = planJob({ job, pods: pods.ownedBy(namespace, uid), now: context.clock.now() });
    let failure: { readonly error: unknown } | undefined;
    try {
      await Promise.all(plan.remove.map((pod) => control.delete(job, pod)));
      await slowStart(plan.create.map((index) => () => control.create(job, makePod(job, index, context.random))));
    } catch (error) {
      failure = { error };
    }
    const made = plan.create.length > 0 ? pods.ownedBy(namespace, uid) : undefined;
    // The status of a pass that made pods counts them.
    const status = made ? planJob({ job, pods: made, now: context.clock.now() }).status : plan.status;
    await writeStatus(jobs, jobs.get(namespace, name) ?? job, status);
    if (failure) throw failure.error;
    if (plan.ended)
      recorder.record(
        job,
        plan.ended.type === 'Complete' ? 'Normal' : 'Warning',
        plan.ended.type === 'Complete' ? 'Completed' : (plan.ended.reason ?? 'Failed'),
        plan.ended.type === 'Complete' ? 'Job completed' : (plan.ended.message ?? ''),
      );
    if (isFinished(job) && ttl(job, context.clock.now()) === 0) {
      await ignoreNotFound(jobs.delete(job, { propagationPolicy: 'Background' }));
      return undefined;
    }
    return plan.againMs;
  };

  return startController(context, {
    name: 'job',
    async reconcile(namespace, name) {
      const job = jobs.get(namespace, name);
      return job && reconcile(job);
    },
    watch: (add) => [jobs.onChange((change) => add(keyOf(change.object))), pods.onChange(enqueueOwner('Job', add))],
  });
}

// The state of one pod in memory and on the run tmpfs; every change is saved and reported. Used by the pod worker.
import {
  type ContainerKind,
  type ContainerRecord,
  type Instance,
  newRecord,
  type PodState,
  saveState,
} from './records.ts';

export interface PodStore {
  readonly state: PodState;
  update(change: Partial<PodState>): void;
  container(name: string, kind: ContainerKind): ContainerRecord;
  set(name: string, change: Partial<ContainerRecord>): void;
  setCurrent(name: string, change: Partial<Instance>): void;
  find(instanceId: string): ContainerRecord | undefined;
}

export function createPodStore(podRun: string, initial: PodState, onChange: () => void): PodStore {
  let state = initial;
  const put = (next: PodState): void => {
    state = next;
    saveState(podRun, state);
    onChange();
  };
  const existing = (name: string): ContainerRecord => {
    const record = state.containers[name];
    if (!record) throw new Error(`container ${name} has no record`);
    return record;
  };
  const set = (name: string, change: Partial<ContainerRecord>): void =>
    put({ ...state, containers: { ...state.containers, [name]: { ...existing(name), ...change } } });
  return {
    get state() {
      return state;
    },
    update: (change) => put({ ...state, ...change }),
    container(name, kind) {
      const known = state.containers[name];
      if (known) return known;
      const record = newRecord(name, kind);
      state = { ...state, containers: { ...state.containers, [name]: record } };
      return record;
    },
    set,
    setCurrent(name, change) {
      const { current } = existing(name);
      if (current) set(name, { current: { ...current, ...change } });
    },
    find: (id) => Object.values(state.containers).find((record) => record.current?.id === id),
  };
}

/** Running jobs as an indented list: under each job those that read its output. */

import type { JobInfo } from "../rest";

export interface JobLine {
  job: JobInfo;
  depth: number;
  /** It reads several jobs, and stands in full under the first of them. */
  again: boolean;
}

/** Sources first, each followed by what reads it. Every job comes at least once, also in a graph that is not whole. */
export function jobLines(jobs: JobInfo[]): JobLine[] {
  const known = new Set(jobs.map((job) => job.id));
  const readers = new Map<string, JobInfo[]>();
  for (const job of jobs) {
    for (const input of job.inputs) readers.set(input, [...(readers.get(input) ?? []), job]);
  }
  const lines: JobLine[] = [];
  const seen = new Set<string>();
  const add = (job: JobInfo, depth: number) => {
    const again = seen.has(job.id);
    lines.push({ job, depth, again });
    if (again) return;
    seen.add(job.id);
    for (const reader of readers.get(job.id) ?? []) add(reader, depth + 1);
  };
  for (const job of jobs) {
    if (!job.inputs.some((input) => known.has(input))) add(job, 0);
  }
  for (const job of jobs) {
    if (!seen.has(job.id)) add(job, 0);
  }
  return lines;
}

/** Counts of something at a moment, by name. */
export interface Counted {
  /** Milliseconds on a monotonic clock. */
  at: number;
  counts: Map<string, number>;
}

/** Per second, between two moments; what was not there before, or began anew, has no rate. */
export function rates(before: Counted | null, now: Counted): Map<string, number> {
  const perSecond = new Map<string, number>();
  if (before === null || now.at <= before.at) return perSecond;
  for (const [name, count] of now.counts) {
    const old = before.counts.get(name);
    if (old !== undefined && count >= old) perSecond.set(name, ((count - old) * 1000) / (now.at - before.at));
  }
  return perSecond;
}

/** Rows that went another way than on: by what became of them, only what there is. */
export function losses(counters: JobInfo["counters"]): [string, number][] {
  const named: [string, number][] = [
    ["late", counters.late + counters.late_idle],
    ["undecodable", counters.undecodable],
    ["without event time", counters.without_event_time],
    ["failed", counters.failed],
    ["pairs failed", counters.pairs_failed],
    ["dropped", counters.dropped],
    ["forgotten", counters.forgotten],
  ];
  return named.filter(([, rows]) => rows > 0);
}

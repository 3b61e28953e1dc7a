/** Running jobs as an indented list: under each job those that read its output. */

import type { Counters, JobInfo } from "../rest";

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

/** What became of rows that went another way than on: the counter's name, in words, and why. */
const LOSSES: [keyof Counters, string, string][] = [
  ["late", "late", "behind the watermark of the rows before them, for all their windows"],
  ["late_idle", "late (idle)", "their partition was silent, and their windows were closed without it"],
  ["undecodable", "undecodable", "records that are not what the format and the columns say"],
  ["without_event_time", "without event time", "their event time is null"],
  ["failed", "failed", "an expression failed on them: a division by zero, a cast"],
  ["pairs_failed", "pairs failed", "a join's condition failed on them"],
  ["dropped", "dropped", "retention took them before they were read"],
  ["forgotten", "forgotten", "groups and waiting rows whose time to live had passed"],
];

/** What became of rows on a query's own wish. */
const CHOICES: [keyof Counters, string, string][] = [
  ["filtered", "filtered", "a condition did not let them through"],
  ["sampled", "sampled", "TABLESAMPLE left them out"],
  ["before_start", "before the start", "they came before the first whole window that is told"],
];

/** So many rows of a kind. */
export interface Fate {
  counter: keyof Counters;
  name: string;
  why: string;
  rows: number;
}

function fates(kinds: typeof LOSSES, counters: Counters): Fate[] {
  const all = kinds.map(([counter, name, why]) => ({ counter, name, why, rows: counters[counter] ?? 0 }));
  return all.filter(({ rows }) => rows > 0);
}

/** Rows that went another way than on: by what became of them, only what there is. */
export function losses(counters: Counters): Fate[] {
  return fates(LOSSES, counters);
}

/** Rows that the query did not want. */
export function choices(counters: Counters): Fate[] {
  // What a sample leaves out is counted among what is filtered.
  return fates(CHOICES, { ...counters, filtered: counters.filtered - counters.sampled });
}

/** Counters that tell of records or rows of which samples are kept. */
const SAMPLED: (keyof Counters)[] = ["undecodable", "without_event_time", "failed", "pairs_failed"];

/** Whether there may be samples of rows that were set aside. */
export function hasSamples(counters: Counters): boolean {
  return SAMPLED.some((counter) => (counters[counter] ?? 0) > 0);
}

/** Whether rows were late. */
export function hasLate(counters: Counters): boolean {
  return counters.late + counters.late_idle > 0;
}

/** The stream whose late rows this job keeps; null: it keeps none. */
function keptFor(job: JobInfo): string | null {
  return job.kind === "late" ? (/^late\((.*)\)$/.exec(job.stream ?? "")?.[1] ?? null) : null;
}

/** How many rows were late for a stream. */
export function lateFor(stream: string, jobs: JobInfo[]): number {
  return jobs.filter((job) => keptFor(job) === stream).reduce((sum, job) => sum + job.counters.rows_in, 0);
}

/** The streams that keep the rows that were late for a job. */
export function lateKeptBy(job: JobInfo, jobs: JobInfo[]): string[] {
  return jobs.filter((other) => other.inputs.includes(job.id)).flatMap((other) => keptFor(other) ?? []);
}

/** A name as it stands in a statement. */
export function quoted(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

/** The statement that reads the rows that were late for a stream: those that are kept, and those that come. */
export function lateRowsOf(stream: string): string {
  return `SELECT * FROM LATE(${quoted(stream)}) SINCE EARLIEST`;
}

/** The statement that counts them by reason. */
export function lateReasonsOf(stream: string): string {
  return `SELECT window_start, late_reason, late_input, count(*) AS rows, max(late_by_ms) AS latest_by_ms
FROM LATE(${quoted(stream)}) SINCE EARLIEST
GROUP BY late_reason, late_input, tumble('10s')
EMIT EVERY INTERVAL '1 second'`;
}

/** What is known of a live query's answer: rows, gaps and counters, from the messages in their order. */

import type { Cell, Field, Gap, Op, Params, Progress, Rows, Subscribed } from "../wire";
import { type ChartPlan, planChart } from "./chart";
import { count, millisecondsOf } from "./quantity";
import { Ring } from "./ring";

/** Rows kept for a table. Older ones go, and are counted. */
export const KEPT_ROWS = 10_000;

export interface Row {
  kind: "row";
  /** Ascends through a result; an update has a number of its own. */
  number: number;
  values: Cell[];
  /** Milliseconds since 1970 of the chart's time column. */
  x: number | null;
  op: Op | null;
  /** Its window began before the query saw all of it. */
  partial: boolean;
}

export interface GapMark {
  kind: "gap";
  number: number;
  /** Null: nobody knows how many. */
  rows: number | null;
  reason: string;
}

/** From here on rows are chosen by other values of parameters. */
export interface ChangeMark {
  kind: "change";
  number: number;
  values: Record<string, Cell>;
  position: string;
}

export type Item = Row | GapMark | ChangeMark;

export interface Result {
  schema: Field[];
  key: string[];
  chart: ChartPlan | null;
  items: Ring<Item>;
  /** Rows and gaps so far. */
  count: number;
  rows: number;
  gaps: number;
  /** Rows in the gaps, as far as they were counted. */
  missing: number;
  /** A gap of unknown size was among them. */
  missingUnknown: boolean;
  progress: Progress | null;
  watermark: string | null;
  /** Milliseconds since 1970; windows that start earlier are partial. Null: none is. */
  completeFrom: number | null;
  partialRows: number;
  sharedWith: number;
  labels: string[];
  policy: string;
  query: string;
  /** On the browser's monotonic clock, in milliseconds. */
  askedAt: number;
  firstRowAt: number | null;
  pace: { second: number; rows: number; before: number };
}

/** A result before its first message. `now` is in milliseconds of a monotonic clock. */
export function newResult(now: number): Result {
  return {
    schema: [],
    key: [],
    chart: null,
    items: new Ring(KEPT_ROWS),
    count: 0,
    rows: 0,
    gaps: 0,
    missing: 0,
    missingUnknown: false,
    progress: null,
    watermark: null,
    completeFrom: null,
    partialRows: 0,
    sharedWith: 0,
    labels: [],
    policy: "",
    query: "",
    askedAt: now,
    firstRowAt: null,
    pace: { second: Math.floor(now / 1000), rows: 0, before: 0 },
  };
}

/** The subscription runs, for the first time or again after the connection was lost. */
export function subscribed(result: Result, message: Subscribed): void {
  const sameColumns = JSON.stringify(result.schema) === JSON.stringify(message.schema);
  if (!sameColumns) result.items.clear();
  result.schema = message.schema;
  result.key = message.key;
  result.chart = planChart(message.schema, message.key);
  result.completeFrom = millisecondsOf(message.complete_from);
  result.sharedWith = message.shared_with;
  result.labels = message.labels;
  result.policy = message.policy;
  result.query = message.query;
}

/** Rows came. */
export function rowsCame(result: Result, message: Rows, now: number): void {
  const { items, schema, chart, completeFrom } = result;
  const keyColumns = result.key.map((name) => schema.findIndex((field) => field.name === name));
  const windowStart = schema.findIndex((field) => field.name === "window_start");
  message.rows.forEach((values, at) => {
    const op = message.ops?.[at] ?? null;
    // A result that changes and has no key is one row.
    const replaces = keyColumns.length > 0 || op !== null;
    const key = replaces ? JSON.stringify(keyColumns.map((column) => values[column])) : null;
    if (op === "d") {
      if (key !== null) items.remove(key);
      return;
    }
    const start = completeFrom === null || windowStart < 0 ? null : millisecondsOf(values[windowStart]);
    const row: Row = {
      kind: "row",
      number: result.count++,
      values,
      x: chart === null || chart.x === null ? null : millisecondsOf(values[chart.x]),
      op,
      partial: start !== null && completeFrom !== null && start < completeFrom,
    };
    if (row.partial) result.partialRows += 1;
    if (key === null) items.push(row);
    else items.upsert(key, row);
  });
  result.rows += message.rows.length;
  result.watermark = message.watermark;
  result.firstRowAt ??= message.rows.length > 0 ? now : null;
  const second = Math.floor(now / 1000);
  settle(result, second);
  result.pace.rows += message.rows.length;
}

/** Rows are missing. */
export function gapCame(result: Result, message: Gap): void {
  result.items.push({ kind: "gap", number: result.count++, rows: message.rows, reason: message.reason });
  result.gaps += 1;
  result.missing += message.rows ?? 0;
  result.missingUnknown ||= message.rows === null;
}

/** Parameters have other values, or keep theirs. */
export function paramsCame(result: Result, message: Params, changed: Record<string, Cell>): void {
  result.query = message.query;
  if (message.error !== undefined) return;
  result.items.push({ kind: "change", number: result.count++, values: changed, position: message.position });
}

/** How many rows are missing, in words. */
export function missingRows(result: Result): string {
  if (!result.missingUnknown) return `${count(result.missing)} rows`;
  return result.missing === 0 ? "nobody knows how many rows" : `more than ${count(result.missing)} rows`;
}

/** Why rows are missing, in words. */
export function gapReason(reason: string): string {
  const words: Record<string, string> = {
    slow: "this reader was too slow",
    retention: "they are no longer kept",
    epoch: "the stream began anew",
  };
  return words[reason] ?? reason;
}

/** How the query stands. */
export function progressCame(result: Result, message: Progress): void {
  result.progress = message;
  result.watermark = message.watermark;
}

/** Rows in the last whole second. */
export function rowsPerSecond(result: Result, now: number): number {
  settle(result, Math.floor(now / 1000));
  return result.pace.before;
}

function settle(result: Result, second: number): void {
  const { pace } = result;
  if (pace.second === second) return;
  pace.before = pace.second === second - 1 ? pace.rows : 0;
  pace.rows = 0;
  pace.second = second;
}

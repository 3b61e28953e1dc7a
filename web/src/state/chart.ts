/** Which chart a result's schema asks for, and its points. */

import type { Cell, Field, Op } from "../wire";
import { kindOf, numberOf, wholeText } from "./cell";

/** Lines or bars drawn at once; more cannot be told apart. */
export const MOST_SERIES = 10;

/** Rows that a chart looks at, so that a redraw stays within a few milliseconds. */
export const CHART_ROWS = 4_000;

/** Most distinct values of a column by which raw rows are split. */
const LOW_CARDINALITY = 12;

/** A second measure is drawn beside the first unless it is so many times larger or smaller. */
const COMPARABLE = 50;

/** Whole numbers with such names say which, not how much. */
const NAMES_OF_LABELS = /^(id|cpu|core|pid|port|partition|flight|year|month|day|hour|code|status)$|_(id|no|code|pid)$/i;

/** What can be drawn of a schema. Numbers are indices of columns. */
export interface ChartPlan {
  /** The time axis; null: there is none, bars are drawn. */
  x: number | null;
  /** Whether a row stands for a window, so that it is one point of its group's line. */
  windowed: boolean;
  measures: number[];
  labels: number[];
}

/** What is drawn. */
export interface ChartChoice {
  measures: number[];
  split: number[];
}

export interface ChartRow {
  values: Cell[];
  /** Milliseconds since 1970; null without a time column or when its value is null. */
  x: number | null;
  /** `u`: a running result. */
  op?: Op | null;
}

export interface Series {
  name: string;
  /** One value for each of the chart's xs; null: there is none. */
  values: (number | null)[];
}

export interface ChartData {
  /** Seconds since 1970, ascending. */
  xs: number[];
  series: Series[];
  /** Groups that are not drawn, since there are too many. */
  hidden: number;
  /** From this x on there are windows that still fill; null: all are final. */
  openFrom: number | null;
}

export interface Bar {
  name: string;
  value: number;
}

/** The plan for a schema; null when there is nothing to draw. */
export function planChart(schema: Field[], key: string[]): ChartPlan | null {
  const kinds = schema.map((field) => kindOf(field.type));
  const named = (name: string) => schema.findIndex((field, at) => field.name === name && kinds[at] === "time");
  const windows = ["window_start", "window_end", "window_time"].map(named).filter((at) => at >= 0);
  // Of rows that replace each other by a key, a time that is no part of it says when a row was told, not where it belongs.
  const isMoment = (field: Field, at: number) => kinds[at] === "time" && (key.length === 0 || key.includes(field.name));
  const firstTime = windows[0] ?? schema.findIndex(isMoment);
  const isLabel = (field: Field, at: number) =>
    kinds[at] === "text" ||
    kinds[at] === "truth" ||
    (kinds[at] === "number" && /Int/.test(field.type) && (key.includes(field.name) || NAMES_OF_LABELS.test(field.name)));
  const indices = schema.map((_, at) => at);
  const labels = indices.filter((at) => isLabel(schema[at]!, at));
  const measures = indices.filter((at) => kinds[at] === "number" && !labels.includes(at));
  const x = firstTime < 0 ? null : firstTime;
  if (measures.length === 0 || (x === null && labels.length === 0)) return null;
  return { x, windowed: windows.length > 0, measures, labels };
}

/** What to draw of these rows unless the reader chooses. */
export function chooseChart(plan: ChartPlan, rows: ChartRow[]): ChartChoice {
  const split = chooseSplit(plan, rows);
  const first = plan.measures[0]!;
  if (split.length > 0 || plan.x === null) return { measures: [first], split };
  const size = (column: number) =>
    rows.reduce((most, row) => Math.max(most, Math.abs(numberOf(row.values[column] ?? null) ?? 0)), 0);
  const reference = size(first);
  const comparable = plan.measures.filter((column) => {
    const ratio = size(column) / reference;
    return column === first || (ratio <= COMPARABLE && ratio >= 1 / COMPARABLE);
  });
  return { measures: comparable.slice(0, 4), split };
}

function chooseSplit(plan: ChartPlan, rows: ChartRow[]): number[] {
  // A windowed row is one point a group: without its groups a line would jump between them.
  if (plan.windowed || plan.x === null) return plan.labels;
  let best: { column: number; distinct: number } | null = null;
  for (const column of plan.labels) {
    const distinct = new Set(rows.map((row) => wholeText(row.values[column] ?? null))).size;
    if (distinct > 1 && distinct <= LOW_CARDINALITY && (best === null || distinct < best.distinct)) {
      best = { column, distinct };
    }
  }
  return best === null ? [] : [best.column];
}

function groupName(row: ChartRow, split: number[]): string {
  return split.map((column) => wholeText(row.values[column] ?? null)).join(" · ");
}

/** Lines of the rows, which come newest first: of two points of a line at one moment, the newest stays. */
export function lines(schema: Field[], choice: ChartChoice, rows: ChartRow[], windowed = false): ChartData {
  const open = windowed ? rows.filter((row) => row.op === "u" && row.x !== null).map((row) => row.x!) : [];
  const groups = new Map<string, Map<number, number>>();
  for (const row of rows) {
    if (row.x === null) continue;
    const group = groupName(row, choice.split);
    for (const measure of choice.measures) {
      const y = numberOf(row.values[measure] ?? null);
      if (y === null) continue;
      const measured = schema[measure]!.name;
      const name = group === "" ? measured : choice.measures.length > 1 ? `${group} · ${measured}` : group;
      let points = groups.get(name);
      if (points === undefined) groups.set(name, (points = new Map()));
      if (!points.has(row.x)) points.set(row.x, y);
    }
  }
  const kept = largest(groups, (points) => [...points.values()].reduce((sum, y) => sum + Math.abs(y), 0));
  const xs = [...new Set(kept.flatMap(([, points]) => [...points.keys()]))].sort((a, b) => a - b);
  return {
    xs: xs.map((x) => x / 1000),
    series: kept.map(([name, points]) => ({ name, values: xs.map((x) => points.get(x) ?? null) })),
    hidden: groups.size - kept.length,
    openFrom: open.length === 0 ? null : Math.min(...open) / 1000,
  };
}

/** Where rows are missing, from the last moment before a gap to the first behind it, in seconds. Items come newest first. */
export function breaks(items: { kind: string; x?: number | null }[]): [number, number][] {
  const found: [number, number][] = [];
  let after: number | null = null;
  let missing = false;
  for (const item of items) {
    if (item.kind === "gap") missing = true;
    const x = item.kind === "row" ? (item.x ?? null) : null;
    if (x === null) continue;
    if (missing && after !== null && x < after) found.push([x / 1000, after / 1000]);
    missing = false;
    after = x;
  }
  return found;
}

/** Bars of the rows, which come newest first: the newest row of each group counts. Largest first. */
export function bars(choice: ChartChoice, rows: ChartRow[]): { bars: Bar[]; hidden: number } {
  const measure = choice.measures[0]!;
  const groups = new Map<string, number>();
  for (const row of rows) {
    const name = groupName(row, choice.split);
    const value = numberOf(row.values[measure] ?? null);
    if (value !== null && !groups.has(name)) groups.set(name, value);
  }
  const kept = largest(groups, Math.abs).map(([name, value]) => ({ name, value }));
  kept.sort((a, b) => b.value - a.value);
  return { bars: kept, hidden: groups.size - kept.length };
}

/** The groups with the greatest weight, by name so that colours stay when weights change. */
function largest<Value>(groups: Map<string, Value>, weigh: (value: Value) => number): [string, Value][] {
  const entries = [...groups];
  const kept =
    entries.length <= MOST_SERIES
      ? entries
      : entries
          .map((entry) => ({ entry, weight: weigh(entry[1]) }))
          .sort((a, b) => b.weight - a.weight)
          .slice(0, MOST_SERIES)
          .map(({ entry }) => entry);
  return kept.sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
}

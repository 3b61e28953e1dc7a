/** A chart chosen from the result's schema: lines over event time, or bars. */

import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import type { LiveQuery } from "../pane";
import { bars, breaks, CHART_ROWS, type ChartChoice, type ChartData, type ChartPlan, type ChartRow, chooseChart, lines, MOST_SERIES } from "../state/chart";
import { shownText } from "../state/cell";
import { measured } from "../state/quantity";
import type { Result } from "../state/result";
import type { Field } from "../wire";

/** A chart is redrawn at most so often; the eye needs no more, and the table has the frames. */
const REDRAW_MS = 120;

const HEIGHT = 190;

/** What the reader has chosen; absent: what fits. */
interface Wish {
  measure?: number;
  split?: number | "none";
}

export function Chart({ query, plan, theme }: { query: LiveQuery; plan: ChartPlan; theme: string }) {
  const [wish, setWish] = useState<Wish>({});
  const { schema } = query.result;
  // What fits is looked for once a second: it reads thousands of rows.
  const second = Math.floor(performance.now() / 1000);
  const fitting = useMemo(() => look(query.result, plan, {}).choice, [query, plan, second]);
  const names = (columns: number[]) => columns.map((column) => schema[column]?.name).join(", ");
  return (
    <figure className="chart">
      <figcaption>
        <Pick label="measure" fits={names(fitting.measures)} options={plan.measures} schema={schema} value={wish.measure} onPick={(measure) => setWish({ ...wish, measure: measure as number })} onFit={() => setWish(({ measure: _, ...rest }) => rest)} />
        {plan.labels.length > 0 && (
          <Pick label="split by" fits={names(fitting.split) || "nothing"} options={plan.labels} schema={schema} value={wish.split} none onPick={(split) => setWish({ ...wish, split })} onFit={() => setWish(({ split: _, ...rest }) => rest)} />
        )}
      </figcaption>
      {plan.x === null ? <Bars query={query} plan={plan} wish={wish} /> : <Lines query={query} plan={plan} wish={wish} theme={theme} />}
    </figure>
  );
}

interface PickProps {
  label: string;
  /** What is drawn unless the reader picks. */
  fits: string;
  options: number[];
  schema: Field[];
  value: number | "none" | undefined;
  none?: boolean;
  onPick: (column: number | "none") => void;
  onFit: () => void;
}

function Pick({ label, fits, options, schema, value, none = false, onPick, onFit }: PickProps) {
  const picked = (text: string) => (text === "" ? onFit() : onPick(text === "none" ? "none" : Number(text)));
  return (
    <label>
      {label}
      <select value={value ?? ""} onChange={(event) => picked(event.target.value)}>
        <option value="">{fits} (fits)</option>
        {none && <option value="none">nothing</option>}
        {options.map((column) => (
          <option key={column} value={column}>{schema[column]?.name}</option>
        ))}
      </select>
    </label>
  );
}

/** The newest rows, and what to draw of them. */
function look(result: Result, plan: ChartPlan, wish: Wish): { rows: ChartRow[]; choice: ChartChoice } {
  const rows = result.items.newestFirst(CHART_ROWS).filter((item) => item.kind === "row");
  const fitting = chooseChart(plan, rows);
  const split = wish.split === undefined ? fitting.split : wish.split === "none" ? [] : [wish.split];
  return { rows, choice: { measures: wish.measure === undefined ? fitting.measures : [wish.measure], split } };
}

/** Calls `draw` after changes of the query, but not more often than charts are redrawn. */
function useRedraw(query: LiveQuery, draw: () => void) {
  const latest = useRef(draw);
  latest.current = draw;
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | null = null;
    const redraw = () => {
      timer = null;
      latest.current();
    };
    redraw();
    const stop = query.onChange(() => (timer ??= setTimeout(redraw, REDRAW_MS)));
    return () => {
      stop();
      if (timer !== null) clearTimeout(timer);
    };
  }, [query]);
}

function Lines({ query, plan, wish, theme }: { query: LiveQuery; plan: ChartPlan; wish: Wish; theme: string }) {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<{ plot: uPlot; names: string } | null>(null);
  // A line keeps its colour when others come and go.
  const colours = useRef(new Map<string, number>());
  const [hidden, setHidden] = useState(0);
  const open = useRef<number | null>(null);
  const missing = useRef<[number, number][]>([]);
  const [isOpen, setOpen] = useState(false);

  const draw = () => {
    const parent = holder.current;
    if (parent === null) return;
    const { rows, choice } = look(query.result, plan, wish);
    const data = lines(query.result.schema, choice, rows, plan.windowed);
    const measure = choice.measures.map((at) => query.result.schema[at]?.name).join();
    const names = JSON.stringify([theme, measure, data.series.map((series) => series.name)]);
    open.current = data.openFrom;
    missing.current = breaks(query.result.items.newestFirst(CHART_ROWS));
    setOpen(data.openFrom !== null);
    const columns: uPlot.AlignedData = [data.xs, ...data.series.map((series) => series.values)];
    if (plot.current?.names === names) {
      plot.current.plot.setData(columns);
    } else {
      plot.current?.plot.destroy();
      plot.current = { names, plot: new uPlot(settings(parent, data, measure, assignColours(colours.current, data), { open, missing }), columns, parent) };
    }
    // While nobody points at the chart, the legend has the newest values.
    const { plot: drawn } = plot.current;
    if ((drawn.cursor.idx ?? null) === null) drawn.setLegend({ idx: data.xs.length - 1 });
    setHidden(data.hidden);
    parent.dataset["points"] = String(data.xs.length);
    parent.dataset["latest"] = String(data.xs.at(-1) ?? "");
    parent.dataset["values"] = data.series.map((series) => series.values.at(-1) ?? "").join();
    parent.setAttribute("aria-label", `line chart of ${choice.measures.map((at) => query.result.schema[at]?.name).join(", ")}, ${data.series.length} lines`);
  };
  useRedraw(query, draw);
  const latest = useRef(draw);
  latest.current = draw;
  useEffect(() => latest.current(), [wish, theme]);
  useEffect(() => {
    const parent = holder.current!;
    const observer = new ResizeObserver(() => plot.current?.plot.setSize({ width: parent.clientWidth, height: HEIGHT }));
    observer.observe(parent);
    return () => {
      observer.disconnect();
      plot.current?.plot.destroy();
      plot.current = null;
    };
  }, []);
  return (
    <>
      <div className="lines" ref={holder} role="img" aria-label="line chart" />
      {isOpen && <p className="note">shaded: windows that still fill</p>}
      {hidden > 0 && <p className="note">the {MOST_SERIES} largest lines are drawn, {hidden} others are not</p>}
    </>
  );
}

/** Gives each line a number from 0 that no other line drawn has. */
function assignColours(kept: Map<string, number>, data: ChartData): Map<string, number> {
  const drawn = new Set(data.series.map((series) => series.name));
  for (const name of kept.keys()) {
    if (!drawn.has(name)) kept.delete(name);
  }
  for (const name of drawn) {
    if (kept.has(name)) continue;
    const taken = new Set(kept.values());
    let free = 0;
    while (taken.has(free)) free += 1;
    kept.set(name, free);
  }
  return kept;
}

/** What is marked beside the lines, as it is when they are drawn. */
interface Marks {
  /** Windows still fill from here on. */
  open: { current: number | null };
  /** Rows are missing between these. */
  missing: { current: [number, number][] };
}

function settings(parent: HTMLElement, data: ChartData, measure: string, colours: Map<string, number>, marks: Marks): uPlot.Options {
  const colour = (name: string) => resolved(parent, `var(--${name})`);
  const axis = { stroke: colour("soft"), grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const single = data.xs.length < 3;
  const shade = colour("selection");
  return {
    width: Math.max(parent.clientWidth, 100),
    height: HEIGHT,
    // Event time is UTC everywhere.
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    cursor: { points: { size: 5 }, drag: { x: false, y: false } },
    padding: [8, 34, 0, 0],
    hooks: {
      drawClear: [(plot) => shadeOpen(plot, marks.open.current, shade)],
      ready: [(plot) => plot.setLegend({ idx: plot.data[0].length - 1 })],
    },
    scales: {
      x: { time: true, range: momentRange },
      y: { range: (_, least, most) => valueRange(least, most) },
    },
    axes: [
      { ...axis, size: 26, space: 90, values: (_, splits, __, ___, step) => splits.map((at) => tick(at, step)) },
      { ...axis, size: 62, values: (_, splits) => splits.map((value) => measured(value, measure)) },
    ],
    series: [
      { label: "UTC", value: "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}" },
      ...data.series.map((series) => ({
        label: series.name,
        stroke: colour(`series-${(colours.get(series.name) ?? 0) % MOST_SERIES}`),
        width: 1.5,
        // A group without a row in a window is no gap; rows that never came are.
        gaps: (plot: uPlot) => marks.missing.current.map(([from, to]): [number, number] => [plot.valToPos(from, "x", true), plot.valToPos(to, "x", true)]),
        value: (plot: uPlot, value: number | null, at: number) => legendValue(plot, value, at, measure),
        points: { show: single ? true : undefined, size: 4 } as uPlot.Series.Points,
      })),
    ],
  };
}

/** The value of a line where the pointer is; while it is nowhere, the newest. */
function legendValue(plot: uPlot, value: number | null, series: number, measure: string): string {
  const pointed = (plot.cursor.idx ?? null) !== null;
  const shown = value ?? (pointed ? null : newest(plot.data[series]));
  return shown === null ? "–" : measured(shown, measure);
}

/** The last value that there is. */
function newest(values: uPlot.AlignedData[number] | undefined): number | null {
  for (let at = (values?.length ?? 0) - 1; at >= 0; at -= 1) {
    const value = values?.[at];
    if (value !== null && value !== undefined) return value;
  }
  return null;
}

/** Shades where windows still fill: their values are not what they will be. */
function shadeOpen(plot: uPlot, openFrom: number | null, colour: string) {
  if (openFrom === null) return;
  const { left, width, top, height } = plot.bbox;
  const xs = plot.data[0];
  const before = Array.from(xs).findLast((x) => x < openFrom);
  const from = Math.max(left, plot.valToPos(before ?? openFrom, "x", true));
  plot.ctx.save();
  plot.ctx.fillStyle = colour;
  plot.ctx.globalAlpha = 0.45;
  plot.ctx.fillRect(from, top, left + width - from, height);
  plot.ctx.restore();
}

/** The time axis; around a single moment it has room. */
function momentRange(plot: uPlot, least: number, most: number): [number, number] {
  const [only, more] = plot.data[0];
  return only !== undefined && more === undefined ? [only - 1, only + 1] : [least, most];
}

/** The value axis; values that differ by no more than rounding get room around them. */
function valueRange(least: number | null, most: number | null): [number, number] {
  if (least === null || most === null) return [0, 1];
  const size = Math.max(Math.abs(least), Math.abs(most), 1e-9);
  if (most - least > size * 1e-6) return uPlot.rangeNum(least, most, 0.1, true) as [number, number];
  return [Math.min(0, least * 1.1), Math.max(0, most * 1.1) || 1];
}

/** A moment on the axis, in UTC, as exactly as the distance between the marks needs. */
function tick(seconds: number, step: number): string {
  const [day, clock] = new Date(seconds * 1000).toISOString().split("T") as [string, string];
  if (step >= 86_400) return day;
  if (step >= 60) return clock === "00:00:00.000Z" ? day : clock.slice(0, 5);
  return clock.slice(0, step >= 1 ? 8 : step >= 0.1 ? 10 : 12);
}

/** A colour as a canvas understands it: a canvas knows no variables. */
function resolved(parent: HTMLElement, colour: string): string {
  const probe = document.createElement("span");
  probe.style.color = colour;
  parent.append(probe);
  const result = getComputedStyle(probe).color;
  probe.remove();
  return result;
}

function Bars({ query, plan, wish }: { query: LiveQuery; plan: ChartPlan; wish: Wish }) {
  const [, setDrawn] = useState(0);
  useRedraw(query, () => setDrawn((drawn) => drawn + 1));
  const { rows, choice } = look(query.result, plan, wish);
  const shown = bars(choice, rows);
  const most = Math.max(...shown.bars.map((bar) => Math.abs(bar.value)), Number.MIN_VALUE);
  const field = query.result.schema[choice.measures[0]!]!;
  return (
    <>
      <ul className="bars" aria-label={`bars of ${field.name}`}>
        {shown.bars.map((bar, at) => (
          <li key={bar.name}>
            <span className="bar-name" title={bar.name}>{bar.name || field.name}</span>
            <span className="bar" style={{ width: `${(Math.abs(bar.value) / most) * 50}%`, background: `var(--series-${at % MOST_SERIES})` }} />
            <span className="bar-value">{shownText(bar.value, field)}</span>
          </li>
        ))}
      </ul>
      {shown.hidden > 0 && <p className="note">the {MOST_SERIES} largest are drawn, {shown.hidden} others are not</p>}
    </>
  );
}

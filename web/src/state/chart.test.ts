import { describe, expect, test } from "vitest";
import type { Cell, Field } from "../wire";
import { bars, breaks, type ChartRow, chooseChart, lines, MOST_SERIES, planChart } from "./chart";

const schema = (...columns: [string, string][]): Field[] =>
  columns.map(([name, type]) => ({ name, type, nullable: true }));
const row = (x: number | null, ...values: Cell[]): ChartRow => ({ x, values });

const WINDOWED = schema(["window_start", "Timestamp(ns)"], ["country", "Utf8"], ["plays", "Int64"], ["fails", "Int64"]);

describe("the plan", () => {
  test("a windowed aggregate has a time axis, measures and labels", () => {
    expect(planChart(WINDOWED, [])).toEqual({ x: 0, windowed: true, measures: [2, 3], labels: [1] });
  });

  test("whole numbers that name things are labels", () => {
    const host = schema(["ts", "Timestamp(ns)"], ["cpu", "Int64"], ["usage", "Float64"]);
    expect(planChart(host, [])).toEqual({ x: 0, windowed: false, measures: [2], labels: [1] });
    const keyed = schema(["window_end", "Timestamp(ns)"], ["bidder", "Int64"], ["n", "Int64"]);
    expect(planChart(keyed, ["window_end", "bidder"])?.labels).toEqual([1]);
  });

  test("without a time column there are bars, without numbers nothing", () => {
    expect(planChart(schema(["name", "Utf8"], ["rows", "Int64"]), [])?.x).toBe(null);
    expect(planChart(schema(["ts", "Timestamp(ns)"], ["name", "Utf8"]), [])).toBe(null);
    expect(planChart(schema(["n", "Int64"]), [])).toBe(null);
    // A key that is no time: the time is when the row was told last.
    const latest = schema(["device", "Utf8"], ["n", "Int64"], ["last", "Timestamp(ns)"]);
    expect(planChart(latest, ["device"])?.x).toBe(null);
    expect(planChart(latest, ["last", "device"])?.x).toBe(2);
  });
});

describe("the choice", () => {
  test("raw rows are split by the column with the fewest values, if they are few", () => {
    const raw = schema(["ts", "Timestamp(ns)"], ["title", "Utf8"], ["device", "Utf8"], ["ms", "Int64"]);
    const rows = Array.from({ length: 40 }, (_, at) => row(at, "", `t${at}`, `d${at % 3}`, at));
    expect(chooseChart(planChart(raw, [])!, rows)).toEqual({ measures: [3], split: [2] });
  });

  test("measures of far apart sizes do not share an axis", () => {
    const plan = planChart(schema(["ts", "Timestamp(ns)"], ["a", "Float64"], ["b", "Float64"], ["c", "Float64"]), [])!;
    expect(chooseChart(plan, [row(0, "", 1, 20, 5000)]).measures).toEqual([1, 2]);
  });
});

describe("the points", () => {
  const choice = { measures: [2], split: [1] };

  test("lines share one axis; what is missing is null; the newest of two points stays", () => {
    const rows = [row(2000, "", "br", 9, 0), row(2000, "", "br", 1, 0), row(1000, "", "de", 4, 0), row(0, "", "br", 3, 0)];
    expect(lines(WINDOWED, choice, rows)).toEqual({
      xs: [0, 1, 2],
      series: [
        { name: "br", values: [3, null, 9] },
        { name: "de", values: [null, 4, null] },
      ],
      hidden: 0,
      openFrom: null,
    });
  });

  test("windows that still fill begin with the first running row", () => {
    const rows = [{ ...row(2000, "", "br", 9, 0), op: "u" as const }, { ...row(1000, "", "br", 1, 0), op: "f" as const }];
    expect(lines(WINDOWED, choice, rows, true).openFrom).toBe(2);
    expect(lines(WINDOWED, choice, rows).openFrom).toBe(null);
  });

  test("lines break where rows are missing, between the moments around the gap", () => {
    const at = (x: number | null) => ({ kind: "row", x });
    const gap = { kind: "gap" };
    expect(breaks([gap, at(9000), at(8000), gap, at(null), at(3000), { kind: "change" }, at(2000), gap])).toEqual([[3, 8]]);
    expect(breaks([at(3000), gap, at(3000)])).toEqual([]);
  });

  test("the largest groups are drawn, the others counted", () => {
    const rows = Array.from({ length: 30 }, (_, at) => row(0, "", `c${at}`, at, 0));
    const data = lines(WINDOWED, choice, rows);
    expect(data.series).toHaveLength(MOST_SERIES);
    expect(data.hidden).toBe(20);
    expect(data.series[0]?.name).toBe("c20");
  });

  test("several measures are lines of their own", () => {
    const data = lines(WINDOWED, { measures: [2, 3], split: [] }, [row(1000, "", "br", 9, "12")]);
    expect(data.series).toEqual([{ name: "fails", values: [12] }, { name: "plays", values: [9] }]);
  });

  test("rows without time or value are left out", () => {
    expect(lines(WINDOWED, choice, [row(null, "", "br", 9, 0), row(0, "", "br", "NaN", 0)]).series).toEqual([]);
  });

  test("bars show the newest value of each group, largest first", () => {
    const rows = [row(null, "", "a", 2, 0), row(null, "", "b", 7, 0), row(null, "", "a", 99, 0)];
    expect(bars(choice, rows)).toEqual({ bars: [{ name: "b", value: 7 }, { name: "a", value: 2 }], hidden: 0 });
  });
});

import { expect, test } from "vitest";
import type { Rows, Subscribed } from "../wire";
import { gapCame, missingRows, newResult, paramsCame, type Row, rowsCame, rowsPerSecond, subscribed } from "./result";

const SUBSCRIBED: Subscribed = {
  type: "subscribed",
  id: "1",
  channel: 4,
  schema: [
    { name: "window_start", type: "Timestamp(ns)", nullable: false },
    { name: "country", type: "Utf8", nullable: true },
    { name: "plays", type: "Int64", nullable: false },
  ],
  key: [],
  position: "a:0=0",
  recovered: null,
  complete_from: "2026-01-01T00:00:10Z",
  shared_with: 2,
  labels: ["synthetic"],
  policy: "drop_oldest",
  query: "q1",
};

const rows = (values: Rows["rows"], ops?: Rows["ops"]): Rows => ({
  type: "rows",
  channel: 4,
  position: "a:0=1",
  watermark: "2026-01-01T00:00:20Z",
  ops,
  rows: values,
});

test("rows are kept with their time, and those of partial windows are marked", () => {
  const result = newResult(0);
  subscribed(result, SUBSCRIBED);
  rowsCame(result, rows([["2026-01-01T00:00:00Z", "br", 3], ["2026-01-01T00:00:10Z", "br", 5]]), 40);
  const [newest, oldest] = result.items.newestFirst() as Row[];
  expect([oldest?.partial, newest?.partial]).toEqual([true, false]);
  expect(newest?.x).toBe(Date.UTC(2026, 0, 1, 0, 0, 10));
  expect([result.rows, result.partialRows, result.firstRowAt]).toEqual([2, 1, 40]);
  expect(result.labels).toEqual(["synthetic"]);
});

test("a change of parameters is marked between the rows before and behind it", () => {
  const result = newResult(0);
  subscribed(result, SUBSCRIBED);
  rowsCame(result, rows([["2026-01-01T00:00:10Z", "br", 3]]), 1);
  const told = { type: "params", id: "1", channel: 5, position: "a:0=1", params: { least: 2, who: "x" }, query: "q2" } as const;
  paramsCame(result, told, { least: 2 });
  rowsCame(result, rows([["2026-01-01T00:00:20Z", "br", 4]]), 2);
  paramsCame(result, { ...told, error: { code: "parameter", message: "no" } }, {});
  expect(result.items.newestFirst().map((item) => item.kind)).toEqual(["row", "change", "row"]);
  expect(result.items.fromNewest(1)).toMatchObject({ values: { least: 2 }, position: "a:0=1" });
  expect(result.query).toBe("q2");
});

test("updates replace the row of their key, deletes take it out", () => {
  const result = newResult(0);
  subscribed(result, { ...SUBSCRIBED, key: ["window_start", "country"], complete_from: null });
  const start = "2026-01-01T00:00:00Z";
  rowsCame(result, rows([[start, "br", 1], [start, "de", 1]], ["u", "u"]), 0);
  rowsCame(result, rows([[start, "br", 2], [start, "de", 0]], ["f", "d"]), 0);
  const kept = result.items.newestFirst() as Row[];
  expect(kept.map((row) => [row.values[1], row.values[2], row.op])).toEqual([["br", 2, "f"]]);
});

test("a changing result without a key is one row", () => {
  const result = newResult(0);
  subscribed(result, { ...SUBSCRIBED, schema: SUBSCRIBED.schema.slice(2), complete_from: null });
  rowsCame(result, rows([[1]], ["u"]), 0);
  rowsCame(result, rows([[2]], ["u"]), 0);
  rowsCame(result, rows([[5]], ["f"]), 0);
  const kept = result.items.newestFirst() as Row[];
  expect(kept.map((row) => [row.values[0], row.op])).toEqual([[5, "f"]]);
});

test("gaps stand between the rows and are summed", () => {
  const result = newResult(0);
  subscribed(result, SUBSCRIBED);
  gapCame(result, { type: "gap", id: "1", from: "a:0=0", to: "a:0=9", rows: 12, reason: "slow" });
  expect(missingRows(result)).toBe("12 rows");
  gapCame(result, { type: "gap", id: "1", from: "a:0=9", to: "b:0=0", rows: null, reason: "restart" });
  expect([result.gaps, missingRows(result)]).toEqual([2, "more than 12 rows"]);
  expect(result.items.newestFirst().map((item) => item.kind)).toEqual(["gap", "gap"]);
});

test("a resumed subscription keeps its rows, unless the columns are others", () => {
  const result = newResult(0);
  subscribed(result, SUBSCRIBED);
  rowsCame(result, rows([["2026-01-01T00:00:10Z", "br", 5]]), 0);
  subscribed(result, { ...SUBSCRIBED, recovered: true });
  expect(result.items.length).toBe(1);
  subscribed(result, { ...SUBSCRIBED, schema: SUBSCRIBED.schema.slice(1) });
  expect(result.items.length).toBe(0);
});

test("the pace is that of the last whole second", () => {
  const result = newResult(0);
  subscribed(result, SUBSCRIBED);
  for (const now of [100, 500, 1500]) rowsCame(result, rows([["2026-01-01T00:00:10Z", "br", 5]]), now);
  expect([1600, 2100, 3100].map((now) => rowsPerSecond(result, now))).toEqual([2, 1, 0]);
});

import { expect, test } from "vitest";
import type { JobInfo } from "../rest";
import { jobLines, losses, rates } from "./jobs";

const COUNTERS = {
  rows_in: 0, passed: 0, absorbed: 0, filtered: 0, late: 0, late_idle: 0, undecodable: 0, without_event_time: 0,
  failed: 0, pairs_failed: 0, dropped: 0, forgotten: 0, rows_out: 0,
};
const job = (id: string, ...inputs: string[]): JobInfo => ({
  id, kind: "filter", description: id, inputs, stream: null, users: [], watermark: null, state_bytes: 0,
  counters: COUNTERS, status: "running",
});
const drawn = (jobs: JobInfo[]) =>
  jobLines(jobs).map(({ job: { id }, depth, again }) => "  ".repeat(depth) + id + (again ? " again" : ""));

test("readers stand below what they read", () => {
  expect(drawn([job("a"), job("b"), job("f", "a"), job("w", "f"), job("v", "f")])).toEqual([
    "a", "  f", "    w", "    v", "b",
  ]);
});

test("a union stands in full under its first input", () => {
  expect(drawn([job("a"), job("b"), job("u", "a", "b"), job("w", "u")])).toEqual([
    "a", "  u", "    w", "b", "  u again",
  ]);
});

test("jobs whose inputs are not listed, and circles, come too", () => {
  expect(drawn([job("w", "gone"), job("x", "y"), job("y", "x")])).toEqual(["w", "x", "  y", "    x again"]);
});

test("rates are per second, and only of what was there before", () => {
  const before = { at: 1000, counts: new Map([["a", 10], ["b", 10]]) };
  const now = { at: 3000, counts: new Map([["a", 50], ["b", 3], ["c", 7]]) };
  expect([...rates(before, now)]).toEqual([["a", 20]]);
  expect([...rates(null, now)]).toEqual([]);
});

test("losses name only what there is", () => {
  expect(losses({ ...COUNTERS, late: 1, late_idle: 2, failed: 4 })).toEqual([["late", 3], ["failed", 4]]);
});

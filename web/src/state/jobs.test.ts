import { expect, test } from "vitest";
import type { JobInfo } from "../rest";
import { choices, hasLate, hasSamples, jobLines, lateFor, lateKeptBy, lateRowsOf, losses, rates } from "./jobs";

const COUNTERS = {
  rows_in: 0, passed: 0, absorbed: 0, filtered: 0, sampled: 0, late: 0, late_idle: 0, undecodable: 0, without_event_time: 0,
  failed: 0, pairs_failed: 0, dropped: 0, before_start: 0, forgotten: 0, rows_out: 0,
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

test("losses and choices name only what there is", () => {
  const counters = { ...COUNTERS, late: 1, late_idle: 2, failed: 4, filtered: 5 };
  expect(losses(counters).map(({ name, rows }) => [name, rows])).toEqual([["late", 1], ["late (idle)", 2], ["failed", 4]]);
  expect(choices(counters).map(({ name, rows }) => [name, rows])).toEqual([["filtered", 5]]);
  const sampled = choices({ ...COUNTERS, filtered: 5, sampled: 3 });
  expect(sampled.map(({ name, rows }) => [name, rows])).toEqual([["filtered", 2], ["sampled", 3]]);
  expect([hasLate(counters), hasSamples(counters), hasSamples(COUNTERS)]).toEqual([true, true, false]);
});

test("late rows are read by the stream's name", () => {
  const kept = { ...job("k", "agg"), kind: "late", stream: "late(counts)", counters: { ...COUNTERS, rows_in: 3 } };
  const jobs = [job("agg"), kept, job("other", "agg")];
  expect([lateFor("counts", jobs), lateFor("others", jobs)]).toEqual([3, 0]);
  expect([lateKeptBy(jobs[0]!, jobs), lateKeptBy(kept, jobs)]).toEqual([["counts"], []]);
  expect(lateRowsOf("counts")).toBe("SELECT * FROM LATE(counts) SINCE EARLIEST");
  expect(lateRowsOf('A "b"')).toBe('SELECT * FROM LATE("A ""b""") SINCE EARLIEST');
});

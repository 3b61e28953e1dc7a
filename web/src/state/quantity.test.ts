import { expect, test } from "vitest";
import { bytes, count, duration, millisecondsOf, readable, measured } from "./quantity";

test("timestamps with any number of digits are read", () => {
  expect(millisecondsOf("2023-11-14T22:13:20Z")).toBe(1_700_000_000_000);
  expect(millisecondsOf("2023-11-14T22:13:20.123456789Z")).toBe(1_700_000_000_123);
  expect(millisecondsOf("2023-11-14")).toBe(1_699_920_000_000);
  expect(millisecondsOf("yesterday")).toBe(null);
  expect(millisecondsOf(17)).toBe(null);
});

test("timestamps are shown without their letters", () => {
  expect(readable("2013-01-03T14:05:00.250Z")).toBe("2013-01-03 14:05:00.250");
});

test("durations, counts and bytes are shortened", () => {
  expect([0, 12.4, 999, 1000, 3440, 90_000, 7_200_000].map(duration)).toEqual([
    "0 ms", "12 ms", "999 ms", "1 s", "3.4 s", "1.5 min", "2 h",
  ]);
  expect([0, 0.5, 999, 9_999, 12_345, 4_500_000, 123_456_789].map(count)).toEqual([
    "0", "0.5", "999", "9999", "12.3 k", "4.5 M", "123 M",
  ]);
  expect([512, 3_565_158, 2 ** 40].map(bytes)).toEqual(["512 B", "3.4 MiB", "1.0 TiB"]);
});

test("values on an axis are short, and bytes where the name says so", () => {
  expect([0, 0.25, 12, 1234, 123456, 98_765_432, -50_000].map((value) => measured(value, "n"))).toEqual(
    ["0", "0.25", "12", "1234", "123 k", "98.8 M", "-50 k"],
  );
  expect([measured(5_000_000, "memory_bytes"), measured(0.000012346, "x"), measured(1 / 3, "x")]).toEqual(["4.8 MiB", "0.0000123", "0.3333"]);
});

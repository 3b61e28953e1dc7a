import { expect, test } from "vitest";
import { isWrong, parameterNames, parameterValues, valueOf } from "./params";

test("parameters are found in code only, each once", () => {
  const sql = `SELECT $b, '$no', "$no" -- $no\n /* $no */ FROM t WHERE x > $a::BIGINT AND y = $b AND z = '' || $c`;
  expect(parameterNames(sql)).toEqual(["b", "a", "c"]);
  expect(parameterNames("SELECT 1")).toEqual([]);
});

test("what reads as a number is one where nothing is known", () => {
  const typed = new Map([["a", "-1.5e3"], ["b", "1 apple"], ["c", ""], ["z", "unused"]]);
  expect(parameterValues(["a", "b", "c", "d"], typed, new Map())).toEqual({ a: -1500, b: "1 apple", c: "" });
});

test("values are of their parameter's kind", () => {
  expect(valueOf("5", "text")).toBe("5");
  expect(valueOf("", "text")).toBe("");
  expect(valueOf(" 5 ", "number")).toBe(5);
  expect(valueOf("9007199254740993", "number")).toBe("9007199254740993");
  expect(valueOf("five", "number")).toBeUndefined();
  expect(valueOf("TRUE", "boolean")).toBe(true);
  expect(valueOf("false", "boolean")).toBe(false);
  expect(valueOf("", "boolean")).toBeUndefined();
  expect(valueOf("2026-01-01", "timestamp")).toBe("2026-01-01");
  expect(valueOf(" ", "interval")).toBeUndefined();
  expect(valueOf(undefined, "text")).toBeUndefined();
});

test("numbers that a double does not hold exactly travel as text", () => {
  const asText = ["1e400", "-1e400", "1e-400", "1e20", "9007199254740993", "0.12345678901234567890", "1.00000000000000000001", "9007199254740990.5"];
  for (const kind of ["number", "any"] as const) {
    for (const text of asText) expect(valueOf(text, kind)).toBe(text);
    expect(valueOf("9007199254740991", kind)).toBe(9007199254740991);
    expect(valueOf("-0.123456789012345", kind)).toBe(-0.123456789012345);
    expect(valueOf("0.00000000000000000001", kind)).toBe(1e-20);
    expect(valueOf("1.5000000000000000000", kind)).toBe(1.5);
    expect(valueOf("0.0e0", kind)).toBe(0);
  }
});

test("only what was typed can be wrong", () => {
  expect(isWrong("five", "number")).toBe(true);
  expect(isWrong("yes", "boolean")).toBe(true);
  expect(isWrong("", "number")).toBe(false);
  expect(isWrong(undefined, "number")).toBe(false);
  expect(isWrong("anything", "text")).toBe(false);
});

import { expect, test } from "vitest";
import { parameterNames, parameterValues } from "./params";

test("parameters are found in code only, each once", () => {
  const sql = `SELECT $b, '$no', "$no" -- $no\n /* $no */ FROM t WHERE x > $a::BIGINT AND y = $b AND z = '' || $c`;
  expect(parameterNames(sql)).toEqual(["b", "a", "c"]);
  expect(parameterNames("SELECT 1")).toEqual([]);
});

test("what reads as a number is one", () => {
  const typed = new Map([["a", "-1.5e3"], ["b", "1 apple"], ["c", ""], ["z", "unused"]]);
  expect(parameterValues(["a", "b", "c", "d"], typed)).toEqual({ a: -1500, b: "1 apple", c: "" });
});

import { expect, test } from "vitest";
import type { Field } from "../wire";
import { indented, kindOf, numberOf, shownText, wholeText } from "./cell";

const field = (type: string): Field => ({ name: "x", type, nullable: true });

test("Arrow's types have a kind", () => {
  const kinds = ["Int64", "UInt8", "Float64", "Decimal128(10, 2)", "Utf8", "Utf8View", "LargeUtf8", "Timestamp(ns)",
    "Date32", "Boolean", "List(Int64)", "Dictionary(Int32, Utf8)", "Interval(MonthDayNano)"].map(kindOf);
  expect(kinds).toEqual(["number", "number", "number", "number", "text", "text", "text", "time", "time", "truth",
    "other", "text", "other"]);
});

test("numbers that travel as strings are numbers", () => {
  expect(numberOf("9007199254740993")).toBe(9007199254740992);
  expect([numberOf("NaN"), numberOf("Infinity"), numberOf(null), numberOf(""), numberOf(true)]).toEqual(
    [null, null, null, null, null],
  );
});

test("nested values and texts of JSON are indented", () => {
  expect(indented({ a: [1] })).toBe('{\n  "a": [\n    1\n  ]\n}');
  expect(indented('{"a":1}')).toBe('{\n  "a": 1\n}');
  expect([indented("{oops"), indented(null), indented(5)]).toEqual(["{oops", "null", "5"]);
});

test("values are shown short and kept whole", () => {
  expect(shownText(1.0 / 3.0, field("Float64"))).toBe("0.3333");
  expect(shownText(2.5, field("Float64"))).toBe("2.5");
  expect(shownText(0.000012346, field("Float64"))).toBe("0.00001235");
  expect(shownText("2013-01-03T14:05:00Z", field("Timestamp(ns)"))).toBe("2013-01-03 14:05:00");
  expect(shownText(null, field("Utf8"))).toBe("∅");
  expect(shownText({ a: [1, "<b>"] }, field("Struct"))).toBe('{"a":[1,"<b>"]}');
  expect(shownText("y".repeat(300), field("Utf8"))).toHaveLength(201);
  expect(wholeText("y".repeat(300))).toHaveLength(300);
});

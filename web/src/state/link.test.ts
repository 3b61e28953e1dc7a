import { describe, expect, test } from "vitest";
import { fromFragment, onlyReads, split, toFragment } from "./link";

describe("links", () => {
  test("queries come back as they were", () => {
    const queries = ["SELECT 'a&b=c#', \"d e\"\nFROM x -- é", "SHOW JOBS"];
    expect(fromFragment(`#${toFragment(queries)}`)).toEqual(queries);
  });

  test("empty queries are left out, and what is too long gives no link", () => {
    expect(toFragment(["", " \n"])).toBe("");
    expect(toFragment(["x".repeat(20_000)])).toBe("");
    expect(fromFragment("")).toEqual([]);
  });

  test("only what reads is run unasked", () => {
    expect(onlyReads("SELECT 1; show streams;")).toBe(true);
    expect(onlyReads("-- why\nWITH a AS (SELECT 1) SELECT * FROM a")).toBe(true);
    expect(onlyReads("SELECT 1; DROP STREAM x")).toBe(false);
    expect(onlyReads("CREATE STREAM x AS SELECT 1")).toBe(false);
    expect(onlyReads("/* SELECT 1 */")).toBe(false);
  });

  test("semicolons in strings, names and comments do not cut", () => {
    expect(split(`SELECT ';', "a;b" /* ; */ -- ;\n; SELECT 'it''s;' - 1 / 2`)).toEqual([
      `SELECT ';', "a;b"`,
      `SELECT 'it''s;' - 1 / 2`,
    ]);
  });

  test("an open string or comment does not hang", () => {
    expect(split("SELECT 'a;b")).toEqual(["SELECT 'a;b"]);
    expect(split("SELECT 1 /* a; b")).toEqual(["SELECT 1"]);
  });
});

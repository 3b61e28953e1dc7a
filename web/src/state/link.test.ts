import { describe, expect, test } from "vitest";
import { fromFragment, onlyReads, split, toFragment } from "./link";

describe("links", () => {
  test("queries come back as they were", () => {
    const queries = ["SELECT 'a&b=c#', \"d e\"\nFROM x -- é", "SHOW JOBS"].map((sql) => ({ sql, values: {} }));
    expect(fromFragment(`#${toFragment(queries)}`)).toEqual(queries);
  });

  test("empty queries are left out, and what is too long gives no link", () => {
    expect(toFragment([{ sql: "", values: {} }, { sql: " \n", values: { a: "1" } }])).toBe("");
    expect(toFragment([{ sql: "x".repeat(20_000), values: {} }])).toBe("");
    expect(fromFragment("")).toEqual([]);
  });

  test("values of parameters come back with their query", () => {
    const queries = [
      { sql: "SELECT $a", values: { a: "1 & 2", b: "" } },
      { sql: "SELECT 2", values: {} },
    ];
    expect(fromFragment(toFragment(queries))).toEqual(queries);
    expect(fromFragment('p={"a":"1"}&q=SELECT&p={"a":1,"b":"x"}&q=x&p=oops&q=y&p=null')).toEqual([
      { sql: "SELECT", values: { b: "x" } },
      { sql: "x", values: {} },
      { sql: "y", values: {} },
    ]);
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

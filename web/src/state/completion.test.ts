import { expect, test } from "vitest";
import type { ClauseInfo, Completion } from "../rest";
import { explainAt, suggest, type Suggestions } from "./completion";

const field = (name: string, type = "Int64") => ({ name, type, nullable: true });
const STREAMS = [
  { name: "plays", columns: [field("ts", "Timestamp(ns)"), field("title", "Utf8")] },
  { name: "host_cpu", columns: [field("usage", "Float64")] },
];
const clause = (name: string, place: ClauseInfo["place"]): ClauseInfo => ({
  name, place, syntax: `${name} …`, description: `does ${name}`, example: `SELECT … ${name}`,
});
const KNOWN: Completion = {
  keywords: ["select", "from"],
  functions: [{ name: "count", kind: "aggregate", syntax: "count(expression)", description: "Counts rows." }],
  clauses: [
    clause("CREATE STREAM", "statement"), clause("SINCE", "from"), clause("FOR SYSTEM_TIME AS OF", "from"),
    clause("FILL", "group"), clause("EMIT EVERY", "end"), clause("EMIT CHANGES", "end"), clause("STATE TTL", "end"),
  ],
  connectors: [
    { name: "file", description: "", options: [["connector", "what it reads"], ["path", "a file"], ["mode", "'once' or 'follow'"]] },
    { name: "http", description: "", options: [["connector", "what it reads"], ["retention", "how long"]] },
  ],
  stream_options: [["durability", "'memory' or 'durable'"], ["retention", "how long"]],
};

/** `|` stands for the cursor. */
function at(text: string, explicit = false): Suggestions | null {
  const cursor = text.indexOf("|");
  return suggest(text.replace("|", ""), cursor, explicit, STREAMS, KNOWN);
}
const labels = (text: string, explicit = false) => at(text, explicit)?.options.map((option) => option.label);

test("columns of the streams that are named come first, wherever FROM stands", () => {
  const found = at("SELECT t| FROM plays")!.options.filter((option) => option.type !== "clause").map(({ label }) => label);
  expect(found).toEqual(["ts", "title", "plays", "host_cpu", "count", "SELECT", "FROM"]);
});

test("behind FROM there are streams", () => {
  expect(labels("SELECT 1 FROM pl|")?.slice(0, 2)).toEqual(["plays", "host_cpu"]);
  expect(at("SELECT 1 FROM pl|")?.from).toBe(14);
});

test("behind a name or an alias and a dot there are its columns alone", () => {
  expect(labels("SELECT p.| FROM plays AS p")).toEqual(["ts", "title"]);
  expect(labels("SELECT plays.ti| FROM plays WHERE x")).toEqual(["ts", "title"]);
  expect(labels("SELECT where.| FROM plays where x")).toBe(undefined);
});

test("options of the connector that was named", () => {
  expect(labels("CREATE SOURCE s WITH (connector = 'file', p|")).toEqual(["connector", "path", "mode"]);
  expect(labels("CREATE SOURCE s WITH (r|")).toEqual(["connector", "path", "mode", "retention"]);
});

test("nothing in strings and comments, nor unasked at an empty place", () => {
  expect(at("SELECT 'fr|")).toBe(null);
  expect(at("SELECT 1 -- fr|")).toBe(null);
  expect(at("SELECT /* fr|")).toBe(null);
  expect(at("SELECT 'it''s' /* x */ -- y\n |")).toBe(null);
  expect(labels("SELECT 'it''s' /* x */ -- y\n |", true)).toContain("count");
});

/** Labels of clauses that fit where the cursor is. */
const fitting = (text: string) => at(text)?.options.filter(({ type, boost }) => type === "clause" && boost > 0).map(({ label }) => label);

test("clauses are offered at their places, each with an example", () => {
  expect(fitting("C|")).toEqual(["CREATE STREAM"]);
  expect(fitting("SHOW JOBS; C|")).toEqual(["CREATE STREAM"]);
  expect(fitting("SELECT 1 FROM plays S|")).toEqual(["SINCE", "FOR SYSTEM_TIME AS OF", "EMIT EVERY", "EMIT CHANGES", "STATE TTL"]);
  expect(fitting("SELECT 1 FROM plays GROUP BY title F|")).toEqual(["FILL", "EMIT EVERY", "EMIT CHANGES", "STATE TTL"]);
  expect(fitting("SELECT s|")).toEqual([]);
  expect(at("SELECT 1 FROM plays S|")?.options.find(({ label }) => label === "SINCE")?.info).toContain("for example: SELECT … SINCE");
});

test("behind a clause's first words there is the rest of it, and then the keywords", () => {
  const rests = (text: string) => at(text, true)?.options.filter(({ type }) => type === "clause").map(({ label }) => label);
  expect(rests("SELECT 1 FROM plays EMIT |")).toEqual(["EVERY", "CHANGES"]);
  expect(rests("SELECT 1 FROM plays STATE T|")).toEqual(["TTL"]);
  expect(rests("SELECT 1 FROM plays JOIN t for system_time a|")).toEqual(["AS OF"]);
  expect(labels("CREATE T|")).toEqual(["STREAM", "SELECT", "FROM"]);
});

test("a word that begins a clause may be followed by another clause, and none is offered twice", () => {
  const known = { ...KNOWN, keywords: ["ANALYZE", "SELECT"], clauses: [clause("SELECT", "statement"), clause("EXPLAIN ANALYZE", "statement")] };
  const offered = suggest("EXPLAIN S", 9, false, STREAMS, known)!.options;
  expect(offered.map(({ label, type }) => [label, type])).toEqual([["ANALYZE", "clause"], ["SELECT", "keyword"]]);
  expect(offered[0]!.boost).toBeGreaterThan(offered[1]!.boost);
});

test("options of streams, and the values of options", () => {
  expect(labels("CREATE STREAM s WITH (d|")).toEqual(["durability", "retention"]);
  expect(labels("CREATE STREAM s WITH (durability = '|")).toEqual(["memory", "durable"]);
  expect(labels("CREATE STREAM s WITH (retention = '1h', durability = 'd|")).toEqual(["memory", "durable"]);
  expect(labels("CREATE SOURCE s WITH (connector = '|")).toEqual(["file", "http"]);
  expect(labels("CREATE SOURCE s WITH (connector = 'file', mode = '|")).toEqual(["once", "follow"]);
});

const explained = (text: string) => {
  const found = explainAt(text.replace("|", ""), text.indexOf("|"), STREAMS, KNOWN);
  return found && [text.replace("|", "").slice(found.from, found.to), found.text];
};

test("what the pointer is on is explained", () => {
  expect(explained("SELECT co|unt(*) FROM plays")).toEqual(["count", "count(expression)\n\nCounts rows."]);
  expect(explained("SELECT 1 FROM plays EMIT  ev|ery '1s'")?.[0]).toBe("EMIT  every");
  expect(explained("SELECT ti|tle FROM plays")).toEqual(["title", "plays.title Utf8"]);
  expect(explained("SELECT 1 FROM pl|ays")?.[1]).toContain("ts Timestamp(ns)");
  expect(explained("CREATE STREAM s WITH (dur|ability = 'x')")).toEqual(["durability", "durability: 'memory' or 'durable'"]);
  expect(explained("SELECT 'co|unt(*)'")).toBe(null);
  expect(explained("SELECT nothing| FROM nowhere")).toBe(null);
});

import { expect, test } from "vitest";
import { suggest, type Suggestions } from "./completion";

const field = (name: string, type = "Int64") => ({ name, type, nullable: true });
const STREAMS = [
  { name: "plays", columns: [field("ts", "Timestamp(ns)"), field("title", "Utf8")] },
  { name: "host_cpu", columns: [field("usage", "Float64")] },
];
const KNOWN = {
  keywords: ["select", "from"],
  functions: [{ name: "count", kind: "aggregate", syntax: "count(expression)", description: "Counts rows." }],
  connectors: [
    { name: "file", description: "", options: [["path", "a file"], ["mode", "once or follow"]] as [string, string][] },
    { name: "http", description: "", options: [["retention", "how long"]] as [string, string][] },
  ],
};

/** `|` stands for the cursor. */
function at(text: string, explicit = false): Suggestions | null {
  const cursor = text.indexOf("|");
  return suggest(text.replace("|", ""), cursor, explicit, STREAMS, KNOWN);
}
const labels = (text: string, explicit = false) => at(text, explicit)?.options.map((option) => option.label);

test("columns of the streams that are named come first, wherever FROM stands", () => {
  expect(labels("SELECT t| FROM plays")).toEqual(["ts", "title", "plays", "host_cpu", "count", "SELECT", "FROM"]);
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

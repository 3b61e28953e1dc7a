/** What fits at a place of a statement. */

import type { Completion } from "../rest";
import type { Field } from "../wire";

/** A stream that can be completed. */
export interface KnownStream {
  name: string;
  columns: Field[];
}

export interface Option {
  label: string;
  type: "keyword" | "function" | "table" | "column" | "option";
  detail?: string;
  info?: string;
  /** Higher comes first among equally good matches. */
  boost: number;
}

/** Replaces the text from here to the cursor. */
export interface Suggestions {
  from: number;
  options: Option[];
}

/** Words that stand between a relation and an alias that is none. */
const NO_ALIAS = /^(where|group|order|having|limit|emit|union|join|on|left|right|inner|cross|full|as|since|window)$/i;

/** What fits before the cursor at `at`; null inside of strings and comments, and where nothing was begun. */
export function suggest(text: string, at: number, explicit: boolean, streams: KnownStream[], known: Completion): Suggestions | null {
  const before = text.slice(0, at);
  if (insideQuotes(before)) return null;
  const word = /[A-Za-z_][\w$]*$/.exec(before)?.[0] ?? "";
  const from = at - word.length;
  const qualifier = /([A-Za-z_][\w$]*)\.$/.exec(text.slice(0, from))?.[1];
  if (qualifier !== undefined) {
    const stream = relations(text, streams).get(qualifier.toLowerCase());
    return stream === undefined ? null : { from, options: stream.columns.map((column) => columnOption(column, stream)) };
  }
  if (word === "" && !explicit) return null;
  const lead = text.slice(0, from);
  if (/\b(from|join|describe|into|table|stream|source)\s+$/i.test(lead)) {
    return { from, options: [...streams.map((stream) => streamOption(stream, 2)), ...keywordOptions(known)] };
  }
  if (/\bwith\s*\([^()]*$/i.test(lead)) return { from, options: connectorOptions(lead, known) };
  const used = new Set(relations(text, streams).values());
  return {
    from,
    options: [
      ...[...used].flatMap((stream) => stream.columns.map((column) => columnOption(column, stream))),
      ...streams.map((stream) => streamOption(stream, 0)),
      ...known.functions.map(functionOption),
      ...keywordOptions(known),
    ],
  };
}

/** Whether the text ends inside a string or a comment. */
function insideQuotes(before: string): boolean {
  const rest = before.replace(/'(?:[^']|'')*'|"[^"]*"|--[^\n]*\n|\/\*[\s\S]*?\*\//g, "");
  return /['"]|--|\/\*/.test(rest);
}

/** The streams that the text names behind FROM and JOIN, by name and by alias, in lower case. */
function relations(text: string, streams: KnownStream[]): Map<string, KnownStream> {
  const found = new Map<string, KnownStream>();
  const clause = /\b(?:from|join|,|table)\s+([A-Za-z_]\w*)(?:\s+(?:as\s+)?([A-Za-z_]\w*))?/gi;
  for (const [, name, alias] of text.matchAll(clause)) {
    const stream = streams.find((candidate) => candidate.name.toLowerCase() === name!.toLowerCase());
    if (stream === undefined) continue;
    found.set(name!.toLowerCase(), stream);
    if (alias !== undefined && !NO_ALIAS.test(alias)) found.set(alias.toLowerCase(), stream);
  }
  return found;
}

function columnOption(column: Field, stream: KnownStream): Option {
  return { label: column.name, type: "column", detail: `${column.type} · ${stream.name}`, boost: 3 };
}

function streamOption(stream: KnownStream, boost: number): Option {
  const info = stream.columns.map((column) => `${column.name} ${column.type}`).join("\n");
  return { label: stream.name, type: "table", detail: "stream", info, boost };
}

function functionOption(called: Completion["functions"][number]): Option {
  const info = `${called.syntax}\n\n${called.description}`;
  return { label: called.name, type: "function", detail: called.kind, info, boost: called.kind === "aggregate" ? 1 : 0 };
}

function keywordOptions(known: Completion): Option[] {
  return known.keywords.map((keyword) => ({ label: keyword.toUpperCase(), type: "keyword", boost: -1 }));
}

function connectorOptions(lead: string, known: Completion): Option[] {
  const named = /connector'?\s*=\s*'(\w+)'/i.exec(lead)?.[1];
  const fitting = known.connectors.filter((connector) => named === undefined || connector.name === named);
  const options = new Map<string, Option>();
  options.set("connector", { label: "connector", type: "option", info: "where the rows come from", boost: 1 });
  for (const connector of fitting) {
    for (const [name, info] of connector.options) {
      if (!options.has(name)) options.set(name, { label: name, type: "option", detail: connector.name, info, boost: 0 });
    }
  }
  return [...options.values()];
}

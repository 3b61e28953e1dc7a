/** What fits at a place of a statement. */

import type { ClauseInfo, ClausePlace, Completion } from "../rest";
import type { Field } from "../wire";

/** A stream that can be completed. */
export interface KnownStream {
  name: string;
  columns: Field[];
}

export interface Option {
  label: string;
  type: "keyword" | "clause" | "function" | "table" | "column" | "option" | "value";
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
  const values = optionValues(before, known);
  if (values !== null) return values;
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
    return { from, options: [...streams.map((stream) => streamOption(stream, 2)), ...clauseOptions("from", known), ...windowOptions(known), ...keywordOptions(known)] };
  }
  if (/\bwith\s*\((?:[^()']|'[^']*')*$/i.test(lead)) return { from, options: connectorOptions(lead, known) };
  const begun = restOfClauses(lead, known);
  if (begun.length > 0) return { from, options: [...begun, ...keywordOptions(known, begun.map(({ label }) => label))] };
  const place = placeAt(lead);
  if (place === "statement") return { from, options: [...clauseOptions(place, known), ...keywordOptions(known)] };
  const used = new Set(relations(text, streams).values());
  return {
    from,
    options: [
      ...clauseOptions(place, known),
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

/** Keywords, those aside that are offered with an explanation. */
function keywordOptions(known: Completion, offered = known.clauses.map(({ name }) => name)): Option[] {
  const explained = new Set(offered);
  const plain = known.keywords.map((keyword) => keyword.toUpperCase()).filter((keyword) => !explained.has(keyword));
  return plain.map((keyword) => ({ label: keyword, type: "keyword", boost: -1 }));
}

/** Windows are read like relations, too. */
function windowOptions(known: Completion): Option[] {
  const windows = ["tumble", "hop", "session", "cumulate", "count_window"];
  return known.functions.filter(({ name }) => windows.includes(name)).map(functionOption);
}

/** What a clause is, in a line, how it is written, and an example. */
export function clauseInfo({ syntax, description, example }: ClauseInfo): string {
  return `${description}\n\n${syntax}\n\nfor example: ${example}`;
}

/** Clauses; those that fit the place come before columns, others behind. */
function clauseOptions(place: ClausePlace, known: Completion): Option[] {
  const fits: Record<ClausePlace, ClausePlace[]> = {
    statement: ["statement"],
    select: ["select"],
    from: ["from", "end"],
    group: ["group", "end"],
    end: ["end"],
    with: ["with"],
  };
  return known.clauses.map((clause) => ({
    label: clause.name,
    type: "clause",
    detail: "clause",
    info: clauseInfo(clause),
    boost: fits[place].includes(clause.place) ? 2 : -2,
  }));
}

/** The rest of clauses of several words whose first ones stand before the cursor: behind EMIT what EMIT can be. */
function restOfClauses(lead: string, known: Completion): Option[] {
  return known.clauses.flatMap((clause) => {
    const words = clause.name.split(" ");
    for (let begun = words.length - 1; begun >= 1; begun -= 1) {
      const first = new RegExp(`(^|[^\\w])${words.slice(0, begun).join("\\s+")}\\s+$`, "i");
      if (first.test(lead)) {
        return [{ label: words.slice(begun).join(" "), type: "clause" as const, detail: clause.name, info: clauseInfo(clause), boost: 5 }];
      }
    }
    return [];
  });
}

/** Where in its statement the text ends, by the last word that opens a part of it. */
function placeAt(lead: string): ClausePlace {
  const code = lead.replace(/'(?:[^']|'')*'|"[^"]*"|--[^\n]*(?:\n|$)|\/\*[\s\S]*?\*\//g, " ");
  const statement = code.slice(code.lastIndexOf(";") + 1);
  if (statement.trim() === "") return "statement";
  const opened = [...statement.matchAll(/\b(select|from|join|where|group\s+by|having|qualify|order\s+by|limit|emit|create)\b/gi)].at(-1)?.[1];
  const places: Record<string, ClausePlace> = {
    select: "select", from: "from", join: "from", where: "group", group: "group", having: "group", qualify: "group", create: "with",
  };
  return places[opened?.toLowerCase().split(/\s/)[0] ?? ""] ?? "end";
}

/** Values that an option's explanation names, inside of its quotes; null elsewhere. */
function optionValues(before: string, known: Completion): Suggestions | null {
  const open = /\bwith\s*\((?:[^()']|'[^']*')*?(\w+)\s*=\s*'(\w*)$/i.exec(before);
  if (open === null) return null;
  const [, name, typed] = open;
  const from = before.length - typed!.length;
  if (name === "connector") {
    const options = known.connectors.map(({ name: label, description }) => ({ label, type: "value" as const, info: description, boost: 0 }));
    return { from, options };
  }
  const info = allOptions(before, known).find(([option]) => option === name)?.[1] ?? "";
  const values = [...new Set([...info.matchAll(/'(\w+)'/g)].map(([, value]) => value!))];
  return values.length === 0 ? null : { from, options: values.map((label) => ({ label, type: "value", info, boost: 0 })) };
}

/** Options that fit where the text ends, with what they do: of the connector that was named, or of a stream. */
function allOptions(lead: string, known: Completion): [string, string][] {
  if (/\bcreate\s+(?:or\s+replace\s+)?stream\b[^;]*$/i.test(lead)) return known.stream_options;
  const named = /connector'?\s*=\s*'(\w+)'/i.exec(lead.slice(lead.lastIndexOf(";") + 1))?.[1];
  const fitting = known.connectors.filter((connector) => named === undefined || connector.name === named);
  return [...new Map(fitting.flatMap((connector) => connector.options))];
}

function connectorOptions(lead: string, known: Completion): Option[] {
  const first = (name: string) => (name === "connector" ? 1 : 0);
  const options = allOptions(lead, known).map(([label, info]) => ({ label, type: "option" as const, info, boost: first(label) }));
  return options.sort((a, b) => b.boost - a.boost);
}

/** What stands at a place, explained. */
export interface Explained {
  from: number;
  to: number;
  text: string;
}

/** Explains the clause, function, stream, column or option at a place; null when there is nothing to say. */
export function explainAt(text: string, at: number, streams: KnownStream[], known: Completion): Explained | null {
  const word = wordAt(text, at);
  if (word === null || insideQuotes(text.slice(0, word.from))) return null;
  const called = /^\s*\(/.test(text.slice(word.to));
  const lower = word.text.toLowerCase();
  const func = known.functions.find((one) => one.name.toLowerCase() === lower);
  if (func !== undefined && called) return { ...word, text: `${func.syntax}\n\n${func.description}` };
  if (/\bwith\s*\((?:[^()']|'[^']*')*$/i.test(text.slice(0, word.from))) {
    const option = allOptions(text.slice(0, word.from) + text.slice(word.from), known).find(([name]) => name === lower);
    return option === undefined ? null : { ...word, text: `${option[0]}: ${option[1]}` };
  }
  const clause = clauseAt(text, word, known);
  if (clause !== null) return clause;
  const stream = streams.find((one) => one.name.toLowerCase() === lower);
  if (stream !== undefined) return { ...word, text: `stream ${stream.name}\n${stream.columns.map((column) => `${column.name} ${column.type}`).join("\n")}` };
  const used = [...new Set(relations(text, streams).values())];
  const columns = used.flatMap((one) => one.columns.filter((column) => column.name.toLowerCase() === lower).map((column) => `${one.name}.${column.name} ${column.type}`));
  if (columns.length > 0) return { ...word, text: columns.join("\n") };
  return func === undefined ? null : { ...word, text: `${func.syntax}\n\n${func.description}` };
}

/** The word around a place. */
function wordAt(text: string, at: number): Explained | null {
  const from = at - (/\w*$/.exec(text.slice(0, at))?.[0].length ?? 0);
  const word = /^\w+/.exec(text.slice(from))?.[0];
  return word === undefined ? null : { from, to: from + word.length, text: word };
}

/** The longest clause that has the word. */
function clauseAt(text: string, word: Explained, known: Completion): Explained | null {
  const longestFirst = known.clauses.toSorted((a, b) => b.name.length - a.name.length);
  for (const clause of longestFirst) {
    const pattern = new RegExp(`\\b${clause.name.split(" ").join("\\s+")}\\b`, "gi");
    for (const found of text.matchAll(pattern)) {
      const to = found.index + found[0].length;
      if (found.index <= word.from && word.to <= to) return { from: found.index, to, text: clauseInfo(clause) };
    }
  }
  return null;
}

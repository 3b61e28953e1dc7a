/** Links that reopen queries: the part of the address after `#`, one `q` a pane, behind it `p` with its parameters. */

/** A query of a link. */
export interface Linked {
  sql: string;
  /** What was typed for its parameters, by name. */
  values: Record<string, string>;
}

/** Longest text that is put into a link, in characters; servers and mail programs cut longer addresses. */
const LONGEST = 16_000;

/** The fragment for these queries, without `#`; empty when there is nothing to keep or it would be too long. */
export function toFragment(queries: Linked[]): string {
  const parameters = new URLSearchParams();
  for (const { sql, values } of queries) {
    if (sql.trim() === "") continue;
    parameters.append("q", sql);
    if (Object.keys(values).length > 0) parameters.append("p", JSON.stringify(values));
  }
  const fragment = parameters.toString();
  return fragment.length <= LONGEST ? fragment : "";
}

/** The queries of a fragment. */
export function fromFragment(fragment: string): Linked[] {
  const queries: Linked[] = [];
  for (const [name, text] of new URLSearchParams(fragment.replace(/^#/, ""))) {
    const last = queries.at(-1);
    if (name === "q") queries.push({ sql: text, values: {} });
    else if (name === "p" && last !== undefined) last.values = readValues(text);
  }
  return queries;
}

/** Texts by name; whatever else a link holds is left out. */
function readValues(text: string): Record<string, string> {
  let read: unknown;
  try {
    read = JSON.parse(text);
  } catch {
    return {};
  }
  if (typeof read !== "object" || read === null) return {};
  return Object.fromEntries(Object.entries(read).filter((entry): entry is [string, string] => typeof entry[1] === "string"));
}

/** What a statement may start with when a link runs it unasked: nothing that changes anything. */
const READING = /^(select|with|show|describe|explain)\b/i;

/** Whether all statements of a script only read. A link must not create or drop things behind its reader's back. */
export function onlyReads(script: string): boolean {
  const statements = split(script);
  return statements.length > 0 && statements.every((statement) => READING.test(statement));
}

/** Cuts at semicolons outside of strings, quoted names and comments; comments are taken out. */
export function split(script: string): string[] {
  const token = /'(?:[^']|'')*'?|"(?:[^"]|"")*"?|--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|;|[^'"\-/;]+|[-/]/g;
  const statements: string[] = [];
  let current = "";
  for (const [part] of script.matchAll(token)) {
    if (part === ";") {
      statements.push(current);
      current = "";
    } else {
      current += part.startsWith("--") || part.startsWith("/*") ? " " : part;
    }
  }
  return [...statements, current].map((statement) => statement.trim()).filter((statement) => statement !== "");
}

/** Links that reopen queries: the part of the address after `#`, one `q` a pane. */

/** Longest text that is put into a link, in characters; servers and mail programs cut longer addresses. */
const LONGEST = 16_000;

/** The fragment for these queries, without `#`; empty when there is nothing to keep or it would be too long. */
export function toFragment(queries: string[]): string {
  const parameters = new URLSearchParams();
  for (const query of queries) {
    if (query.trim() !== "") parameters.append("q", query);
  }
  const fragment = parameters.toString();
  return fragment.length <= LONGEST ? fragment : "";
}

/** The queries of a fragment. */
export function fromFragment(fragment: string): string[] {
  return new URLSearchParams(fragment.replace(/^#/, "")).getAll("q");
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

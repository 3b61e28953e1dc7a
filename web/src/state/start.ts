/** Whether a query begins in the past. */

/** Texts, names in quotes and comments: nothing in them is a word of the language. */
const QUOTED = /'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\/\*[\s\S]*?\*\//g;

/** Whether a statement has a start in the past: SINCE, but for SINCE LATEST. */
export function hasStart(sql: string): boolean {
  return /\bSINCE\b(?!\s+LATEST\b)/i.test(sql.replace(QUOTED, (quoted) => (quoted.startsWith("'") ? "''" : " ")));
}

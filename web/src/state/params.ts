/** Parameters of a script, `$name`, whose values are typed beside it. */

import type { Cell } from "../wire";

/** What is no code: texts, quoted names and comments. */
const QUOTED = /'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\/\*[\s\S]*?\*\//g;
const PARAMETER = /\$([A-Za-z_]\w*)/g;
const NUMBER = /^-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;

/** Significant digits of a decimal fraction that a double always gives back as they were. */
const EXACT_DIGITS = 15;

/** Nearer to zero a double has fewer digits, and at last none. */
const SMALLEST_EXACT = 2 ** -1022;

/** What a parameter takes, as the server found out; `any`: nothing is known. */
export type ParameterKind = "text" | "number" | "boolean" | "timestamp" | "interval" | "any";

export interface Parameter {
  name: string;
  kind: ParameterKind;
  /** Only filters depend on it: it can have another value while the query runs. */
  changeable: boolean;
}

/** Values by the names of parameters. */
export type Values = Record<string, Cell>;

/** Names of the parameters, each once, in the order of the text. */
export function parameterNames(sql: string): string[] {
  const code = sql.replace(QUOTED, " ");
  return [...new Set([...code.matchAll(PARAMETER)].map(([, name]) => name!))];
}

/** What was typed, as a value of its kind; undefined: nothing was, or it is none. */
export function valueOf(text: string | undefined, kind: ParameterKind): Cell | undefined {
  if (text === undefined) return undefined;
  if (kind === "text") return text;
  const trimmed = text.trim();
  switch (kind) {
    case "number":
      return NUMBER.test(trimmed) ? numberOf(trimmed) : undefined;
    case "boolean":
      return /^true$/i.test(trimmed) ? true : /^false$/i.test(trimmed) ? false : undefined;
    case "any":
      return NUMBER.test(trimmed) ? numberOf(trimmed) : text;
    default:
      return trimmed === "" ? undefined : trimmed;
  }
}

/** Numbers that this side cannot hold exactly travel as text, which is read as what it is compared with. */
function numberOf(text: string): number | string {
  const number = Number(text);
  if (/^-?\d+$/.test(text)) return Number.isSafeInteger(number) ? number : text;
  const digits = text.replace(/e.*/i, "").replace(/\D/g, "").replace(/^0+|0+$/g, "");
  if (digits === "") return number;
  const tooLarge = !Number.isFinite(number) || (Number.isInteger(number) && !Number.isSafeInteger(number));
  return tooLarge || Math.abs(number) < SMALLEST_EXACT || digits.length > EXACT_DIGITS ? text : number;
}

/** Whether something was typed that the parameter does not take. */
export function isWrong(text: string | undefined, kind: ParameterKind): boolean {
  return text !== undefined && text.trim() !== "" && valueOf(text, kind) === undefined;
}

/** The kind in a sentence. */
export function aKind(kind: ParameterKind): string {
  return kind === "any" ? "a value" : kind === "interval" ? "an interval" : `a ${kind}`;
}

/** What to type, for those who wonder. */
export function hintFor(kind: ParameterKind): string {
  const hints: Record<ParameterKind, string> = {
    text: "text",
    number: "a number",
    boolean: "true or false",
    timestamp: "2026-01-31 12:00:00",
    interval: "10 seconds",
    any: "",
  };
  return hints[kind];
}

/** The values of those parameters that have one. */
export function parameterValues(names: string[], typed: ReadonlyMap<string, string>, kinds: ReadonlyMap<string, ParameterKind>): Values {
  const given = names.flatMap((name) => {
    const value = valueOf(typed.get(name), kinds.get(name) ?? "any");
    return value === undefined ? [] : [[name, value] as const];
  });
  return Object.fromEntries(given);
}

/** Values as they are shown: `$least = 5, $who = 'ann'`. */
export function inWords(values: Values): string {
  const shown = (value: Cell) => (typeof value === "string" ? `'${value}'` : String(value));
  return Object.entries(values).map(([name, value]) => `$${name} = ${shown(value)}`).join(", ");
}

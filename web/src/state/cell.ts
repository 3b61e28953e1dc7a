/** How values are shown. */

import type { Cell, Field } from "../wire";
import { readable } from "./quantity";

/** What a column is, for alignment and charts. */
export type Kind = "time" | "number" | "text" | "truth" | "other";

/** Most digits of a fraction that are shown; the whole value is in the cell's title. */
const FRACTION_DIGITS = 4;

/** Longest text drawn in a cell, in characters. */
const SHOWN_CHARACTERS = 200;

/** The kind of an Arrow type. */
export function kindOf(type: string): Kind {
  if (/^(Timestamp|Date)/.test(type)) return "time";
  if (/^(U?Int\d|Float\d|Decimal\d)/.test(type)) return "number";
  if (/^(Large)?Utf8|^Dictionary\(.*Utf8/.test(type)) return "text";
  return type === "Boolean" ? "truth" : "other";
}

/** A number, also one that travels as a string; null when it is none or not finite. */
export function numberOf(value: Cell): number | null {
  const number = typeof value === "string" && value !== "" ? Number(value) : value;
  return typeof number === "number" && Number.isFinite(number) ? number : null;
}

/** The whole value as text. */
export function wholeText(value: Cell): string {
  if (value === null) return "null";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** The whole value as text, nested ones indented; a text that is JSON too. */
export function indented(value: Cell): string {
  if (value !== null && typeof value === "object") return JSON.stringify(value, null, 2);
  if (typeof value === "string" && /^\s*[{[]/.test(value)) {
    try {
      return JSON.stringify(JSON.parse(value), null, 2);
    } catch {
      return value;
    }
  }
  return wholeText(value);
}

/** The value as it is drawn. */
export function shownText(value: Cell, field: Field): string {
  if (value === null) return "∅";
  if (typeof value === "number" && !Number.isInteger(value)) return shownNumber(value);
  if (typeof value === "string" && field.type.startsWith("Timestamp")) return readable(value);
  const text = wholeText(value);
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
}

function shownNumber(value: number): string {
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e15) return value.toPrecision(FRACTION_DIGITS);
  return value.toFixed(FRACTION_DIGITS).replace(/\.?0+$/, "");
}

/** Spans of the server count bytes of UTF-8; editors count units of UTF-16. */

import type { Span } from "../wire";

/** How many bytes of UTF-8 a code point takes. */
function width(codePoint: number): number {
  if (codePoint < 0x80) return 1;
  if (codePoint < 0x800) return 2;
  return codePoint < 0x10000 ? 3 : 4;
}

/** The UTF-16 index of a byte; one inside a character is that character's start, one past the end is the end. */
export function indexOfByte(text: string, byte: number): number {
  let bytes = 0;
  let index = 0;
  for (const character of text) {
    bytes += width(character.codePointAt(0)!);
    if (bytes > byte) return index;
    index += character.length;
  }
  return index;
}

/** A span as UTF-16 indices, at least one character wide where there is one, so that it can be underlined. */
export function toIndices(text: string, span: Span): { from: number; to: number } {
  const from = indexOfByte(text, span.start);
  const to = Math.max(indexOfByte(text, span.end), from);
  if (to > from) return { from, to };
  return from < text.length ? { from, to: from + 1 } : { from: Math.max(0, from - 1), to: from };
}

/** Line and column from 1, the column in characters. */
export function placeOf(text: string, span: Span): { line: number; column: number } {
  const before = text.slice(0, indexOfByte(text, span.start));
  const lines = before.split("\n");
  return { line: lines.length, column: [...lines.at(-1)!].length + 1 };
}

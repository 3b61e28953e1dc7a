import { describe, expect, test } from "vitest";
import { indexOfByte, placeOf, toIndices } from "./spans";

describe("spans", () => {
  test("bytes and indices agree in ASCII", () => {
    expect(toIndices("SELECT prise FROM bids", { start: 7, end: 12 })).toEqual({ from: 7, to: 12 });
  });

  test("two, three and four byte characters are counted", () => {
    const text = "é€😀x";
    expect([0, 2, 5, 9, 10].map((byte) => indexOfByte(text, byte))).toEqual([0, 1, 2, 4, 5]);
  });

  test("a byte inside a character is its start, one past the end is the end", () => {
    expect(indexOfByte("a😀", 3)).toBe(1);
    expect(indexOfByte("ab", 99)).toBe(2);
  });

  test("an empty span is widened to something that can be seen", () => {
    expect(toIndices("ab", { start: 0, end: 0 })).toEqual({ from: 0, to: 1 });
    expect(toIndices("ab", { start: 2, end: 2 })).toEqual({ from: 1, to: 2 });
    expect(toIndices("", { start: 0, end: 0 })).toEqual({ from: 0, to: 0 });
  });

  test("places count lines and characters from one", () => {
    expect(placeOf("SELECT 1,\n  'é', x", { start: 17, end: 18 })).toEqual({ line: 2, column: 7 });
  });
});

import { act } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { newResult, type Result } from "../state/result";
import { LiveTable } from "./table";

let root: Root;
let place: HTMLElement;

beforeEach(() => {
  vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);
  place = document.body.appendChild(document.createElement("div"));
  root = createRoot(place);
});
afterEach(() => {
  act(() => root.unmount());
  place.remove();
  vi.unstubAllGlobals();
});

function oneRow(): Result {
  const result = newResult(0);
  result.schema = [{ name: "n", type: "Int64", nullable: false }];
  result.items.push({ kind: "row", number: result.count++, values: [7], x: null, op: null, partial: false });
  return result;
}

const held = () => place.querySelector(".resume") !== null;
const details = () => place.querySelector(".details")?.textContent;
const click = (selector: string) => act(() => place.querySelector<HTMLElement>(selector)!.click());

test("choosing a row holds the table, letting it go does not", () => {
  act(() => root.render(<LiveTable result={oneRow()} />));
  const enter = new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true });
  act(() => void place.querySelector(".table-scroll")!.dispatchEvent(enter));
  expect(details()).toContain("7");
  expect(held()).toBe(true);
  click(".resume");
  expect(held()).toBe(false);
  click(".details button");
  expect(details()).toBe(undefined);
  expect(held()).toBe(false);
});

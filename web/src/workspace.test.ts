import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Connection } from "./socket";
import { MOST_PANES, Workspace } from "./workspace";

let executed: string[];

beforeEach(() => {
  executed = [];
  history.replaceState(null, "", "/");
  vi.stubGlobal("requestAnimationFrame", (draw: () => void) => void draw());
  vi.stubGlobal("fetch", (_: string, options: { body: string }) => {
    executed.push(JSON.parse(options.body).sql);
    return Promise.resolve(new Response('{"results":[]}'));
  });
});
afterEach(() => vi.unstubAllGlobals());

const workspace = () => new Workspace({} as Connection);
const texts = (shown: Workspace) => shown.panes.map((pane) => pane.sql);

test("a link reopens its queries and runs those that only read", () => {
  const shown = workspace();
  expect(shown.openLink("#q=SELECT+1&q=DROP+STREAM+x")).toBe(true);
  expect(texts(shown)).toEqual(["SELECT 1", "DROP STREAM x"]);
  expect(executed).toEqual(["SELECT 1"]);
  expect(shown.openLink("")).toBe(false);
});

test("an example's queries run one after the other, and the address remembers them", async () => {
  const shown = workspace();
  await shown.open(["CREATE STREAM a AS SELECT 1", "SELECT * FROM a"]);
  expect(executed).toEqual(["CREATE STREAM a AS SELECT 1", "SELECT * FROM a"]);
  const again = workspace();
  again.openLink(location.hash);
  expect(texts(again)).toEqual(texts(shown));
});

test("there are never more panes than fit, nor none", () => {
  const shown = workspace();
  for (let at = 0; at < MOST_PANES + 2; at += 1) shown.add(`SELECT ${at}`);
  expect(texts(shown)).toEqual(["SELECT 0", "SELECT 1", "SELECT 2", `SELECT ${MOST_PANES + 1}`]);
  for (const pane of [...shown.panes]) shown.close(pane);
  expect(texts(shown)).toEqual([""]);
});

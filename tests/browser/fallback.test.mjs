/** The small console that a binary built without npm carries, over the real binary. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";

import { AxeBuilder, startBrowser, startDemo } from "./server.mjs";

const FILES = new URL("../../gateway/fallback/", import.meta.url);
const TYPES = { "/": "text/html", "/console.js": "text/javascript", "/console.css": "text/css" };
const PATIENCE_MS = 15_000;

let browser;
let demo;
let page;

before(async () => {
  // A page whose files a test provides has no address of its own, and would not be let near a local server.
  browser = await startBrowser(["--disable-features=LocalNetworkAccessChecks"]);
  demo = await startDemo();
  page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  // The binary under test has the full console built in: the small one's files take its place.
  for (const [path, contentType] of Object.entries(TYPES)) {
    const body = await readFile(new URL(path === "/" ? "index.html" : path.slice(1), FILES), "utf8");
    await page.route(new URL(path, demo.url).href, (route) => route.fulfill({ body, contentType }));
  }
  await page.goto(demo.url);
});

after(async () => {
  await browser?.close();
  await demo?.stop();
});

test("it lists the streams", async () => {
  await page.locator("#streams").getByText("plays").waitFor();
});

test("a query runs, its rows move, and it stops", async () => {
  const sql = "SELECT window_start, count(*) AS n FROM plays GROUP BY tumble('1s') EMIT EVERY '100ms'";
  await page.locator("#sql").fill(sql);
  await page.getByRole("button", { name: "Run" }).click();
  await page.locator("#rows tbody tr, #rows tr:nth-child(2)").first().waitFor();
  const { violations } = await new AxeBuilder({ page }).analyze();
  assert.deepEqual(violations.map(({ id }) => id), []);
  await page.getByRole("button", { name: "Stop" }).click();
  await page.locator("#stop:disabled").waitFor();
});

test("a query with LIMIT says that it is complete behind its last row", async () => {
  await page.locator("#sql").fill("SELECT title, device FROM plays LIMIT 7");
  await page.getByRole("button", { name: "Run" }).click();
  await page.getByText("complete: as many rows came as LIMIT asks for").waitFor();
  assert.equal(await page.locator("#rows tbody tr").count(), 7);
  await page.locator("#stop:disabled").waitFor();
});

test("a mistake is told with its place and help", async () => {
  await page.locator("#sql").fill("SELECT titel FROM plays");
  await page.keyboard.press("ControlOrMeta+Enter");
  await page.locator("#messages .error").getByText('did you mean "title"?').waitFor();
});

test("what an event says is never read as HTML", async () => {
  await page.locator("#sql").fill("SELECT '<img src=x onerror=alert(1)>' AS html FROM plays");
  await page.keyboard.press("ControlOrMeta+Enter");
  await page.locator("#rows").getByText("<img src=x onerror=alert(1)>").first().waitFor();
  assert.equal(await page.locator("#rows img").count(), 0);
});

/** The console of the real binary in a real browser. */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { AxeBuilder, startBrowser, startDemo } from "./server.mjs";

/** From the binary's start to a chart that has moved. */
const FIRST_CHART_MS = 5_000;
/** Flights are replayed at ten minutes a second: windows of two hours and their delay take a while. */
const CHAINED_ROWS_MS = 60_000;
const PATIENCE_MS = 15_000;

let browser;
let demo;
let page;
let complaints;

before(async () => {
  browser = await startBrowser();
  demo = await startDemo();
});

after(async () => {
  await browser?.close();
  await demo?.stop();
});

beforeEach(async () => {
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
  page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
});

afterEach(async () => {
  await page.context().close();
  assert.deepEqual(complaints, [], "the page complains of nothing");
});

/** The pane of that number, from 1. */
function pane(number) {
  return page.getByRole("region", { name: `Query ${number}` });
}

async function write(sql) {
  const editor = pane(1).locator(".cm-content");
  await editor.click();
  await page.keyboard.press("ControlOrMeta+A");
  await page.keyboard.insertText(sql);
}

async function rowsOf(number) {
  const fact = pane(number).locator('[data-fact="rows"] b');
  return (await fact.count()) === 0 ? 0 : Number((await fact.innerText()).replace(/\D/g, ""));
}

/** Waits until a probe gives something true. */
async function until(probe, what, patience = PATIENCE_MS) {
  const deadline = performance.now() + patience;
  while (performance.now() < deadline) {
    const found = await probe();
    if (found) return found;
    await page.waitForFunction(() => new Promise((done) => requestAnimationFrame(() => done(true))));
  }
  assert.fail(`not within ${patience} ms: ${what}`);
}

test("the demo opens and a chart moves within five seconds of the binary's start", async () => {
  await page.goto(demo.url);
  const lines = page.locator(".lines[data-points]").first();
  await until(async () => (await lines.count()) > 0 && Number(await lines.getAttribute("data-points")) > 0, "a chart");
  const drawn = await lines.getAttribute("data-values");
  await until(async () => (await lines.getAttribute("data-values")) !== drawn, "the chart moves");
  const took = Math.round(performance.now() - demo.startedAt);
  console.log(`a chart had moved ${took} ms after the binary's start`);
  assert.ok(took < FIRST_CHART_MS, `${took} ms`);
});

const MISTAKES = [
  ["an unknown column", "SELECT titel FROM plays", "titel", /did you mean .*title/],
  ["types that do not fit", "SELECT title FROM plays WHERE startup_ms > ts", null, /help/],
  ["an endless sort", "SELECT title FROM plays ORDER BY title", null, /help/],
  ["a cross join of streams", "SELECT * FROM plays CROSS JOIN host_cpu", null, /help/],
];

for (const [name, sql, underlined, told] of MISTAKES) {
  test(`${name} is underlined while it is typed, with help`, async () => {
    await page.goto(demo.url);
    await pane(1).locator(".cm-content").waitFor();
    await write(sql);
    const mark = pane(1).locator(".cm-lintRange-error").first();
    await mark.waitFor();
    if (underlined !== null) assert.equal(await mark.innerText(), underlined);
    const mistakes = pane(1).getByRole("list", { name: "Mistakes" });
    await mistakes.waitFor();
    assert.match(await mistakes.innerText(), told);
  });
}

test("a chained pair over flights and a query over the host run side by side", async () => {
  await page.goto(demo.url);
  await page.getByRole("button", { name: "Flights, chained, beside this machine" }).click();
  for (const number of [1, 2, 3]) {
    await until(async () => (await rowsOf(number)) > 0, `rows in pane ${number}`, CHAINED_ROWS_MS);
  }
  assert.match(await pane(1).getByRole("group", { name: "Counters" }).innerText(), /replay/);
  assert.match(await pane(2).getByRole("group", { name: "Counters" }).innerText(), /replay/);
});

test("the keyboard runs and stops a query", async () => {
  await page.goto(demo.url);
  await pane(1).locator(".cm-content").waitFor();
  await write("SELECT title, device FROM plays");
  await page.keyboard.press("ControlOrMeta+Enter");
  await until(async () => (await rowsOf(1)) > 0, "rows");
  await page.keyboard.press("Escape");
  await pane(1).getByRole("button", { name: "Stop" }).and(page.locator(":disabled")).waitFor();
});

test("a link reopens its queries", async () => {
  await page.goto(demo.url);
  await pane(1).locator(".cm-content").waitFor();
  await write("SELECT title, country FROM plays WHERE device = 'tv'");
  await page.keyboard.press("ControlOrMeta+Enter");
  await until(() => page.url().includes("#"), "the address has the query");
  const link = page.url();
  await page.goto("about:blank");
  await page.goto(link);
  await until(
    async () => (await pane(1).locator(".cm-content").innerText()).includes("WHERE device = 'tv'"),
    "the query is there again",
  );
});

for (const scheme of ["light", "dark"]) {
  test(`the console is accessible in ${scheme} colours`, async () => {
    await page.emulateMedia({ colorScheme: scheme });
    await page.goto(demo.url);
    await until(async () => (await rowsOf(1)) > 0, "rows");
    const { violations } = await new AxeBuilder({ page }).analyze();
    const found = violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 160)}`));
    assert.deepEqual(found, []);
  });
}

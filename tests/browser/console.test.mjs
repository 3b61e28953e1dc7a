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

test("a query with LIMIT says that it is complete behind its last row", async () => {
  await page.goto(demo.url);
  await pane(1).locator(".cm-content").waitFor();
  await write("SELECT title, device FROM plays LIMIT 7");
  await page.keyboard.press("ControlOrMeta+Enter");
  await pane(1).getByText("complete: as many rows came as LIMIT asks for").first().waitFor();
  assert.equal(await rowsOf(1), 7);
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

const WITH_PARAMETERS = "SELECT title, device, startup_ms, $label AS label FROM plays WHERE device = $device AND startup_ms > $least";

/** Fills the fields of pane 1. */
async function give(values) {
  for (const [name, value] of Object.entries(values)) await pane(1).getByRole("textbox", { name: `$${name}` }).fill(value);
}

async function shownDevices() {
  const cells = await pane(1).locator(".grid-row > :nth-child(2)").allInnerTexts();
  return [...new Set(cells)];
}

test("a parameter changes while its query runs, and a link holds its value", async () => {
  await page.goto(demo.url);
  await pane(1).locator(".cm-content").waitFor();
  await write(WITH_PARAMETERS);
  await give({ label: "one", device: "tv", least: "0" });
  await pane(1).getByRole("button", { name: "Run" }).first().click();
  await until(async () => (await rowsOf(1)) > 0, "rows");
  assert.deepEqual(await shownDevices(), ["tv"]);

  await give({ device: "phone" });
  const told = pane(1).locator(".told");
  await told.getByText(/\$device = 'phone' holds, from row \d+ on/).waitFor();
  await until(async () => (await shownDevices())[0] === "phone", "rows of the other device above those before");

  await give({ least: "many" });
  await pane(1).getByText("not a number").waitFor();
  await give({ least: "0" });
  await give({ label: "two" });
  await told.getByText("$label cannot change while the query runs").waitFor();
  await told.getByRole("button", { name: "Run again with it" }).click();
  await pane(1).locator(".grid-row").getByText("two").first().waitFor();
  assert.deepEqual(await shownDevices(), ["phone"]);

  const link = page.url();
  await page.goto("about:blank");
  await page.goto(link);
  await until(async () => (await rowsOf(1)) > 0, "the query runs again");
  assert.equal(await pane(1).getByRole("textbox", { name: "$device" }).inputValue(), "phone");
  assert.deepEqual(await shownDevices(), ["phone"]);
});

/** Carries out statements, or publishes events, past the console. */
async function post(path, body) {
  const answer = await fetch(new URL(path, demo.url), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  assert.equal(answer.status, 200, await answer.text());
}

const HTML = "<img src=x onerror=alert(1)>";

test("late rows and records that did not decode are in sight, and a click away", async () => {
  const sql = `CREATE SOURCE taps (n BIGINT, who VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'http');
    CREATE STREAM tap_counts AS SELECT window_start, count(*) AS n FROM taps GROUP BY tumble('10s')`;
  await post("/api/v1/statements", { sql });
  const tap = (n, time) => JSON.stringify({ n, who: HTML, ts: `2026-01-01T00:00:${time}Z` });
  await post("/api/v1/streams/taps/events", [tap(1, "01"), tap(2, "15"), tap(3, "03"), tap(HTML, "16")].join("\n"));

  await page.goto(demo.url);
  const streams = page.getByRole("navigation", { name: "Server" }).getByRole("listitem");
  const taps = streams.filter({ has: page.getByRole("button", { name: "taps", exact: true }) });
  const counts = streams.filter({ has: page.getByRole("button", { name: "tap_counts", exact: true }) });
  // Jobs are read after the streams; what is told of them moves the lines below, also from under a click.
  await counts.getByText("1 late").waitFor();
  await taps.getByText("1 undecodable").waitFor();
  await taps.getByRole("button", { name: "Look at rows set aside" }).click();
  await taps.getByRole("list", { name: "Rows set aside by taps" }).getByText(HTML).first().waitFor();

  await counts.getByRole("button", { name: "Read late rows" }).click();
  const rows = pane(2).locator(".grid-row");
  await rows.getByText(HTML).first().waitFor();
  assert.match(await rows.first().innerText(), /late/);
  assert.equal(await page.locator(".grid img, .rejects img").count(), 0);

  await write("SELECT * FROM tap_counts");
  await page.keyboard.press("ControlOrMeta+Enter");
  const ledger = pane(1).locator(".ledger");
  await ledger.getByText("where rows went").click();
  await ledger.getByRole("button", { name: "Read late rows" }).waitFor();
  await ledger.getByRole("button", { name: "Look at rows set aside" }).click();
  await ledger.getByText(HTML).first().waitFor();
  await post("/api/v1/statements", { sql: "DROP STREAM tap_counts CASCADE; DROP SOURCE taps CASCADE" });
});

/** How many steps of rows a replay has. */
const STEPPED_ROWS = 40;

test("a replay begins with a pause, comes row by row, and goes on", async () => {
  const create = "CREATE SOURCE steps (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'http')";
  await post("/api/v1/statements", { sql: create });
  const numbers = Array.from({ length: STEPPED_ROWS }, (_, at) => at + 1);
  await post("/api/v1/streams/steps/events", numbers.map((n) => JSON.stringify({ n, ts: n * 1_000 })).join("\n"));

  await page.goto(demo.url);
  await pane(1).locator(".cm-content").waitFor();
  await write("SELECT n FROM steps SINCE EARLIEST");
  await page.keyboard.press("ControlOrMeta+Enter");
  await until(async () => (await rowsOf(1)) === STEPPED_ROWS, "all rows, without a pause");
  await pane(1).getByRole("button", { name: "Run paused" }).click();
  const replay = pane(1).getByRole("group", { name: "Replay" });
  await replay.getByText("paused before its first row").waitFor();
  assert.equal(await rowsOf(1), 0);

  /** The newest row is that number, no other has come since, and the replay stands there. */
  const stands = async (number) => {
    await replay.getByText(`00:00:${String(number).padStart(2, "0")}`).waitFor();
    await until(async () => (await rowsOf(1)) === number, `${number} rows`);
    assert.equal(await pane(1).locator(".grid-row").first().innerText(), String(number));
    await replay.getByRole("button", { name: "Continue" }).waitFor();
  };
  await page.keyboard.press("F9");
  await stands(1);
  await replay.getByRole("button", { name: "Step", exact: true }).click();
  await stands(2);
  await page.keyboard.press("Shift+F9");
  await stands(12);
  await replay.getByText("position").waitFor();
  await page.keyboard.press("F8");
  await replay.getByRole("button", { name: "Pause" }).waitFor();
  await until(async () => (await rowsOf(1)) === STEPPED_ROWS, "the rest of the rows");
  assert.equal(await pane(1).locator(".grid-row").first().innerText(), String(STEPPED_ROWS));
  await post("/api/v1/statements", { sql: "DROP SOURCE steps CASCADE" });
});

test("clauses are completed in their place, and explained", async () => {
  await page.goto(demo.url);
  await pane(1).locator(".cm-content").waitFor();
  await write("SELECT window_start, count(*) AS n FROM plays GROUP BY tumble('1s') ");
  await page.keyboard.type("EMIT ");
  await page.keyboard.press("Control+Space");
  await page.locator(".cm-tooltip-autocomplete").getByText("EVERY", { exact: true }).waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.type("CHANGES");
  await page.keyboard.press("Escape");
  await pane(1).locator(".cm-content").getByText("tumble", { exact: true }).hover();
  await page.locator(".cm-explained").getByText(/Windows of one size/).waitFor();
});

for (const scheme of ["light", "dark"]) {
  test(`the console is accessible in ${scheme} colours`, async () => {
    await page.emulateMedia({ colorScheme: scheme });
    await page.goto(demo.url);
    await write("SELECT window_start, device, count(*) AS n FROM plays WHERE device <> $device GROUP BY device, tumble('1s')");
    await give({ device: "tv" });
    await pane(1).getByRole("button", { name: "Run again" }).click();
    await until(async () => (await rowsOf(1)) > 0, "rows");
    await pane(1).locator(".ledger summary").click();
    await pane(1).getByRole("region", { name: "Rows, newest first" }).press("Enter");
    await pane(1).getByRole("region", { name: "The chosen row" }).waitFor();
    const { violations } = await new AxeBuilder({ page }).analyze();
    const found = violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 160)}`));
    assert.deepEqual(found, []);
  });
}

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Pane } from "./pane";
import type { Values } from "./state/params";
import { Connection, type SubscriptionEvent } from "./socket";
import { steerByKey } from "./views/steps";
import type { Steering } from "./wire";

/** A connection that only notes what is asked of it. */
class FakeConnection {
  asked: { sql: string; params: Values | null; hear: (event: SubscriptionEvent) => void; stopped: boolean; wishes: Values[]; paused: boolean; steered: Steering[] }[] = [];
  subscribe(sql: string, params: Values | null, hear: (event: SubscriptionEvent) => void, paused: boolean) {
    const subscription = { sql, params, hear, stopped: false, wishes: [] as Values[], paused, steered: [] as Steering[] };
    this.asked.push(subscription);
    return {
      stop: () => {
        subscription.stopped = true;
      },
      setParams: (values: Values) => subscription.wishes.push(values),
      steer: (how: Steering) => subscription.steered.push(how),
    };
  }
}

let connection: FakeConnection;
let answers: ((body: object, status?: number) => void)[];

beforeEach(() => {
  connection = new FakeConnection();
  answers = [];
  vi.stubGlobal("requestAnimationFrame", queueMicrotask);
  vi.stubGlobal(
    "fetch",
    () => new Promise((resolve) => answers.push((body, status = 200) => resolve(new Response(JSON.stringify(body), { status })))),
  );
});
afterEach(() => vi.unstubAllGlobals());

const pane = (sql: string) => new Pane(1, sql, connection as unknown as Connection);
const kinds = (shown: Pane) => shown.run?.outcomes.map((outcome) => outcome.kind);

test("a script's statements are answered in order, and its live queries are subscribed to", async () => {
  const shown = pane("CREATE STREAM s AS SELECT 1; SHOW JOBS; SELECT * FROM s");
  const started = shown.start();
  expect(shown.run?.state).toBe("asking");
  answers[0]!({
    results: [
      { kind: "done", message: "created" },
      { kind: "table", columns: [], rows: [] },
      { kind: "live", sql: "SELECT * FROM s" },
    ],
  });
  await started;
  expect(kinds(shown)).toEqual(["message", "table", "live"]);
  expect(connection.asked.map(({ sql }) => sql)).toEqual(["SELECT * FROM s"]);
  expect(shown.live).toBe(true);
  shown.stop();
  expect(shown.live).toBe(false);
  expect(connection.asked[0]!.stopped).toBe(true);
});

test("a refusal shows all mistakes, and what was done before it", async () => {
  const shown = pane("CREATE STREAM s AS SELECT 1; SELECT x, y FROM s");
  const started = shown.start();
  const mistake = (message: string) => ({ code: "unknown_column", message });
  answers[0]!(
    {
      results: [{ kind: "done", message: "created" }],
      error: { ...mistake("no x"), retryable: false, diagnostics: [mistake("no x"), mistake("no y")] },
    },
    400,
  );
  await started;
  expect(kinds(shown)).toEqual(["message"]);
  expect(shown.run?.problems.map(({ message }) => message)).toEqual(["no x", "no y"]);
});

test("running again stops what ran, and an answer that comes late is not shown", async () => {
  const shown = pane("SELECT 1");
  const first = shown.start();
  const second = shown.start();
  answers[1]!({ results: [{ kind: "live", sql: "SELECT 1" }] });
  await second;
  answers[0]!({ results: [{ kind: "live", sql: "SELECT 1" }] });
  await first;
  expect(connection.asked).toHaveLength(1);
  const third = shown.start();
  expect(connection.asked[0]!.stopped).toBe(true);
  answers[2]!({ results: [] });
  await third;
});

test("a query that fails says why and lives no more; the connection's own errors end nothing", async () => {
  const shown = pane("SELECT 1");
  const started = shown.start();
  answers[0]!({ results: [{ kind: "live", sql: "SELECT 1" }] });
  await started;
  const { hear } = connection.asked[0]!;
  hear({ type: "error", code: "busy", message: "all of it", retryable: true });
  hear({ type: "lost" });
  expect(shown.live).toBe(true);
  hear({ type: "error", id: "1", code: "killed", message: "the query was killed", retryable: false });
  expect(shown.live).toBe(false);
  const outcome = shown.run?.outcomes[0];
  expect(outcome?.kind === "live" && outcome.query.state).toMatchObject({ kind: "failed", problems: [{ code: "killed" }] });
});

test("a server that is away is a problem that can be read", async () => {
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("Failed to fetch")));
  const shown = pane("SELECT 1");
  await shown.start();
  expect(shown.run?.problems[0]?.message).toContain("cannot be reached");
});

test("an answer that is not JSON is told by its status", async () => {
  vi.stubGlobal("fetch", () => Promise.resolve(new Response("oops", { status: 502 })));
  const shown = pane("SELECT 1");
  await shown.start();
  expect(shown.run?.problems[0]?.message).toBe("the server answered 502");
});

/** A server that answers each path with what it has for it, and what it was asked. */
function serve(answers: Record<string, object>): { path: string; body: unknown }[] {
  const asked: { path: string; body: unknown }[] = [];
  vi.stubGlobal("fetch", (path: string, request: RequestInit) => {
    const name = path.split("/").at(-1)!;
    asked.push({ path: name, body: JSON.parse(String(request.body)) });
    return Promise.resolve(new Response(JSON.stringify(answers[name])));
  });
  return asked;
}

const SQL = "SELECT $label AS label FROM s WHERE n > $least";
const PARAMETERS = [
  { name: "label", kind: "text", changeable: false },
  { name: "least", kind: "number", changeable: true },
];

async function running() {
  const written = { sql: SQL, params: { label: "5", least: 2 } };
  const asked = serve({
    check: { diagnostics: [], parameters: PARAMETERS },
    statements: { results: [{ kind: "live", sql: "SELECT '5' …", written }] },
  });
  const shown = pane(SQL);
  shown.give("label", "5");
  shown.give("least", "2");
  await shown.start();
  return { shown, asked, live: connection.asked.at(-1)! };
}

test("values of parameters go with the script, each of the kind that the server says", async () => {
  const { shown, asked, live } = await running();
  expect(asked.at(-1)).toEqual({ path: "statements", body: { sql: SQL, params: { label: "5", least: 2 } } });
  expect([live.sql, live.params]).toEqual([SQL, { label: "5", least: 2 }]);
  expect(shown.linked).toEqual({ sql: SQL, values: { label: "5", least: "2" } });
});

test("fields follow the text", () => {
  const shown = pane("SELECT * FROM s WHERE n > $least");
  shown.give("least", "5");
  shown.typed("SELECT * FROM s WHERE n > $least AND who = $who");
  expect(shown.parameters).toEqual(["least", "who"]);
  expect(shown.values.get("least")).toBe("5");
});

test("a running query takes what can change, and what cannot is said", async () => {
  const { shown, live } = await running();
  shown.give("least", "two");
  shown.apply();
  expect(live.wishes).toEqual([]);
  shown.give("least", "3");
  shown.apply();
  expect(live.wishes).toEqual([{ least: 3 }]);
  expect(shown.change).toEqual({ kind: "asked", values: { least: 3 } });
  live.hear({ type: "params", id: "1", channel: 1, position: "e:0=9", params: { label: "5", least: 3 }, query: "q2" });
  expect(shown.change).toEqual({ kind: "holds", values: { least: 3 }, position: "e:0=9", rows: 0 });
  expect(shown.stale).toEqual([]);
  shown.give("label", "six");
  shown.apply();
  expect(live.wishes).toHaveLength(1);
  expect(shown.stale).toEqual(["label"]);
  shown.give("label", "5");
  expect(shown.stale).toEqual([]);
});

test("a value that the server refuses is said, and the query goes on", async () => {
  const { shown, live } = await running();
  shown.give("least", "3");
  shown.apply();
  const error = { code: "parameter", message: "no" };
  live.hear({ type: "params", id: "1", channel: 1, position: "e:0=9", params: { label: "5", least: 2 }, query: "q1", error });
  expect(shown.change).toEqual({ kind: "refused", problem: error });
  expect(shown.stale).toEqual(["least"]);
  expect(shown.live).toBe(true);
});

test("a parameter without a value is told before anything is sent", async () => {
  const asked = serve({ check: { diagnostics: [], parameters: PARAMETERS } });
  const shown = pane(SQL);
  shown.give("least", "two");
  await shown.start();
  expect(asked.map(({ path }) => path)).toEqual(["check"]);
  expect(shown.run?.problems.map(({ message }) => message)).toEqual(["parameter $label has no value", '$least takes a number, not "two"']);
});

/** Lets what waits for an answer go on. */
const settled = () => new Promise((resolve) => setTimeout(resolve));
const CHECKED = { diagnostics: [], parameters: PARAMETERS };

/** A pane whose values are typed and of whose text nothing is known yet, and what it asks of the server. */
function typedIn() {
  const asked: string[] = [];
  vi.stubGlobal("fetch", (path: string) => {
    asked.push(path.split("/").at(-1)!);
    return new Promise((resolve) => answers.push((body, status = 200) => resolve(new Response(JSON.stringify(body), { status }))));
  });
  const shown = pane(SQL);
  shown.give("label", "5");
  shown.give("least", "2");
  return { shown, asked };
}

test("a script that is stopped while its parameters are asked for is not carried out", async () => {
  const { shown, asked } = typedIn();
  const started = shown.start();
  shown.stop();
  answers[0]!(CHECKED);
  await started;
  expect(asked).toEqual(["check"]);
  expect(shown.run).toBe(null);
});

test("a script that is run again while its parameters are asked for is carried out once", async () => {
  const { shown, asked } = typedIn();
  const [first, second] = [shown.start(), shown.start()];
  answers[0]!(CHECKED);
  await first;
  answers[1]!(CHECKED);
  await settled();
  expect(asked).toEqual(["check", "check", "statements"]);
  answers[2]!({ results: [{ kind: "live", sql: SQL }] });
  await second;
  expect(connection.asked).toHaveLength(1);
});

test("a script that is edited while its parameters are asked for is not carried out, and is asked for anew", async () => {
  const { shown, asked } = typedIn();
  const drawn = vi.fn();
  shown.onChange(drawn);
  const started = shown.start();
  shown.typed(`${SQL} AND label > $label`);
  await settled();
  drawn.mockClear();
  answers[0]!(CHECKED);
  await started;
  await settled();
  expect(asked).toEqual(["check"]);
  expect(shown.run).toBe(null);
  expect(drawn).toHaveBeenCalled();
  void shown.start();
  expect(asked).toEqual(["check", "check"]);
});

test("an answer about an earlier text does not displace what is known of this one", async () => {
  const { shown } = typedIn();
  const started = shown.start();
  shown.typed("SELECT $label + 1 FROM s");
  shown.checked({ diagnostics: [], parameters: [{ name: "label", kind: "number", changeable: false }] });
  answers[0]!(CHECKED);
  await started;
  expect(shown.kindOf("label")).toBe("number");
});

test("a replay begins paused, is steered by keys, and says where it stands", async () => {
  const shown = pane("SELECT * FROM s SINCE EARLIEST; SELECT * FROM s");
  const started = shown.start(true);
  answers[0]!({ results: [{ kind: "live", sql: "SELECT * FROM s SINCE EARLIEST" }, { kind: "live", sql: "SELECT * FROM s" }] });
  await started;
  expect(connection.asked.map(({ paused }) => paused)).toEqual([true, false]);
  const [asked] = connection.asked;
  const key = (name: string, shiftKey = false) => steerByKey(shown.replay, { key: name, shiftKey });
  expect(key("F9", true)).toBe(true);
  asked!.hear({ type: "pace", id: "1", paused: true, position: "1:0=10", event_time: "2026-01-01T00:00:00Z" });
  expect(shown.replay?.pace).toMatchObject({ paused: true, position: "1:0=10" });
  key("F8");
  asked!.hear({ type: "pace", id: "1", paused: false, position: "1:0=10", event_time: "2026-01-01T00:00:00Z" });
  key("F8");
  expect(asked!.steered).toEqual([{ type: "step", rows: 10 }, { type: "continue" }, { type: "pause" }]);
  expect(key("F7")).toBe(false);
});

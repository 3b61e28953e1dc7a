import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Pane } from "./pane";
import { Connection, type SubscriptionEvent } from "./socket";

/** A connection that only notes what is asked of it. */
class FakeConnection {
  asked: { sql: string; hear: (event: SubscriptionEvent) => void; stopped: boolean }[] = [];
  subscribe(sql: string, hear: (event: SubscriptionEvent) => void) {
    const subscription = { sql, hear, stopped: false };
    this.asked.push(subscription);
    return () => {
      subscription.stopped = true;
    };
  }
}

let connection: FakeConnection;
let answers: ((body: object, status?: number) => void)[];

beforeEach(() => {
  connection = new FakeConnection();
  answers = [];
  vi.stubGlobal("requestAnimationFrame", (draw: () => void) => void draw());
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

test("values of parameters go with the script, and fields follow the text", async () => {
  const bodies: unknown[] = [];
  vi.stubGlobal("fetch", (_: string, request: RequestInit) => {
    bodies.push(JSON.parse(String(request.body)));
    return Promise.resolve(new Response(JSON.stringify({ results: [] })));
  });
  const shown = pane("SELECT * FROM s WHERE n > $least");
  expect(shown.parameters).toEqual(["least"]);
  shown.give("least", "5");
  shown.typed("SELECT * FROM s WHERE n > $least AND who = $who");
  expect(shown.parameters).toEqual(["least", "who"]);
  shown.give("who", "ann");
  await shown.start();
  expect(bodies).toEqual([{ sql: shown.sql, params: { least: 5, who: "ann" } }]);
});

import { beforeEach, describe, expect, test } from "vitest";
import type { Values } from "./state/params";
import { Connection, CREDIT_BYTES, type SubscriptionEvent, type Surroundings, type WebSocketLike } from "./socket";

class FakeSocket implements WebSocketLike {
  onopen: WebSocketLike["onopen"] = null;
  onmessage: WebSocketLike["onmessage"] = null;
  onclose: WebSocketLike["onclose"] = null;
  sent: Record<string, unknown>[] = [];
  closedWith: number | undefined;
  send(text: string) {
    this.sent.push(JSON.parse(text));
  }
  close(code?: number) {
    this.closedWith = code;
  }
  says(message: object | string) {
    this.onmessage?.({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }
  greets() {
    this.onopen?.();
    this.says({ type: "welcome", limits: {}, heartbeat_ms: 15_000 });
  }
}

let sockets: FakeSocket[];
let timers: { milliseconds: number; act: () => void }[];
let surroundings: Surroundings;

beforeEach(() => {
  sockets = [];
  timers = [];
  surroundings = {
    open: () => {
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket;
    },
    after: (milliseconds, act) => {
      const timer = { milliseconds, act };
      timers.push(timer);
      return () => {
        timers = timers.filter((other) => other !== timer);
      };
    },
    random: () => 1,
  };
});

const subscribed = (id: string, channel: number, position = "e:0=0") => ({
  type: "subscribed", id, channel, schema: [], key: [], position, recovered: null, complete_from: null,
  shared_with: 0, labels: [], policy: "drop_oldest", query: "q",
});
const rows = (channel: number, position: string, values: unknown[][] = []) => ({
  type: "rows", channel, position, watermark: null, rows: values,
});

function listen(connection: Connection, sql = "SELECT 1", params: Values | null = null) {
  const heard: SubscriptionEvent[] = [];
  const { stop, setParams } = connection.subscribe(sql, params, (event) => heard.push(event));
  return { heard, stop, setParams, types: () => heard.map((event) => event.type) };
}

describe("a connection", () => {
  test("greets first, and subscribes once welcomed", () => {
    const connection = new Connection(surroundings);
    listen(connection, "SELECT a");
    expect(connection.state.kind).toBe("connecting");
    sockets[0]!.onopen?.();
    expect(connection.state.kind).toBe("greeting");
    expect(sockets[0]!.sent).toEqual([{ type: "hello" }]);
    sockets[0]!.says({ type: "welcome", limits: {}, heartbeat_ms: 1 });
    expect(connection.state.kind).toBe("open");
    expect(sockets[0]!.sent[1]).toEqual({ type: "subscribe", id: "1", sql: "SELECT a", credit: CREDIT_BYTES });
  });

  test("frames go to the subscriptions of their channel", () => {
    const connection = new Connection(surroundings);
    const [first, second] = [listen(connection), listen(connection)];
    sockets[0]!.greets();
    sockets[0]!.says(subscribed("1", 7));
    sockets[0]!.says(subscribed("2", 8));
    sockets[0]!.says(rows(8, "e:0=1"));
    expect(first.types()).toEqual(["subscribed"]);
    expect(second.types()).toEqual(["subscribed", "rows"]);
  });

  test("after a loss it comes back with the position behind the last row or gap", () => {
    const connection = new Connection(surroundings);
    const { types } = listen(connection);
    sockets[0]!.greets();
    sockets[0]!.says(subscribed("1", 7));
    sockets[0]!.says(rows(7, "e:0=5"));
    sockets[0]!.says({ type: "gap", id: "1", from: "e:0=5", to: "e:0=9", rows: 4, reason: "slow" });
    sockets[0]!.onclose?.({ code: 1012, reason: "restart" });
    expect(connection.state).toEqual({ kind: "waiting", attempt: 1, reason: "restart" });
    timers[0]!.act();
    sockets[1]!.greets();
    expect(sockets[1]!.sent[1]).toMatchObject({ type: "subscribe", id: "1", from: "e:0=9" });
    expect(types()).toEqual(["subscribed", "rows", "gap", "lost"]);
  });

  test("of a query with LIMIT it asks for what is left when it comes back", () => {
    const connection = new Connection(surroundings);
    listen(connection);
    sockets[0]!.greets();
    expect(sockets[0]!.sent.at(-1)).not.toHaveProperty("limit");
    sockets[0]!.says({ ...subscribed("1", 7), limit: 5 });
    sockets[0]!.says({ ...rows(7, "e:0=5"), rows: [[1], [2]] });
    sockets[0]!.onclose?.({ code: 1006, reason: "" });
    timers[0]!.act();
    sockets[1]!.greets();
    expect(sockets[1]!.sent.at(-1)).toMatchObject({ type: "subscribe", from: "e:0=5", limit: 3 });
  });

  test("pauses double up to a limit, and start anew after a welcome", () => {
    const connection = new Connection(surroundings);
    const pauses: number[] = [];
    for (let attempt = 0; attempt < 8; attempt += 1) {
      sockets.at(-1)!.onclose?.({ code: 1006, reason: "" });
      pauses.push(timers.at(-1)!.milliseconds);
      timers.at(-1)!.act();
    }
    expect(pauses).toEqual([250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
    sockets.at(-1)!.greets();
    sockets.at(-1)!.onclose?.({ code: 1006, reason: "" });
    expect(timers.at(-1)!.milliseconds).toBe(250);
    connection.retryNow();
    expect(connection.state.kind).toBe("connecting");
  });

  test("a final close code is not retried, unless asked to", () => {
    const connection = new Connection(surroundings);
    sockets[0]!.onclose?.({ code: 4403, reason: "origin" });
    expect(connection.state).toEqual({ kind: "closed", code: 4403, reason: "origin" });
    expect(timers).toEqual([]);
    connection.retryNow();
    expect(sockets).toHaveLength(2);
  });

  test("parameters go with the query, change while it runs, and come back after a loss as they were told last", () => {
    const connection = new Connection(surroundings);
    const { setParams, types } = listen(connection, "SELECT $a", { a: 1, b: "x" });
    setParams({ a: 2 });
    sockets[0]!.greets();
    expect(sockets[0]!.sent.at(-1)).toMatchObject({ type: "subscribe", params: { a: 1, b: "x" } });
    sockets[0]!.says(subscribed("1", 7));
    expect(sockets[0]!.sent.at(-1)).toEqual({ type: "set_params", id: "1", params: { a: 2 } });
    sockets[0]!.says({ type: "params", id: "1", channel: 9, position: "e:0=4", params: { a: 2, b: "x" }, query: "q2" });
    sockets[0]!.says(rows(7, "e:0=5"));
    sockets[0]!.says(rows(9, "e:0=6"));
    expect(types()).toEqual(["subscribed", "params", "rows"]);
    setParams({ b: "y" });
    sockets[0]!.onclose?.({ code: 1001, reason: "" });
    timers[0]!.act();
    sockets[1]!.greets();
    expect(sockets[1]!.sent.at(-1)).toMatchObject({ type: "subscribe", params: { a: 2, b: "x" }, from: "e:0=6" });
    sockets[1]!.says(subscribed("1", 3));
    expect(sockets[1]!.sent.at(-1)).toEqual({ type: "set_params", id: "1", params: { b: "y" } });
  });

  test("of two changes on their way, the one that was not answered is asked for again after a loss", () => {
    const connection = new Connection(surroundings);
    const { setParams } = listen(connection, "SELECT $a", { a: 1, b: "x" });
    sockets[0]!.greets();
    sockets[0]!.says(subscribed("1", 7));
    setParams({ a: 2, b: "y" });
    setParams({ a: 3 });
    sockets[0]!.says({ type: "params", id: "1", channel: 7, position: "e:0=4", params: { a: 2, b: "y" }, query: "q2" });
    const comesBack = () => {
      sockets.at(-1)!.onclose?.({ code: 1001, reason: "" });
      timers.at(-1)!.act();
      sockets.at(-1)!.greets();
      sockets.at(-1)!.says(subscribed("1", 7));
      return sockets.at(-1)!.sent.slice(1);
    };
    expect(comesBack()).toMatchObject([{ type: "subscribe", params: { a: 2, b: "y" } }, { type: "set_params", params: { a: 3 } }]);
    sockets.at(-1)!.says({ type: "params", id: "1", channel: 7, position: "e:0=5", params: { a: 3, b: "y" }, query: "q3" });
    expect(comesBack()).toMatchObject([{ type: "subscribe", params: { a: 3, b: "y" } }]);
  });

  test("a change that was refused is not asked for again", () => {
    const connection = new Connection(surroundings);
    const { setParams } = listen(connection, "SELECT $a", { a: 1 });
    sockets[0]!.greets();
    sockets[0]!.says(subscribed("1", 7));
    setParams({ a: 2 });
    const error = { code: "parameter", message: "no" };
    sockets[0]!.says({ type: "params", id: "1", channel: 7, position: "e:0=4", params: { a: 1 }, query: "q1", error });
    sockets[0]!.onclose?.({ code: 1001, reason: "" });
    timers[0]!.act();
    sockets[1]!.greets();
    sockets[1]!.says(subscribed("1", 7));
    expect(sockets[1]!.sent.map(({ type }) => type)).toEqual(["hello", "subscribe"]);
  });

  test("a replay that stands comes back standing, at its place", () => {
    const connection = new Connection(surroundings);
    const asked = connection.subscribe("SELECT 1", null, () => {}, true);
    sockets[0]!.greets();
    expect(sockets[0]!.sent.at(-1)).toMatchObject({ type: "subscribe", paused: true });
    sockets[0]!.says(subscribed("1", 5));
    asked.steer({ type: "step", rows: 2 });
    expect(sockets[0]!.sent.at(-1)).toEqual({ type: "step", id: "1", rows: 2 });
    sockets[0]!.says({ type: "pace", id: "1", paused: true, position: "e:0=0+2", event_time: null });
    sockets[0]!.onclose?.({ code: 1006, reason: "" });
    timers[0]!.act();
    sockets[1]!.greets();
    expect(sockets[1]!.sent.at(-1)).toMatchObject({ type: "subscribe", from: "e:0=0+2", paused: true });
    sockets[1]!.says(subscribed("1", 5));
    asked.steer({ type: "continue" });
    sockets[1]!.onclose?.({ code: 1006, reason: "" });
    timers[1]!.act();
    sockets[2]!.greets();
    expect(sockets[2]!.sent.at(-1)).not.toHaveProperty("paused");
  });

  test("stopping unsubscribes, and what comes late is not heard", () => {
    const connection = new Connection(surroundings);
    const { stop, types } = listen(connection);
    sockets[0]!.greets();
    sockets[0]!.says(subscribed("1", 7));
    stop();
    stop();
    sockets[0]!.says(rows(7, "e:0=5"));
    sockets[0]!.says({ type: "complete", id: "1", reason: "unsubscribed" });
    expect(types()).toEqual(["subscribed"]);
    expect(sockets[0]!.sent.filter((message) => message["type"] === "unsubscribe")).toHaveLength(1);
  });

  test("an error or an end takes the subscription away", () => {
    const connection = new Connection(surroundings);
    const [first, second] = [listen(connection), listen(connection)];
    sockets[0]!.greets();
    sockets[0]!.says({ type: "error", id: "1", code: "limit", message: "too many", retryable: true });
    sockets[0]!.says({ type: "complete", id: "2", reason: "end of input" });
    sockets[0]!.onclose?.({ code: 1001, reason: "" });
    expect(first.types()).toEqual(["error"]);
    expect(second.types()).toEqual(["complete"]);
    timers[0]!.act();
    sockets[1]!.greets();
    expect(sockets[1]!.sent).toEqual([{ type: "hello" }]);
  });

  test("credit is given back as frames are read, in bytes of UTF-8", () => {
    const connection = new Connection(surroundings);
    listen(connection);
    sockets[0]!.greets();
    sockets[0]!.says(subscribed("1", 7));
    const frame = JSON.stringify(rows(7, "e:0=1", [["é".repeat(CREDIT_BYTES / 8)]]));
    sockets[0]!.says(frame);
    expect(sockets[0]!.sent.at(-1)).toEqual({
      type: "credit", id: "1", bytes: new TextEncoder().encode(frame).length,
    });
  });

  test("a message that cannot be read ends the connection, and the next one resumes", () => {
    const connection = new Connection(surroundings);
    listen(connection);
    sockets[0]!.greets();
    sockets[0]!.says(subscribed("1", 7, "e:0=3"));
    sockets[0]!.says("{");
    expect(sockets[0]!.closedWith).toBe(4000);
    expect(connection.state.kind).toBe("waiting");
    timers[0]!.act();
    sockets[1]!.greets();
    expect(sockets[1]!.sent[1]).toMatchObject({ from: "e:0=3" });
  });
});

import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { newResult, rowsCame, subscribed } from "./state/result";
import { Connection, type SubscriptionEvent, type WebSocketLike } from "./socket";
import { readServerMessage } from "./wire";

/** Conversations as the gateway's own tests replay them against the server. */
const RECORDED = resolve(import.meta.dirname, "../../tests/cases/wire");

interface Step {
  client?: object;
  server?: Record<string, unknown>;
}

/** A recorded message as it would travel: placeholders become values of their kind. */
function travelling(message: object): string {
  const values: Record<string, unknown> = { "<number>": 7, "<any>": null };
  return JSON.stringify(message, (_, value: unknown) => (typeof value === "string" && value in values ? values[value] : value));
}

const files = readdirSync(RECORDED).filter((name) => name.endsWith(".json"));

describe("what the gateway says", () => {
  test("there are recorded conversations", () => expect(files.length).toBeGreaterThan(5));

  test.each(files)("%s is understood", (file) => {
    const { steps } = JSON.parse(readFileSync(resolve(RECORDED, file), "utf8")) as { steps: Step[] };
    const socket: WebSocketLike = { onopen: null, onmessage: null, onclose: null, send: () => {}, close: () => {} };
    const connection = new Connection({ open: () => socket, after: () => () => {}, random: () => 0 });
    const heard: SubscriptionEvent[] = [];
    const result = newResult(0);
    connection.subscribe("SELECT 1", null, (event) => {
      heard.push(event);
      if (event.type === "subscribed") subscribed(result, event);
      if (event.type === "rows") rowsCame(result, event, 0);
    });
    socket.onopen?.();
    for (const { server } of steps) {
      if (server === undefined) continue;
      const message = { ...server, ...("id" in server ? { id: "1" } : {}) };
      expect(() => readServerMessage(travelling(message))).not.toThrow();
      socket.onmessage?.({ data: travelling(message) });
      expect(connection.state.kind).toBe("open");
    }
  });
});

describe("what is no message", () => {
  test.each([
    ["{", "not JSON"],
    ["[]", "unknown type"],
    ['{"type":"constructor"}', "unknown type"],
    ['{"type":"complete","id":1,"reason":""}', '"id" of a "complete" message is number'],
    ['{"type":"rows","channel":1,"position":"","rows":{}}', '"rows" of a "rows" message is object'],
  ])("%s", (text, why) => {
    expect(() => readServerMessage(text)).toThrow(why);
  });

  test("what may be absent may be null, and the other way round; what is new is ignored", () => {
    const text = '{"type":"rows","channel":1,"position":"a","rows":[],"ops":null,"colour":"red"}';
    expect(readServerMessage(text)).toMatchObject({ watermark: null });
    expect("ops" in readServerMessage(text)).toBe(false);
  });
});

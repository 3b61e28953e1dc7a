/**
 * The one owner of the WebSocket: greets, subscribes, grants credit, and after a loss comes back with the positions.
 * Everything it needs of the outside is handed in, so that tests need no network and no clock.
 */

import type { Values } from "./state/params";
import { type ClientMessage, type Failure, readServerMessage, type ServerMessage, type Steering, WireError } from "./wire";

/** The connection, at every moment one of these. */
export type SocketState =
  | { kind: "connecting" }
  /** The socket is open, `hello` was sent, `welcome` is awaited. */
  | { kind: "greeting" }
  | { kind: "open" }
  /** Lost; a new attempt comes after a pause. */
  | { kind: "waiting"; attempt: number; reason: string }
  /** The server will not have us: trying again would end in the same way. */
  | { kind: "closed"; code: number; reason: string };

/** What a subscriber hears: the messages of its subscription, and that the connection was lost. */
export type SubscriptionEvent = Exclude<ServerMessage, { type: "welcome" }> | { type: "lost" };

/** A live query that was asked for. */
export interface Asked {
  stop(): void;
  /** Parameters are to have other values; `params` answers. */
  setParams(values: Values): void;
  /** A replay is to stand, to go on, or to come by so many rows; `pace` answers. */
  steer(how: Steering): void;
}

/** The part of a browser's `WebSocket` that is used. */
export interface WebSocketLike {
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

/** What the connection stands on. */
export interface Surroundings {
  open(): WebSocketLike;
  /** Calls back once after a pause; the answer cancels it. */
  after(milliseconds: number, act: () => void): () => void;
  /** In [0, 1). */
  random(): number;
}

export const SUBPROTOCOL = "squilla.v1.json";

/** Bytes of row frames that may be on their way: a browser that cannot keep up must not pile them up in memory. */
export const CREDIT_BYTES = 8 * 1024 * 1024;

/** Credit is given back once so many bytes were read. */
const CREDIT_STEP_BYTES = CREDIT_BYTES / 4;

/** First and longest pause before a new attempt. */
const RETRY_FIRST_MS = 250;
const RETRY_LONGEST_MS = 10_000;

/** Close codes after which a new attempt would end in the same way. */
const FINAL_CODES = new Set([4400, 4401, 4403, 4408, 4409, 4413, 4429]);

interface Subscription {
  id: string;
  sql: string;
  /** Values of the parameters, as the server has told last; null: there are none. */
  params: Values | null;
  /** Values that were asked for and do not hold yet; null: none are. */
  wish: Values | null;
  hear: (event: SubscriptionEvent) => void;
  /** Null until the server has confirmed it on this connection. */
  channel: number | null;
  /** Behind the last row heard; null before the first confirmation. */
  position: string | null;
  /** Rows that its LIMIT leaves; null: it has none. */
  left: number | null;
  /** Bytes read since credit was last given. */
  readBytes: number;
  /** It begins with a pause, here or when the connection is there again. */
  paused: boolean;
}

export class Connection {
  readonly #surroundings: Surroundings;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #listeners = new Set<() => void>();
  readonly #encoder = new TextEncoder();
  #socket: WebSocketLike | null = null;
  #state: SocketState = { kind: "connecting" };
  #attempt = 0;
  #asked = 0;
  #cancelRetry: (() => void) | null = null;

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
    this.#connect();
  }

  get state(): SocketState {
    return this.#state;
  }

  /** Calls back on every change of the state; the answer ends that. */
  onState = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Starts a live query. Without a connection it starts when there is one. */
  subscribe(sql: string, params: Values | null, hear: (event: SubscriptionEvent) => void, paused = false): Asked {
    this.#asked += 1;
    const id = String(this.#asked);
    const subscription: Subscription = { id, sql, params, wish: null, hear, channel: null, position: null, left: null, readBytes: 0, paused };
    this.#subscriptions.set(id, subscription);
    if (this.#state.kind === "open") this.#ask(subscription);
    return {
      stop: () => {
        if (this.#subscriptions.delete(id) && this.#state.kind === "open") this.#send({ type: "unsubscribe", id });
      },
      setParams: (values) => {
        subscription.wish = { ...subscription.wish, ...values };
        if (subscription.channel !== null) this.#send({ type: "set_params", id, params: values });
      },
      steer: (how) => {
        subscription.paused = how.type !== "continue";
        if (subscription.channel !== null) this.#send({ ...how, id });
      },
    };
  }

  /** Tries at once instead of after the pause; also after the server has closed for good. */
  retryNow = (): void => {
    if (this.#state.kind !== "waiting" && this.#state.kind !== "closed") return;
    this.#cancelRetry?.();
    this.#attempt = 0;
    this.#connect();
  };

  #connect(): void {
    this.#enter({ kind: "connecting" });
    const socket = this.#surroundings.open();
    this.#socket = socket;
    socket.onopen = () => {
      this.#enter({ kind: "greeting" });
      this.#send({ type: "hello" });
    };
    socket.onmessage = (event) => this.#hear(String(event.data));
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
  }

  #lost(code: number, reason: string): void {
    if (this.#socket !== null) this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket = null;
    if (FINAL_CODES.has(code)) {
      this.#enter({ kind: "closed", code, reason });
    } else {
      this.#attempt += 1;
      const pause = Math.min(RETRY_FIRST_MS * 2 ** (this.#attempt - 1), RETRY_LONGEST_MS);
      // Spread, so that a server that comes back is not met by all its clients at once.
      const spread = pause * (0.5 + this.#surroundings.random() / 2);
      this.#cancelRetry = this.#surroundings.after(spread, () => this.#connect());
      this.#enter({ kind: "waiting", attempt: this.#attempt, reason: reason === "" ? `code ${code}` : reason });
    }
    for (const subscription of this.#subscriptions.values()) {
      subscription.channel = null;
      subscription.hear({ type: "lost" });
    }
  }

  #hear(text: string): void {
    let message: ServerMessage;
    try {
      message = readServerMessage(text);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      // What follows cannot be trusted to be whole: start again from the last position.
      this.#socket?.close(4000, error.message);
      this.#lost(4000, error.message);
      return;
    }
    switch (message.type) {
      case "welcome":
        this.#attempt = 0;
        this.#enter({ kind: "open" });
        for (const subscription of this.#subscriptions.values()) this.#ask(subscription);
        break;
      case "rows":
      case "progress":
        for (const subscription of this.#subscriptions.values()) {
          if (subscription.channel !== message.channel) continue;
          subscription.position = message.position;
          if (message.type === "rows") {
            this.#giveCredit(subscription, text);
            if (subscription.left !== null) subscription.left = Math.max(0, subscription.left - message.rows.length);
          }
          subscription.hear(message);
        }
        break;
      case "error":
        this.#failed(message);
        break;
      default:
        this.#hearOne(message);
    }
  }

  #hearOne(message: Extract<ServerMessage, { type: "subscribed" | "params" | "pace" | "gap" | "complete" }>): void {
    const subscription = this.#subscriptions.get(message.id);
    if (subscription === undefined) return; // stopped while the message was on its way
    if (message.type === "subscribed") {
      subscription.channel = message.channel;
      subscription.position ??= message.position;
      subscription.left = message.limit ?? null;
      // What was not answered before the connection was lost, or was wished before there was one.
      if (subscription.wish !== null) this.#send({ type: "set_params", id: subscription.id, params: subscription.wish });
    } else if (message.type === "params") {
      subscription.channel = message.channel;
      subscription.position = message.position;
      subscription.params = message.params;
      subscription.wish = message.error === undefined ? unanswered(subscription.wish, message.params) : null;
    } else if (message.type === "pace") {
      subscription.position = message.position;
      if (message.error !== undefined) subscription.paused = message.paused;
    } else if (message.type === "gap") {
      subscription.position = message.to;
    } else {
      this.#subscriptions.delete(message.id);
    }
    subscription.hear(message);
  }

  #failed(message: Failure): void {
    if (message.id === undefined) {
      for (const subscription of this.#subscriptions.values()) subscription.hear(message);
      return;
    }
    const subscription = this.#subscriptions.get(message.id);
    this.#subscriptions.delete(message.id);
    subscription?.hear(message);
  }

  #giveCredit(subscription: Subscription, text: string): void {
    subscription.readBytes += this.#encoder.encode(text).length;
    if (subscription.readBytes < CREDIT_STEP_BYTES) return;
    this.#send({ type: "credit", id: subscription.id, bytes: subscription.readBytes });
    subscription.readBytes = 0;
  }

  #ask(subscription: Subscription): void {
    subscription.readBytes = 0;
    const { id, sql, position, params, paused } = subscription;
    const [from, limit] = [position ?? undefined, subscription.left ?? undefined];
    this.#send({ type: "subscribe", id, sql, params: params ?? undefined, from, credit: CREDIT_BYTES, paused: paused || undefined, limit });
  }

  #send(message: ClientMessage): void {
    this.#socket?.send(JSON.stringify(message));
  }

  #enter(state: SocketState): void {
    this.#state = state;
    for (const listener of this.#listeners) listener();
  }
}

/** What is left of a wish once these values hold: of two on their way the answer to one says nothing of the other. */
function unanswered(wish: Values | null, params: Values | null): Values | null {
  const left = Object.entries(wish ?? {}).filter(([name, value]) => params?.[name] !== value);
  return left.length === 0 ? null : Object.fromEntries(left);
}

/** The browser's own surroundings: a socket to the server that the page came from. */
export function browserSurroundings(location: Location): Surroundings {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return {
    open: () => new WebSocket(`${scheme}://${location.host}/api/v1/ws`, SUBPROTOCOL) as WebSocketLike,
    after: (milliseconds, act) => {
      const timer = setTimeout(act, milliseconds);
      return () => clearTimeout(timer);
    },
    random: Math.random,
  };
}

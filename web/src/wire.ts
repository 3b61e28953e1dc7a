/** Messages of `squilla.v1.json`: their types, and a reader that trusts nothing it was not told. */

/** A value as it travels: big integers, timestamps, NaN and infinities are strings. */
export type Cell = null | boolean | number | string | Cell[] | { [name: string]: Cell };

export interface Field {
  name: string;
  /** Arrow's name of the type, such as `Int64` or `Timestamp(ns)`. */
  type: string;
  nullable: boolean;
}

/** Bytes of UTF-8, half-open. */
export interface Span {
  start: number;
  end: number;
}

/** What is wrong with a statement, where, and what to write instead. */
export interface Diagnostic {
  code: string;
  message: string;
  span?: Span | undefined;
  notes?: string[] | undefined;
  help?: string | undefined;
}

/** `u`: a running result, `f`: a final one, `d`: the row of this key is gone. */
export type Op = "u" | "f" | "d";

export interface Subscribe {
  id: string;
  sql: string;
  /** Values of its parameters. */
  params?: Record<string, Cell> | undefined;
  from?: string | undefined;
  /** Bytes of row frames that may come before more are granted. */
  credit?: number | undefined;
  /** Of a start in the past: nothing comes until a step, or until it goes on. */
  paused?: true | undefined;
  /** Rows that are wanted: of a query with LIMIT, when it comes back, those that it has not had. */
  limit?: number | undefined;
}

/** How a replay is to go on. */
export type Steering = { type: "pause" } | { type: "continue" } | { type: "step"; rows: number };

export type ClientMessage =
  | { type: "hello" }
  | ({ type: "subscribe" } & Subscribe)
  | { type: "credit"; id: string; bytes: number }
  | { type: "set_params"; id: string; params: Record<string, Cell> }
  | (Steering & { id: string })
  | { type: "unsubscribe"; id: string };

export interface Welcome {
  type: "welcome";
  limits: Record<string, number>;
  heartbeat_ms: number;
}

export interface Subscribed {
  type: "subscribed";
  id: string;
  channel: number;
  schema: Field[];
  key: string[];
  position: string;
  /** Null: no position was asked for. */
  recovered: boolean | null;
  /** Windows that start earlier may be partial; null: none is. */
  complete_from: string | null;
  shared_with: number;
  labels: string[];
  policy: string;
  query: string;
  /** It is complete after so many rows; absent: they go on. */
  limit?: number | undefined;
}

/** The values of a query's parameters, for rows behind a position. */
export interface Params {
  type: "params";
  id: string;
  channel: number;
  position: string;
  params: Record<string, Cell> | null;
  /** With other values it is another query. */
  query: string;
  /** Why they are still what they were; absent: they have changed. */
  error?: Diagnostic | undefined;
}

/** Where a replay stands that was steered. */
export interface Pace {
  type: "pace";
  id: string;
  paused: boolean;
  /** Behind the last row that was told. */
  position: string;
  /** Event time of that row; null: there was none. */
  event_time: string | null;
  /** Why it goes on as before; absent: it does as it was told. */
  error?: Diagnostic | undefined;
}

export interface Rows {
  type: "rows";
  channel: number;
  position: string;
  watermark: string | null;
  ops?: Op[] | undefined;
  rows: Cell[][];
  snapshot?: boolean | undefined;
}

export interface Gap {
  type: "gap";
  id: string;
  from: string;
  to: string;
  /** Null: nobody knows how many. */
  rows: number | null;
  reason: string;
}

export interface Progress {
  type: "progress";
  channel: number;
  watermark: string | null;
  position: string;
  lag_ms: number;
  late: number;
  dropped: number;
  completeness: number;
}

export interface Failure extends Diagnostic {
  type: "error";
  /** Absent: about the whole connection. */
  id?: string | undefined;
  retryable: boolean;
  /** All mistakes; the message itself is the first. */
  diagnostics?: Diagnostic[] | undefined;
}

export interface Complete {
  type: "complete";
  id: string;
  reason: string;
}

export type ServerMessage = Welcome | Subscribed | Params | Pace | Rows | Gap | Progress | Failure | Complete;

type Kind = "string" | "number" | "boolean" | "array" | "object" | "null" | "absent";

/** What each field may be. Fields that are not listed are ignored, so that the protocol can grow. */
const FIELDS: { [type in ServerMessage["type"]]: Record<string, Kind[]> } = {
  welcome: { limits: ["object"], heartbeat_ms: ["number"] },
  subscribed: {
    id: ["string"],
    channel: ["number"],
    schema: ["array"],
    key: ["array"],
    position: ["string"],
    recovered: ["boolean", "null"],
    complete_from: ["string", "null"],
    shared_with: ["number"],
    labels: ["array"],
    policy: ["string"],
    query: ["string"],
    limit: ["number", "absent"],
  },
  params: {
    id: ["string"],
    channel: ["number"],
    position: ["string"],
    params: ["object", "null"],
    query: ["string"],
    error: ["object", "absent"],
  },
  pace: {
    id: ["string"],
    paused: ["boolean"],
    position: ["string"],
    event_time: ["string", "null"],
    error: ["object", "absent"],
  },
  rows: {
    channel: ["number"],
    position: ["string"],
    watermark: ["string", "null"],
    ops: ["array", "absent"],
    rows: ["array"],
    snapshot: ["boolean", "absent"],
  },
  gap: { id: ["string"], from: ["string"], to: ["string"], rows: ["number", "null"], reason: ["string"] },
  progress: {
    channel: ["number"],
    watermark: ["string", "null"],
    position: ["string"],
    lag_ms: ["number"],
    late: ["number"],
    dropped: ["number"],
    completeness: ["number"],
  },
  error: {
    id: ["string", "absent"],
    code: ["string"],
    message: ["string"],
    span: ["object", "absent"],
    notes: ["array", "absent"],
    help: ["string", "absent"],
    retryable: ["boolean"],
    diagnostics: ["array", "absent"],
  },
  complete: { id: ["string"], reason: ["string"] },
};

function kindOf(value: unknown): Kind {
  if (value === undefined) return "absent";
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return typeof value as Kind;
}

/** A message that is not one: why. */
export class WireError extends Error {}

/** Reads a message of the server. Optional fields may be left out or null. */
export function readServerMessage(text: string): ServerMessage {
  let message: Record<string, unknown>;
  try {
    message = JSON.parse(text) as Record<string, unknown>;
  } catch (cause) {
    throw new WireError("a message is not JSON", { cause });
  }
  const type = message?.["type"];
  if (typeof type !== "string" || !Object.hasOwn(FIELDS, type)) {
    throw new WireError(`a message has the unknown type ${JSON.stringify(type)}`);
  }
  for (const [name, allowed] of Object.entries(FIELDS[type as ServerMessage["type"]])) {
    const kind = kindOf(message[name]);
    if (allowed.includes(kind)) continue;
    if (kind === "absent" && allowed.includes("null")) message[name] = null;
    else if (kind === "null" && allowed.includes("absent")) delete message[name];
    else throw new WireError(`"${name}" of a "${type}" message is ${kind}, not ${allowed.join(" or ")}`);
  }
  return message as unknown as ServerMessage;
}

/** The gateway's REST interface, as far as the console uses it. */

import type { Parameter, Values } from "./state/params";
import type { Cell, Diagnostic, Field } from "./wire";

/** The ledger of a job: every row that came in is in one of the other counts. */
export interface Counters {
  rows_in: number;
  passed: number;
  absorbed: number;
  filtered: number;
  sampled: number;
  late: number;
  late_idle: number;
  undecodable: number;
  without_event_time: number;
  failed: number;
  pairs_failed: number;
  dropped: number;
  before_start: number;
  forgotten: number;
  rows_out: number;
}

export interface StreamInfo {
  name: string;
  kind: string;
  labels: string[];
  columns: Field[];
  connector: string | null;
  event_time: string;
  watermark: string | null;
  rows: number;
  log_rows: number;
  log_bytes: number;
  users: string[];
  counters: Counters;
  status: string;
}

export interface JobInfo {
  id: string;
  kind: string;
  description: string;
  inputs: string[];
  stream: string | null;
  users: string[];
  watermark: string | null;
  state_bytes: number;
  counters: Counters;
  status: string;
}

export interface QueryInfo {
  id: string;
  sql: string;
  jobs: string[];
  subscriptions: number;
  rows: number;
}

export interface FunctionInfo {
  name: string;
  kind: string;
  syntax: string;
  description: string;
}

/** Where a clause stands. */
export type ClausePlace = "statement" | "select" | "from" | "group" | "end" | "with";

/** A clause or statement. */
export interface ClauseInfo {
  name: string;
  place: ClausePlace;
  syntax: string;
  description: string;
  example: string;
}

export interface ConnectorHelp {
  name: string;
  description: string;
  options: [string, string][];
}

/** What an editor completes, besides streams and their columns. */
export interface Completion {
  keywords: string[];
  functions: FunctionInfo[];
  clauses: ClauseInfo[];
  connectors: ConnectorHelp[];
  /** Of named streams: name, and what it does. */
  stream_options: [string, string][];
}

/** A record that was set aside. */
export interface Reject {
  reason: string;
  row: string;
}

/** Synthetic plays that fail more often; what is absent matches all. */
export interface Fault {
  title?: string | undefined;
  device?: string | undefined;
  country?: string | undefined;
  /** From 0 to 1. */
  failure_rate: number;
}

/** A statement as it was written, and the values of its parameters: both are subscribed to, so that they can change. */
export interface Written {
  sql: string;
  params: Values;
}

/** What is known of a script before it runs. */
export interface Checked {
  /** Spans are in its text. */
  diagnostics: Diagnostic[];
  parameters: Parameter[];
}

/** What a statement gave. */
export type StatementResult =
  | { kind: "done"; message: string }
  | { kind: "table"; columns: Field[]; rows: Cell[][] }
  /** To be subscribed to. */
  | { kind: "live"; sql: string; written?: Written | undefined }
  | { kind: "sink"; name: string };

/** Why something was refused. */
export interface Problem extends Diagnostic {
  retryable?: boolean;
  diagnostics?: Diagnostic[];
}

/** A refusal of the server, or that it cannot be reached. */
export class ApiError extends Error {
  readonly problem: Problem;
  /** What was done before the statement that was refused. */
  readonly results: StatementResult[];

  constructor(problem: Problem, results: StatementResult[] = []) {
    super(problem.message);
    this.problem = problem;
    this.results = results;
  }

  /** All mistakes, at least one. */
  get diagnostics(): Diagnostic[] {
    const { diagnostics } = this.problem;
    return diagnostics !== undefined && diagnostics.length > 0 ? diagnostics : [this.problem];
  }
}

async function call<Answer>(method: string, path: string, body?: object): Promise<Answer> {
  let response: Response;
  try {
    response = await fetch(`/api/v1/${path}`, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
    });
  } catch (error) {
    throw new ApiError({
      code: "unreachable",
      message: `the server cannot be reached: ${error instanceof Error ? error.message : String(error)}`,
      help: "is it still running? the console reconnects by itself",
    });
  }
  const answer: unknown = await response.json().catch(() => null);
  const { error, results } = (answer ?? {}) as { error?: Problem; results?: StatementResult[] };
  if (error) throw new ApiError(error, results ?? []);
  if (!response.ok) throw new ApiError({ code: `http_${response.status}`, message: `the server answered ${response.status}` });
  return answer as Answer;
}

export async function readStreams(): Promise<StreamInfo[]> {
  return (await call<{ streams: StreamInfo[] }>("GET", "streams")).streams;
}

export async function readJobs(): Promise<JobInfo[]> {
  return (await call<{ jobs: JobInfo[] }>("GET", "jobs")).jobs;
}

export async function readQueries(): Promise<QueryInfo[]> {
  return (await call<{ queries: QueryInfo[] }>("GET", "queries")).queries;
}

export async function readCompletion(): Promise<Completion> {
  return call<Completion>("GET", "completion");
}

/** The mistakes and the parameters of a script. */
export async function check(sql: string): Promise<Checked> {
  return call<Checked>("POST", "check", { sql });
}

/** Carries out a script, one statement after the other, with values for its parameters. */
export async function execute(sql: string, params: Values): Promise<StatementResult[]> {
  return (await call<{ results: StatementResult[] }>("POST", "statements", { sql, params })).results;
}

/** The last records of a stream that were set aside, oldest first. */
export async function readRejects(stream: string): Promise<Reject[]> {
  return (await call<{ rejects: Reject[] }>("GET", `streams/${encodeURIComponent(stream)}/rejects`)).rejects;
}

/** The faults of a generator. */
export async function readFaults(stream: string): Promise<Fault[]> {
  return (await call<{ faults: Fault[] }>("GET", `streams/${encodeURIComponent(stream)}/faults`)).faults;
}

/** Replaces the faults of a generator, from its next row on. */
export async function setFaults(stream: string, faults: Fault[]): Promise<Fault[]> {
  return (await call<{ faults: Fault[] }>("POST", `streams/${encodeURIComponent(stream)}/faults`, { faults })).faults;
}

/** Ends a query for all who read it. */
export async function kill(query: string): Promise<void> {
  await call("DELETE", `queries/${encodeURIComponent(query)}`);
}

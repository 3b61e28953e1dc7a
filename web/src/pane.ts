/** A pane: a text, what became of it when it was run, and its live queries. */

import { Changing } from "./frame";
import { ApiError, execute, type StatementResult } from "./rest";
import { gapCame, newResult, progressCame, type Result, rowsCame, subscribed } from "./state/result";
import { parameterNames, parameterValues } from "./state/params";
import type { Connection, SubscriptionEvent } from "./socket";
import type { Cell, Diagnostic, Field } from "./wire";

/** Live queries that one run of a script may start; more could not be looked at. */
const MOST_LIVE = 8;

/** How a live query stands. */
export type LiveState =
  | { kind: "starting" }
  | { kind: "running" }
  /** The connection is lost; the query resumes with it. */
  | { kind: "resuming" }
  | { kind: "stopped" }
  | { kind: "complete"; reason: string }
  | { kind: "failed"; problems: Diagnostic[] };

/** A live query. */
export class LiveQuery extends Changing {
  readonly sql: string;
  readonly result: Result;
  state: LiveState = { kind: "starting" };
  readonly #unsubscribe: () => void;

  constructor(sql: string, connection: Connection) {
    super();
    this.sql = sql;
    this.result = newResult(performance.now());
    this.#unsubscribe = connection.subscribe(sql, (event) => this.#hear(event));
  }

  get live(): boolean {
    return this.state.kind === "starting" || this.state.kind === "running" || this.state.kind === "resuming";
  }

  stop(): void {
    if (!this.live) return;
    this.#unsubscribe();
    this.#enter({ kind: "stopped" });
  }

  #hear(event: SubscriptionEvent): void {
    switch (event.type) {
      case "subscribed":
        subscribed(this.result, event);
        this.state = { kind: "running" };
        break;
      case "rows":
        rowsCame(this.result, event, performance.now());
        break;
      case "gap":
        gapCame(this.result, event);
        break;
      case "progress":
        progressCame(this.result, event);
        break;
      case "lost":
        this.state = { kind: "resuming" };
        break;
      case "complete":
        this.state = { kind: "complete", reason: event.reason };
        break;
      case "error":
        // One about the connection as a whole ends nothing here: the connection says how it goes on.
        if (event.id !== undefined) {
          const { diagnostics } = event;
          this.state = { kind: "failed", problems: diagnostics !== undefined && diagnostics.length > 0 ? diagnostics : [event] };
        }
        break;
    }
    this.changed();
  }

  #enter(state: LiveState): void {
    this.state = state;
    this.changed();
  }
}

/** What a statement of the script gave. */
export type Outcome =
  | { kind: "message"; text: string }
  | { kind: "table"; columns: Field[]; rows: Cell[][] }
  | { kind: "live"; query: LiveQuery };

/** The text that was run last, and what came of it. */
export interface Run {
  sql: string;
  state: "asking" | "answered";
  outcomes: Outcome[];
  problems: Diagnostic[];
}

export class Pane extends Changing {
  readonly id: number;
  sql: string;
  /** Grows when the text is replaced from outside of the editor. */
  revision = 0;
  run: Run | null = null;
  /** Mistakes that the server found while the text was typed. */
  mistakes: Diagnostic[] = [];
  /** Names of the text's parameters. */
  parameters: string[];
  /** What was typed for them; it stays while a name is away. */
  readonly values = new Map<string, string>();
  readonly #connection: Connection;

  constructor(id: number, sql: string, connection: Connection) {
    super();
    this.id = id;
    this.sql = sql;
    this.parameters = parameterNames(sql);
    this.#connection = connection;
  }

  get live(): boolean {
    return this.run?.outcomes.some((outcome) => outcome.kind === "live" && outcome.query.live) ?? false;
  }

  /** The text as the editor has it. */
  typed(sql: string): void {
    this.sql = sql;
    const names = parameterNames(sql);
    if (names.join() === this.parameters.join()) return;
    this.parameters = names;
    this.changed();
  }

  /** The value of a parameter. */
  give(name: string, value: string): void {
    this.values.set(name, value);
    this.changed();
  }

  /** Puts another text into the editor. */
  replace(sql: string): void {
    this.stop();
    this.sql = sql;
    this.parameters = parameterNames(sql);
    this.run = null;
    this.mistakes = [];
    this.revision += 1;
    this.changed();
  }

  checked(mistakes: Diagnostic[]): void {
    this.mistakes = mistakes;
    this.changed();
  }

  /** Runs the script; what ran before is stopped. Resolves when all of its statements were answered. */
  async start(): Promise<void> {
    this.stop();
    if (this.sql.trim() === "") return;
    const run: Run = { sql: this.sql, state: "asking", outcomes: [], problems: [] };
    this.run = run;
    this.changed();
    let results: StatementResult[];
    try {
      results = await execute(run.sql, parameterValues(this.parameters, this.values));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      results = error.results;
      run.problems = error.diagnostics;
    }
    if (this.run !== run) return; // stopped or run again while the answer was on its way
    run.outcomes = this.#outcomes(results);
    run.state = "answered";
    this.changed();
  }

  stop(): void {
    for (const outcome of this.run?.outcomes ?? []) {
      if (outcome.kind === "live") outcome.query.stop();
    }
    if (this.run?.state === "asking") this.run = null;
    this.changed();
  }

  #outcomes(results: StatementResult[]): Outcome[] {
    const lives = results.filter((result) => result.kind === "live");
    const outcomes: Outcome[] = [];
    if (lives.length > MOST_LIVE) {
      outcomes.push({ kind: "message", text: `only the last ${MOST_LIVE} of ${lives.length} live queries are shown` });
    }
    const shown = new Set(lives.slice(-MOST_LIVE));
    for (const result of results) {
      if (result.kind === "table") outcomes.push(result);
      else if (result.kind === "done") outcomes.push({ kind: "message", text: result.message });
      else if (result.kind === "sink") outcomes.push({ kind: "message", text: `sink "${result.name}" runs` });
      else if (shown.has(result)) outcomes.push({ kind: "live", query: this.#liveQuery(result.sql) });
    }
    return outcomes;
  }

  #liveQuery(sql: string): LiveQuery {
    const query = new LiveQuery(sql, this.#connection);
    // The pane's own buttons depend on whether its queries live.
    let live = true;
    query.onChange(() => {
      if (query.live === live) return;
      live = query.live;
      this.changed();
    });
    return query;
  }
}

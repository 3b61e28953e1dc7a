/** A pane: a text, what became of it when it was run, and its live queries. */

import { Changing } from "./frame";
import { ApiError, check, type Checked, execute, type StatementResult } from "./rest";
import type { Linked } from "./state/link";
import { gapCame, newResult, paramsCame, progressCame, type Result, rowsCame, subscribed } from "./state/result";
import { aKind, hintFor, isWrong, type Parameter, type ParameterKind, parameterNames, parameterValues, valueOf, type Values } from "./state/params";
import type { Asked, Connection, SubscriptionEvent } from "./socket";
import { hasStart } from "./state/start";
import type { Cell, Diagnostic, Field, Pace, Params, Steering } from "./wire";

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

/** A change of a live query's parameters. */
export type ParamsChange =
  | { kind: "asked"; values: Values }
  /** Rows behind the position are by these values; so many came before it. */
  | { kind: "holds"; values: Values; position: string; rows: number }
  | { kind: "refused"; problem: Diagnostic };

/** A live query. */
export class LiveQuery extends Changing {
  readonly sql: string;
  readonly result: Result;
  state: LiveState = { kind: "starting" };
  /** Values of its parameters, as the server has told last; null: it has none. */
  params: Values | null;
  /** The last change of them; null: there was none. */
  change: ParamsChange | null = null;
  /** Where it stood when it was steered last; null: it never was. */
  pace: Pace | null = null;
  readonly #asked: Asked;

  constructor(sql: string, params: Values | null, connection: Connection, paused = false) {
    super();
    this.sql = sql;
    this.params = params;
    this.result = newResult(performance.now());
    this.#asked = connection.subscribe(sql, params, (event) => this.#hear(event), paused);
  }

  /** It begins in the past, and so can be paused and stepped. */
  get replays(): boolean {
    return hasStart(this.sql) && this.result.key.length === 0;
  }

  /** Lets a replay stand, go on, or come by so many rows. */
  steer(how: Steering): void {
    if (this.live) this.#asked.steer(how);
  }

  get live(): boolean {
    return this.state.kind === "starting" || this.state.kind === "running" || this.state.kind === "resuming";
  }

  stop(): void {
    if (!this.live) return;
    this.#asked.stop();
    this.#enter({ kind: "stopped" });
  }

  /** Asks for other values of its parameters while it runs; rows go on. */
  setParams(values: Values): void {
    if (!this.live || this.params === null) return;
    this.#asked.setParams(values);
    this.change = { kind: "asked", values };
    this.changed();
  }

  #paramsCame(message: Params): void {
    const before = this.params ?? {};
    const now = message.params ?? {};
    const values = Object.fromEntries(Object.entries(now).filter(([name, value]) => before[name] !== value));
    paramsCame(this.result, message, values);
    this.params = now;
    this.change =
      message.error === undefined
        ? { kind: "holds", values, position: message.position, rows: this.result.rows }
        : { kind: "refused", problem: message.error };
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
      case "params":
        this.#paramsCame(event);
        break;
      case "pace":
        this.pace = event;
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
  /** What the server knows of them, by name. */
  known = new Map<string, Parameter>();
  /** The text of which it knows that. */
  #knownOf: string | null = null;
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

  /** The text and what was typed for its parameters, for a link. */
  get linked(): Linked {
    const values = this.parameters.flatMap((name) => {
      const text = this.values.get(name);
      return text === undefined ? [] : [[name, text] as const];
    });
    return { sql: this.sql, values: Object.fromEntries(values) };
  }

  /** What a parameter takes. */
  kindOf(name: string): ParameterKind {
    return this.known.get(name)?.kind ?? "any";
  }

  /** What was typed for a parameter. */
  give(name: string, value: string): void {
    this.values.set(name, value);
    this.changed();
  }

  /** Gives what was typed to the queries that run, as far as they take it without being run again. */
  apply(): void {
    for (const query of this.#lives()) {
      const values = this.#differing(query).filter(([name]) => this.known.get(name)?.changeable !== false);
      if (values.length > 0) query.setParams(Object.fromEntries(values));
    }
  }

  /** Parameters whose typed value a running query does not have and does not take while it runs. */
  get stale(): string[] {
    const names = this.#lives().flatMap((query) => {
      const refused = query.change?.kind === "refused";
      return this.#differing(query).filter(([name]) => refused || this.known.get(name)?.changeable === false);
    });
    return [...new Set(names.map(([name]) => name))];
  }

  /** The newest change of parameters among the queries that run. */
  get change(): ParamsChange | null {
    return this.#lives().findLast((query) => query.change !== null)?.change ?? null;
  }

  /** The last query that runs and can be stepped; null: none. */
  get replay(): LiveQuery | null {
    return this.#lives().findLast((query) => query.replays) ?? null;
  }

  #lives(): LiveQuery[] {
    return (this.run?.outcomes ?? []).flatMap((outcome) => (outcome.kind === "live" && outcome.query.live ? [outcome.query] : []));
  }

  /** What was typed and a query has otherwise. */
  #differing(query: LiveQuery): [string, Cell][] {
    return Object.entries(query.params ?? {}).flatMap(([name, had]) => {
      const value = valueOf(this.values.get(name), this.kindOf(name));
      return value === undefined || value === had ? [] : [[name, value] as [string, Cell]];
    });
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

  /** What the server says of the text. */
  checked({ diagnostics, parameters }: Checked): void {
    this.mistakes = diagnostics;
    this.#learn(parameters);
    this.changed();
  }

  /** What the server says of a text's parameters. */
  #learn(parameters: Parameter[], sql = this.sql): void {
    // An answer about an earlier text does not displace what is known of this one.
    if (sql !== this.sql && this.#knownOf === this.sql) return;
    this.known = new Map(parameters.map((parameter) => [parameter.name, parameter]));
    this.#knownOf = sql;
  }

  /** Parameters without a value, each as a mistake: what to type is known here better than at the server. */
  #missing(): Diagnostic[] {
    return this.parameters.flatMap((name) => {
      const [typed, kind] = [this.values.get(name), this.kindOf(name)];
      if (valueOf(typed, kind) !== undefined) return [];
      const wrong = isWrong(typed, kind);
      const message = wrong ? `$${name} takes ${aKind(kind)}, not "${typed}"` : `parameter $${name} has no value`;
      return [{ code: "parameter", message, help: `type ${aKind(kind)} into its field${kind !== "timestamp" && kind !== "interval" ? "" : `: ${hintFor(kind)}`}` }];
    });
  }

  /** Values are typed by what their parameters take: that must be known before they are sent. */
  async #askKinds(): Promise<void> {
    const { sql } = this; // it may be edited while the answer is on its way
    try {
      this.#learn((await check(sql)).parameters, sql);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
  }

  /** Runs the script; what ran before is stopped. Resolves when all of its statements were answered. */
  async start(paused = false): Promise<void> {
    this.stop();
    if (this.sql.trim() === "") return;
    const run: Run = { sql: this.sql, state: "asking", outcomes: [], problems: [] };
    this.run = run;
    this.changed();
    let results: StatementResult[];
    try {
      if (this.parameters.length > 0 && this.#knownOf !== run.sql) {
        await this.#askKinds();
        if (this.run !== run) return; // stopped or run again before anything was carried out
        if (this.sql !== run.sql) {
          // Fields and kinds are another text's by now: nobody asked for this mixture.
          this.run = null;
          this.changed();
          return;
        }
      }
      const missing = this.#missing();
      if (missing.length > 0) throw new ApiError({ ...missing[0]!, diagnostics: missing });
      const kinds = new Map([...this.known.values()].map(({ name, kind }) => [name, kind]));
      results = await execute(run.sql, parameterValues(this.parameters, this.values, kinds));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      results = error.results;
      run.problems = error.diagnostics;
    }
    if (this.run !== run) return; // stopped or run again while the answer was on its way
    run.outcomes = this.#outcomes(results, paused);
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

  #outcomes(results: StatementResult[], paused: boolean): Outcome[] {
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
      else if (shown.has(result)) outcomes.push({ kind: "live", query: this.#liveQuery(result, paused) });
    }
    return outcomes;
  }

  #liveQuery({ sql, written }: { sql: string; written?: { sql: string; params: Values } | undefined }, paused: boolean): LiveQuery {
    const text = written?.sql ?? sql;
    const query = new LiveQuery(text, written?.params ?? null, this.#connection, paused && hasStart(text));
    // The pane's own buttons and words depend on how its queries stand, its fields on what became of their values.
    let [state, change]: [LiveState["kind"], ParamsChange | null] = [query.state.kind, null];
    query.onChange(() => {
      if (query.state.kind === state && query.change === change) return;
      [state, change] = [query.state.kind, query.change];
      this.changed();
    });
    return query;
  }
}

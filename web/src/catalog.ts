/** What the server has and does, read again every two seconds while the page is looked at. */

import { Changing } from "./frame";
import {
  ApiError, type Completion, type JobInfo, type QueryInfo, readCompletion, readJobs, readQueries, readStreams,
  type StreamInfo,
} from "./rest";
import { type Counted, rates } from "./state/jobs";

/** Pause between two readings. */
const PAUSE_MS = 2000;

export class Catalog extends Changing {
  streams: StreamInfo[] = [];
  jobs: JobInfo[] = [];
  queries: QueryInfo[] = [];
  /** Why the last reading failed; null: it did not. */
  problem: string | null = null;
  /** Rows a second into a stream (`stream name`) or a job (`job id`). */
  rates = new Map<string, number>();
  #counted: Counted | null = null;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #reading = false;
  #completion: Promise<Completion> | null = null;

  /** Reads the streams alone: all that is needed to begin. */
  async readStreams(): Promise<void> {
    try {
      this.streams = await readStreams();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.problem = error.message;
    }
    this.changed();
  }

  /** What can be completed and explained: read once, the first time that somebody asks; nothing while the server is away. */
  completion = async (): Promise<Completion> => {
    try {
      return await (this.#completion ??= readCompletion());
    } catch (error) {
      this.#completion = null;
      if (!(error instanceof ApiError)) throw error;
      return { keywords: [], functions: [], clauses: [], connectors: [], stream_options: [] };
    }
  };

  /** Reads once. */
  readNow = async (): Promise<void> => {
    if (this.#reading) return;
    this.#reading = true;
    try {
      const [streams, jobs, queries] = await Promise.all([readStreams(), readJobs(), readQueries()]);
      await this.completion();
      this.streams = streams;
      this.jobs = jobs;
      this.queries = queries;
      this.problem = null;
      this.#count();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.problem = error.message;
    } finally {
      this.#reading = false;
      this.changed();
    }
  };

  /** Reads again and again; not while nobody looks. */
  start(): void {
    const again = async () => {
      if (!document.hidden) await this.readNow();
      this.#timer = setTimeout(again, PAUSE_MS);
    };
    this.#timer = setTimeout(again, PAUSE_MS);
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #count(): void {
    const counts = new Map<string, number>();
    for (const stream of this.streams) counts.set(`stream ${stream.name}`, stream.rows);
    for (const job of this.jobs) counts.set(`job ${job.id}`, job.counters.rows_in);
    const now = { at: performance.now(), counts };
    this.rates = rates(this.#counted, now);
    this.#counted = now;
  }
}

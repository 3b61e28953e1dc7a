/** Where a query's rows went, job by job, with the way to look at those that were set aside. */

import type { Catalog } from "../catalog";
import type { JobInfo, StreamInfo } from "../rest";
import { choices, type Fate, hasLate, hasSamples, lateKeptBy, lateReasonsOf, lateRowsOf, losses } from "../state/jobs";
import { count } from "../state/quantity";
import { useChanges } from "./changes";
import { Rejects } from "./rejects";

interface Props {
  catalog: Catalog;
  /** The query's id. */
  query: string;
  /** Opens a text in a pane of its own and runs it. */
  onOpen: (sql: string) => void;
}

export function Ledger({ catalog, query, onOpen }: Props) {
  useChanges(catalog);
  const ids = catalog.queries.find((known) => known.id === query)?.jobs ?? [];
  const jobs = catalog.jobs.filter((job) => ids.includes(job.id));
  if (jobs.length === 0) return null;
  const lost = total(jobs, losses);
  const left = total(jobs, choices);
  return (
    <details className="ledger">
      <summary>
        where rows went
        {[...lost, ...left].map(({ counter, name, why, rows }) => (
          <span key={counter} className={lost.some((fate) => fate.counter === counter) ? "fact warn" : "fact"} title={`${why}; since the jobs began`} data-fact={name}>
            {name} <b>{count(rows)}</b>
          </span>
        ))}
        {lost.length === 0 && <span className="fact">none lost</span>}
      </summary>
      <ul>
        {jobs.map((job) => (
          <Step key={job.id} job={job} jobs={catalog.jobs} stream={catalog.streams.find((stream) => stream.name === job.stream)} onOpen={onOpen} />
        ))}
      </ul>
      <small>Counted since each job began, for all who share it.</small>
    </details>
  );
}

function Step({ job, jobs, stream, onOpen }: { job: JobInfo; jobs: JobInfo[]; stream: StreamInfo | undefined; onOpen: (sql: string) => void }) {
  const { counters } = job;
  const lost = losses(counters);
  const [keptBy] = lateKeptBy(job, jobs);
  return (
    <li>
      <span className="job-kind">{job.kind}</span> <span className="job-text" title={job.description}>{stream?.name ?? job.description}</span>
      <div className="counters">
        <span className="fact">in <b>{count(counters.rows_in)}</b></span>
        <span className="fact">out <b>{count(counters.rows_out)}</b></span>
        {[...lost, ...choices(counters)].map(({ counter, name, why, rows }) => (
          <span key={counter} className={lost.some((fate) => fate.counter === counter) ? "fact warn" : "fact"} title={why}>
            {name} <b>{count(rows)}</b>
          </span>
        ))}
      </div>
      {hasLate(counters) &&
        (keptBy !== undefined ? (
          <div className="looks">
            <button onClick={() => onOpen(lateRowsOf(keptBy))}>Read late rows</button>
            <button onClick={() => onOpen(lateReasonsOf(keptBy))}>by reason</button>
          </div>
        ) : (
          <small>Late rows are kept of named streams: CREATE STREAM name AS this query, then FROM LATE(name).</small>
        ))}
      {hasSamples(counters) && <Rejects of={stream?.name ?? job.id} />}
    </li>
  );
}

/** What became of rows over all jobs. */
function total(jobs: JobInfo[], of: (counters: JobInfo["counters"]) => Fate[]): Fate[] {
  const sums = new Map<string, Fate>();
  for (const fate of jobs.flatMap((job) => of(job.counters))) {
    const sum = sums.get(fate.counter);
    sums.set(fate.counter, { ...fate, rows: fate.rows + (sum?.rows ?? 0) });
  }
  return [...sums.values()];
}

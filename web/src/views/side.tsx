/** Examples, streams, jobs and queries, and who uses them. */

import type { Catalog } from "../catalog";
import { type Example, offered } from "../examples";
import { kill, type QueryInfo } from "../rest";
import { type JobLine, jobLines, lateFor } from "../state/jobs";
import { bytes, count } from "../state/quantity";
import { useChanges } from "./changes";
import { Lost, Rate } from "./facts";
import { Stream } from "./stream";

interface Props {
  catalog: Catalog;
  onExample: (example: Example) => void;
  /** Opens a text in a pane of its own and runs it. */
  onOpen: (sql: string) => void;
}

export function Side({ catalog, onExample, onOpen }: Props) {
  useChanges(catalog);
  const names = catalog.streams.map((stream) => stream.name);
  return (
    <nav className="side" aria-label="Server">
      <details open>
        <summary>Examples</summary>
        <ul className="examples">
          {offered(names).map((example) => (
            <li key={example.title}>
              <button className="link" onClick={() => onExample(example)}>{example.title}</button>
              <small>{example.about}</small>
            </li>
          ))}
        </ul>
      </details>
      <details open>
        <summary>Streams <Amount of={catalog.streams} /></summary>
        <ul>
          {catalog.streams.map((stream) => (
            <Stream key={stream.name} stream={stream} rate={catalog.rates.get(`stream ${stream.name}`)} late={lateFor(stream.name, catalog.jobs)} onOpen={onOpen} />
          ))}
        </ul>
      </details>
      <details open>
        <summary>Jobs <Amount of={catalog.jobs} /></summary>
        <ul className="jobs">
          {jobLines(catalog.jobs).map((line, at) => (
            <Job key={`${line.job.id} ${at}`} line={line} rate={catalog.rates.get(`job ${line.job.id}`)} />
          ))}
        </ul>
      </details>
      <details open>
        <summary>Queries <Amount of={catalog.queries} /></summary>
        <ul>
          {catalog.queries.map((query) => (
            <Query key={query.id} query={query} onKill={() => void kill(query.id).catch(() => undefined).then(catalog.readNow)} onOpen={onOpen} />
          ))}
        </ul>
      </details>
    </nav>
  );
}

function Amount({ of: list }: { of: unknown[] }) {
  return <span className="amount">{list.length}</span>;
}

function Job({ line: { job, depth, again }, rate }: { line: JobLine; rate: number | undefined }) {
  const { counters } = job;
  return (
    <li style={{ paddingLeft: `${depth * 14}px` }} className={depth > 0 ? "below" : undefined}>
      <div className="line" title={job.description}>
        <span className="job-kind">{job.kind}</span>
        <span className="job-text">{job.description}</span>
        {job.users.length > 1 && <span className="badge" title={`used by ${job.users.join(", ")}`}>×{job.users.length}</span>}
        <Rate rate={rate} />
      </div>
      {again ? (
        <small>reads this too; see above</small>
      ) : (
        <>
          <small>
            {count(counters.rows_in)} in · {count(counters.rows_out)} out
            {job.state_bytes > 0 && ` · state ${bytes(job.state_bytes)}`}
            {job.status !== "running" && ` · ${job.status}`}
          </small>
          <Lost counters={counters} />
        </>
      )}
    </li>
  );
}

function Query({ query, onKill, onOpen }: { query: QueryInfo; onKill: () => void; onOpen: (sql: string) => void }) {
  return (
    <li>
      <div className="line">
        <button className="link sql" onClick={() => onOpen(query.sql)} title={`${query.sql}\n\nopens it beside the others`}>{query.sql.replace(/\s+/g, " ")}</button>
        <button className="quiet" onClick={onKill} aria-label={`Kill query ${query.id}`} title="end it for all who read it">kill</button>
      </div>
      <small>{query.id} · {query.subscriptions} {query.subscriptions === 1 ? "reader" : "readers"} · {count(query.rows)} rows</small>
    </li>
  );
}

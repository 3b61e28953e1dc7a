/** Examples, streams, jobs and queries, and who uses them. */

import type { Catalog } from "../catalog";
import { type Example, offered } from "../examples";
import { kill, type JobInfo, type QueryInfo, type StreamInfo } from "../rest";
import { type JobLine, jobLines, losses } from "../state/jobs";
import { bytes, count, readable } from "../state/quantity";
import { useChanges } from "./changes";

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
            <Stream key={stream.name} stream={stream} rate={catalog.rates.get(`stream ${stream.name}`)} onOpen={onOpen} />
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

function Rate({ rate }: { rate: number | undefined }) {
  return rate === undefined ? null : <span className="rate">{count(rate)}/s</span>;
}

function Users({ users }: { users: string[] }) {
  if (users.length === 0) return null;
  return <small title={users.join(", ")}>used by {users.slice(0, 4).join(", ")}{users.length > 4 ? ` and ${users.length - 4} more` : ""}</small>;
}

function Lost({ counters }: { counters: JobInfo["counters"] }) {
  const lost = losses(counters);
  return lost.length === 0 ? null : <small className="warn">{lost.map(([name, rows]) => `${count(rows)} ${name}`).join(" · ")}</small>;
}

function Stream({ stream, rate, onOpen }: { stream: StreamInfo; rate: number | undefined; onOpen: (sql: string) => void }) {
  const name = /^[a-z_][a-z0-9_]*$/.test(stream.name) ? stream.name : `"${stream.name.replaceAll('"', '""')}"`;
  return (
    <li>
      <div className="line">
        <button className="link" onClick={() => onOpen(`SELECT * FROM ${name}`)} title="watch its rows">{stream.name}</button>
        <span className="kind">{stream.connector ?? stream.kind}</span>
        <Rate rate={rate} />
      </div>
      {stream.labels.map((label) => (
        <small key={label} className="warn">{label}</small>
      ))}
      {stream.status !== "running" && <small>{stream.status}</small>}
      <Lost counters={stream.counters} />
      <Users users={stream.users} />
      <details className="more">
        <summary>{stream.columns.length} columns, {count(stream.rows)} rows</summary>
        <table>
          <tbody>
            {stream.columns.map((column) => (
              <tr key={column.name}>
                <th scope="row">{column.name}</th>
                <td>{column.type}</td>
              </tr>
            ))}
          </tbody>
        </table>
        <small>event time: {stream.event_time}</small>
        {stream.watermark !== null && <small>watermark {readable(stream.watermark)}</small>}
        <small>kept: {count(stream.log_rows)} rows, {bytes(stream.log_bytes)}</small>
      </details>
    </li>
  );
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

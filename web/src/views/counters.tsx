/** What a reader must know about the rows: how many, how late, how whole. */

import type { ReactNode } from "react";
import type { LiveQuery } from "../pane";
import { count, duration, readable } from "../state/quantity";
import { missingRows, rowsPerSecond } from "../state/result";

export function Counters({ query }: { query: LiveQuery }) {
  const { result } = query;
  const { progress } = result;
  const whole = progress === null ? 1 : progress.completeness;
  return (
    <div className="counters" role="group" aria-label="Counters">
      {result.labels.map((label) => (
        <span key={label} className="badge warn" title="says what the source of these rows is">{label}</span>
      ))}
      <Fact name="rows">{count(result.rows)}</Fact>
      {query.live && <Fact name="rows/s">{count(rowsPerSecond(result, performance.now()))}</Fact>}
      <Fact name="gaps" warn={result.gaps > 0} title="rows that this view did not get">
        {result.gaps === 0 ? "0" : `${result.gaps} · ${missingRows(result)}`}
      </Fact>
      <Fact name="late" warn={(progress?.late ?? 0) > 0} title="rows too late for all their windows, since the jobs began">
        {count(progress?.late ?? 0)}
      </Fact>
      <Fact name="dropped" warn={(progress?.dropped ?? 0) > 0} title="rows lost on the way, undecodable, without event time, or failed">
        {count(progress?.dropped ?? 0)}
      </Fact>
      {whole < 1 && <Fact name="complete" warn title="share of the rows that came">{(whole * 100).toFixed(2)} %</Fact>}
      {result.partialRows > 0 && <Fact name="partial" title="rows of windows that began before the query did (◐)">{count(result.partialRows)}</Fact>}
      {progress !== null && <Fact name="lag" title="now, less the arrival of the last row that was read">{duration(progress.lag_ms)}</Fact>}
      {result.watermark !== null && <Fact name="watermark" title="no earlier event is expected">{readable(result.watermark)}</Fact>}
      {result.firstRowAt !== null && <Fact name="first row" title="from asking to the first row">{duration(result.firstRowAt - result.askedAt)}</Fact>}
      {result.sharedWith > 0 && <Fact name="shared with" title="other users of this query's jobs when it began">{result.sharedWith}</Fact>}
    </div>
  );
}

function Fact({ name, title, warn = false, children }: { name: string; title?: string; warn?: boolean; children: ReactNode }) {
  return (
    <span className={warn ? "fact warn" : "fact"} title={title} data-fact={name}>
      {name} <b>{children}</b>
    </span>
  );
}


/** Queries worth a click. Each is offered when the streams that it reads are there. */

export interface Example {
  title: string;
  /** What it shows, in a line. */
  about: string;
  /** Streams that it reads. */
  needs: string[];
  /** One text a pane. */
  queries: string[];
}

const PLAYS_BY_DEVICE = `-- Plays a second by device. Running results: the open window is told as it fills.
SELECT window_start, device, count(*) AS plays
FROM plays
GROUP BY device, tumble('1s')
EMIT EVERY INTERVAL '250 ms'`;

const HOST_CPU = `-- How busy each CPU of this machine is, averaged over a sliding ten seconds.
SELECT window_start, cpu, avg(usage_percent) AS usage_percent
FROM host_cpu
GROUP BY cpu, hop('2s', '10s')
EMIT EVERY INTERVAL '1 second'`;

const FLIGHTS_PAIR = [
  `-- A named stream: other queries read its output. Runs once, however many read it.
CREATE STREAM IF NOT EXISTS departures AS
SELECT window_start, origin, count(*) AS flights, avg(dep_delay) AS delay_minutes
FROM flights
WHERE event = 'departed'
GROUP BY origin, tumble('15m');

SELECT * FROM departures`,
  `-- Chained: reads what the query beside it makes.
SELECT window_start, origin, max(delay_minutes) AS worst_delay, sum(flights) AS flights
FROM departures
GROUP BY origin, hop('30m', '2h')`,
];

/** In the order in which they are offered; the first that can run is run at once. */
export const EXAMPLES: Example[] = [
  {
    title: "Plays by device",
    about: "a second's plays, told while the second still runs",
    needs: ["plays"],
    queries: [PLAYS_BY_DEVICE],
  },
  {
    title: "Do plays fail in Brazil?",
    about: "failures by device, over a sliding window; inject a fault and watch",
    needs: ["plays"],
    queries: [
      `-- Do plays fail on a device in Brazil? Add title to find out of which title.
-- Let them: open the columns of plays at the left, and inject a fault.
SELECT window_start, device,
       100.0 * count(*) FILTER (WHERE outcome = 'fail') / count(*) AS failed_percent,
       count(*) AS plays
FROM plays
WHERE country = 'BR'
GROUP BY device, hop('1s', '10s')
EMIT EVERY INTERVAL '1 second'`,
    ],
  },
  {
    title: "This machine's CPUs",
    about: "sliding averages, truly live",
    needs: ["host_cpu"],
    queries: [HOST_CPU],
  },
  {
    title: "Flights, chained, beside this machine",
    about: "a named stream, a query that reads it, and a live one, side by side",
    needs: ["flights", "host_cpu"],
    queries: [...FLIGHTS_PAIR, HOST_CPU],
  },
  {
    title: "Late departures",
    about: "events as they come: a filter, no window",
    needs: ["flights"],
    queries: [
      `-- Departures more than an hour late, as they are reported.
SELECT ts, carrier, flight, origin, dest, dep_delay
FROM flights
WHERE event = 'departed' AND dep_delay > 60`,
    ],
  },
  {
    title: "Busiest processes",
    about: "this machine's processes that use a CPU now",
    needs: ["host_process"],
    queries: [
      `SELECT window_start, name, max(cpu_percent) AS cpu_percent, max(memory_bytes) AS memory_bytes
FROM host_process
GROUP BY name, tumble('2s')
HAVING max(cpu_percent) > 1`,
    ],
  },
  {
    title: "What runs and what is shared",
    about: "jobs, their users and their counters",
    needs: [],
    queries: ["SHOW JOBS"],
  },
];

/** Shown when a server has no streams yet. */
export const FIRST_STEPS = `-- No streams yet. This one takes what is posted to it:
CREATE SOURCE events (ts TIMESTAMP, kind VARCHAR, amount DOUBLE) WITH (connector = 'http');
SELECT * FROM events;
-- curl -d '{"ts":"2026-01-01T00:00:00Z","kind":"a","amount":1}' ${typeof location === "undefined" ? "" : location.origin}/api/v1/streams/events/events`;

/** Examples whose streams are there. */
export function offered(streams: string[]): Example[] {
  return EXAMPLES.filter((example) => example.needs.every((name) => streams.includes(name)));
}

// The small console: one query at a time over the gateway's WebSocket protocol, without any dependency.

/** Rows shown; older ones go. */
const SHOWN_ROWS = 500;
/** Bytes of rows that may be on their way, so that a slow page does not pile them up. */
const CREDIT_BYTES = 4 * 1024 * 1024;
/** Pause before the list of streams is read again. */
const STREAMS_EVERY_MS = 2000;
/** First and longest pause before a new connection is tried. */
const RETRY_MS = [250, 8000];
/** Close codes after which a new connection would end in the same way. */
const FINAL_CODES = new Set([4400, 4401, 4403, 4408, 4409, 4413, 4429]);

const at = (id) => document.getElementById(id);
const [sql, run, stop, state, labels, messages, counters, table] =
  ["sql", "run", "stop", "state", "labels", "messages", "counters", "rows"].map(at);

let socket = null; // open, and greeted by the server
let retry = RETRY_MS[0];
let asked = 0; // number of the latest subscription, so that frames of older ones are ignored
let query = null; // the live query, if one runs

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function tell(text, className) {
  messages.append(element("div", text, className));
}

function show(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Text of an error or a diagnostic with the line that it is about. */
function explain(problem, text) {
  let told = problem.message;
  if (problem.span) {
    const before = new TextDecoder().decode(new TextEncoder().encode(text).slice(0, problem.span.start));
    const lines = before.split("\n");
    told = `line ${lines.length}, column ${[...lines.at(-1)].length + 1}: ${told}`;
  }
  for (const note of problem.notes ?? []) told += `\n  note: ${note}`;
  return problem.help ? `${told}\n  help: ${problem.help}` : told;
}

function tellProblems(error, text) {
  const problems = error.diagnostics?.length ? error.diagnostics : [error];
  for (const problem of problems) tell(explain(problem, text), "error");
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const made = new WebSocket(`${scheme}://${location.host}/api/v1/ws`, "squilla.v1.json");
  state.textContent = "connecting";
  made.onopen = () => made.send(JSON.stringify({ type: "hello" }));
  made.onmessage = (event) => receive(made, JSON.parse(event.data), event.data);
  made.onclose = (event) => {
    socket = null;
    if (FINAL_CODES.has(event.code)) {
      state.textContent = `closed by the server (${event.code} ${event.reason})`;
      return;
    }
    state.textContent = "connection lost, trying again";
    setTimeout(connect, retry);
    retry = Math.min(retry * 2, RETRY_MS[1]);
  };
}

function receive(from, message, text) {
  if (message.type === "welcome") {
    socket = from;
    retry = RETRY_MS[0];
    state.textContent = "connected";
    if (query) subscribe();
    return;
  }
  if (!query) return;
  const ours = message.id === query.id || (message.channel !== undefined && message.channel === query.channel);
  if (!ours) return;
  const { id } = query;
  handlers[message.type]?.(message);
  if (message.type !== "rows") return;
  from.send(JSON.stringify({ type: "credit", id, bytes: new TextEncoder().encode(text).length }));
}

/** Why a query is complete. */
const COMPLETE = { ended: "all of its input was read", limit: "as many rows came as LIMIT asks for" };

const handlers = {
  subscribed(message) {
    query.channel = message.channel;
    query.schema = message.schema;
    query.key = message.key.map((name) => message.schema.findIndex((field) => field.name === name));
    query.position ??= message.position;
    query.left = message.limit;
    labels.textContent = (message.labels ?? []).join(" · ");
    state.textContent = "running";
    head(table, message.schema);
  },
  rows(message) {
    query.position = message.position;
    query.rows += message.rows.length;
    if (query.left !== undefined) query.left = Math.max(0, query.left - message.rows.length);
    // Of appended rows only those that stay in view are worth drawing.
    const from = message.ops ? 0 : Math.max(0, message.rows.length - SHOWN_ROWS);
    for (let index = from; index < message.rows.length; index += 1) put(message.rows[index], message.ops?.[index]);
    refresh();
  },
  gap(message) {
    query.position = message.to;
    query.lost += message.rows ?? 0;
    const cell = element("td", `gap: ${message.rows ?? "an unknown number of"} rows missing (${message.reason})`);
    cell.colSpan = query.schema?.length ?? 1;
    const line = element("tr", undefined, "gap");
    line.append(cell);
    append(line);
    refresh();
  },
  progress(message) {
    query.progress = message;
    query.position = message.position;
    refresh();
  },
  complete(message) {
    end(message.reason ? `complete: ${COMPLETE[message.reason] ?? message.reason}` : "complete");
  },
  error(message) {
    tellProblems(message, query.sql);
    end("failed");
  },
};

/** Adds a row, or puts it in the place of the one with its key. */
function put(row, op) {
  const key = query.key.length || op ? JSON.stringify(query.key.map((index) => row[index])) : null;
  const old = key === null ? undefined : query.byKey.get(key);
  if (op === "d") {
    old?.remove();
    query.byKey.delete(key);
    return;
  }
  const line = element("tr", undefined, op === "u" ? "running" : "");
  row.forEach((value) => line.append(element("td", show(value), typeof value === "number" ? "number" : "")));
  line.dataset.key = key ?? "";
  if (key !== null) query.byKey.set(key, line);
  if (old) old.replaceWith(line);
  else append(line);
}

function append(line) {
  const body = table.tBodies[0] ?? table.createTBody();
  body.prepend(line);
  while (body.rows.length > SHOWN_ROWS) {
    query?.byKey.delete(body.lastChild.dataset.key);
    body.lastChild.remove();
  }
}

function head(target, columns) {
  if (target.tHead) return;
  const line = element("tr");
  for (const column of columns) {
    const cell = element("th", column.name);
    cell.title = column.type;
    cell.scope = "col";
    line.append(cell);
  }
  target.createTHead().append(line);
}

function refresh() {
  const { rows, lost, progress } = query;
  const facts = [["rows", rows], ["rows missing", lost, lost > 0]];
  if (progress) {
    facts.push(["late", progress.late, progress.late > 0], ["dropped", progress.dropped, progress.dropped > 0]);
    facts.push(["lag", `${progress.lag_ms} ms`], ["watermark", progress.watermark ?? "none yet"]);
  }
  counters.replaceChildren(...facts.map(([name, value, warn]) => {
    const fact = element("div", undefined, warn ? "some" : "");
    fact.append(element("dt", name), element("dd", String(value)));
    return fact;
  }));
}

function subscribe() {
  if (!socket) return;
  query.id = `q${++asked}`;
  // What is not known yet is left out.
  const { id, sql, position, left } = query;
  socket.send(JSON.stringify({ type: "subscribe", id, sql, credit: CREDIT_BYTES, from: position, limit: left }));
}

function end(how) {
  query = null;
  stop.disabled = true;
  state.textContent = how;
}

function halt() {
  if (!query) return;
  socket?.send(JSON.stringify({ type: "unsubscribe", id: query.id }));
  end("stopped");
}

async function start() {
  halt();
  messages.replaceChildren();
  counters.replaceChildren();
  table.replaceChildren();
  labels.textContent = "";
  const text = sql.value;
  let answer;
  try {
    const response = await fetch("/api/v1/statements", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ sql: text }),
    });
    answer = await response.json();
  } catch (error) {
    tell(`the server cannot be reached: ${error.message}`, "error");
    return;
  }
  for (const result of answer.results ?? []) answered(result);
  if (answer.error) tellProblems(answer.error, text);
  readStreams();
}

function answered(result) {
  if (result.kind === "table") {
    table.replaceChildren();
    head(table, result.columns);
    const body = table.createTBody();
    for (const row of result.rows) {
      const line = element("tr");
      row.forEach((value) => line.append(element("td", show(value))));
      body.append(line);
    }
  } else if (result.kind === "live") {
    halt();
    table.replaceChildren();
    query = { sql: result.sql, rows: 0, lost: 0, byKey: new Map(), key: [] };
    stop.disabled = false;
    state.textContent = "starting";
    subscribe();
  } else {
    tell(result.message ?? `${result.kind} ${result.name ?? ""}`);
  }
}

async function readStreams() {
  let streams;
  try {
    streams = (await (await fetch("/api/v1/streams")).json()).streams;
  } catch {
    return; // the state of the socket tells that the server is away
  }
  at("streams").replaceChildren(...streams.map((stream) => {
    const item = element("li");
    const name = element("button", stream.name);
    name.onclick = () => {
      sql.value = `SELECT * FROM ${stream.name}`;
      start();
    };
    const users = stream.users.length ? ` · read by ${stream.users.join(", ")}` : "";
    item.append(name, element("small", `${stream.rows} rows${users}`));
    for (const label of stream.labels) item.append(element("small", label));
    return item;
  }));
}

run.onclick = start;
stop.onclick = halt;
sql.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    start();
  }
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape") halt();
});
sql.value = "SHOW STREAMS";
connect();
readStreams();
setInterval(readStreams, STREAMS_EVERY_MS);

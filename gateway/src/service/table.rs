//! What there is, as tables: `SHOW`, `DESCRIBE`.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use squilla_engine::{Durability, EventTime, JobInfo, Loss, QueryInfo, Recovery, StreamInfo};
use squilla_query::{Describe, Diagnostic, RelationKind, Show, TimeAttribute, tells_arrival};
use squilla_sources::encode::json::write_rows_array;

use super::{Refusal, Service, redact};
use crate::catalog::{Body, Definition, StoredKind};
use crate::server::moment;

impl Service {
    /// `SHOW`.
    pub(super) fn show(&self, show: Show) -> RecordBatch {
        match show {
            Show::Streams => self.streams_table(&[StoredKind::Source, StoredKind::Stream], false),
            Show::Sources => self.streams_table(&[StoredKind::Source], false),
            Show::Tables => self.streams_table(&[StoredKind::Source], true),
            Show::Jobs => jobs(&self.jobs()),
            Show::Queries => queries(&self.queries()),
            Show::Sinks => self.sinks_table(),
            Show::Views => self.views_table(),
            Show::Losses => losses(&self.losses()),
        }
    }

    /// Sources and streams that do not run, and why: their columns are not known, or they could not be started again.
    pub(crate) fn all_absent(&self) -> Vec<(String, String)> {
        let names = self.names();
        let readable = |definition: &&Arc<Definition>| {
            is_absent(definition) && matches!(definition.kind(), StoredKind::Source | StoredKind::Stream)
        };
        let absent = names.definitions().filter(readable);
        absent.map(|definition| (definition.name.clone(), status_of_absent(definition))).collect()
    }

    /// Why a source or stream does not run; `None`: it does, or there is none of that name.
    pub(crate) fn absent(&self, name: &str) -> Option<String> {
        let names = self.names();
        names.get(name).filter(|definition| is_absent(definition)).map(|definition| status_of_absent(definition))
    }

    fn streams_table(&self, kinds: &[StoredKind], tables: bool) -> RecordBatch {
        let mut infos = self.streams();
        let names = self.names();
        let word = |name: &str, kind: &'static str| {
            if names.get(name).is_some_and(|definition| definition.key().is_some()) { "table" } else { kind }
        };
        infos.retain(|info| kinds.iter().any(|kind| kind.word() == info.kind));
        infos.retain(|info| !tables || word(&info.name, info.kind) == "table");
        let absent = |definition: &&Arc<Definition>| {
            kinds.contains(&definition.kind()) && is_absent(definition) && (!tables || definition.key().is_some())
        };
        let absent: Vec<&Arc<Definition>> = names.definitions().filter(absent).collect();
        let text = |of_info: &dyn Fn(&StreamInfo) -> String, of_absent: &dyn Fn(&Definition) -> String| {
            let values = infos.iter().map(of_info).chain(absent.iter().map(|definition| of_absent(definition)));
            Arc::new(StringArray::from_iter_values(values)) as ArrayRef
        };
        let number = |of_info: &dyn Fn(&StreamInfo) -> u64| {
            let values = infos.iter().map(of_info).chain(absent.iter().map(|_| 0));
            Arc::new(UInt64Array::from_iter_values(values)) as ArrayRef
        };
        let watermarks = infos.iter().map(|info| info.watermark).chain(absent.iter().map(|_| None));
        table(vec![
            ("name", text(&|info| info.name.clone(), &|definition| definition.name.clone())),
            (
                "kind",
                text(&|info| word(&info.name, info.kind).to_owned(), &|definition| {
                    word(&definition.name, definition.kind().word()).to_owned()
                }),
            ),
            ("status", text(&|info| info.status.clone(), &status_of_absent)),
            ("connector", text(&|info| info.connector.unwrap_or_default().to_owned(), &connector_of_absent)),
            ("rows", number(&|info| info.rows)),
            ("late", number(&|info| info.counters.late + info.counters.late_idle)),
            ("rejected", number(&|info| rejected(info))),
            ("watermark", moments(watermarks)),
            ("event_time", text(&|info| info.event_time.clone(), &|_| String::new())),
            ("users", text(&|info| info.users.join(", "), &|_| String::new())),
            ("labels", text(&|info| info.labels.join(", "), &|_| String::new())),
            ("recovery", text(&|info| recovery(info).to_owned(), &|_| String::new())),
            ("because", text(&|info| info.live_because.clone().unwrap_or_default(), &|_| String::new())),
        ])
    }

    fn sinks_table(&self) -> RecordBatch {
        let names = self.names();
        let sinks: Vec<_> = names.definitions().filter(|definition| definition.kind() == StoredKind::Sink).collect();
        let status = |definition: &Definition| match &definition.body {
            Body::Broken { reason, .. } => (format!("broken: {reason}"), None),
            _ => match self.sinks.outcome(&definition.name) {
                Some(None) => ("running".to_owned(), None),
                Some(Some(Ok(summary))) => ("finished".to_owned(), Some(summary.rows)),
                Some(Some(Err(error))) => (format!("failed: {error}"), None),
                None => ("not fed".to_owned(), None),
            },
        };
        let states: Vec<_> = sinks.iter().map(|definition| status(definition)).collect();
        let reads =
            |definition: &Definition| names.feed(&definition.name).map_or(String::new(), |feed| feed.reads.join(", "));
        let options = |definition: &Definition| match &definition.body {
            Body::Sink(_, create) => {
                let shown = create.options.iter().map(|option| format!("{} = {}", option.name, redact::shown(option)));
                shown.collect::<Vec<_>>().join(", ")
            }
            _ => String::new(),
        };
        table(vec![
            ("name", strings(sinks.iter().map(|definition| definition.name.clone()))),
            ("status", strings(states.iter().map(|(status, _)| status.clone()))),
            ("rows", Arc::new(states.iter().map(|(_, rows)| *rows).collect::<UInt64Array>())),
            ("reads", strings(sinks.iter().map(|definition| reads(definition)))),
            ("options", strings(sinks.iter().map(|definition| options(definition)))),
        ])
    }

    fn views_table(&self) -> RecordBatch {
        let names = self.names();
        let text = |definition: &Definition| match &definition.body {
            Body::Readable(relation) => match &relation.kind {
                RelationKind::View { sql } => Some(sql.clone()),
                _ => None,
            },
            Body::Broken { kind: StoredKind::View, reason } => Some(format!("broken: {reason}")),
            _ => None,
        };
        let views: Vec<_> = names.definitions().filter_map(|it| Some((it.name.clone(), text(it)?))).collect();
        table(vec![
            ("name", strings(views.iter().map(|(name, _)| name.clone()))),
            ("query", strings(views.iter().map(|(_, query)| query.clone()))),
        ])
    }

    /// `DESCRIBE`: a row for each column, then one for each further fact.
    pub(super) fn describe(&self, describe: &Describe) -> Result<RecordBatch, Refusal> {
        let names = self.names();
        let Some(definition) = names.get(&describe.name) else {
            let mistake = Diagnostic::new("unknown_relation", format!("no \"{}\"", describe.name))
                .at(describe.span)
                .help("SHOW STREAMS, SHOW VIEWS and SHOW SINKS list what there is");
            return Err(Refusal::mistake(mistake));
        };
        let mut rows: Vec<[String; 4]> = Vec::new();
        if let Body::Readable(relation) = &definition.body {
            for field in relation.schema.fields() {
                let time = match &relation.time {
                    TimeAttribute::Column(column) if column == field.name() => "event time",
                    _ if tells_arrival(field) => "processing time",
                    _ => "",
                };
                let nullable = if field.is_nullable() { "" } else { "not null" };
                let notes: Vec<&str> = [time, nullable].into_iter().filter(|note| !note.is_empty()).collect();
                rows.push(["column".into(), field.name().clone(), sql_type(field.data_type()), notes.join(", ")]);
            }
        }
        let mut fact = |name: &str, value: String| {
            if !value.is_empty() {
                rows.push(["fact".into(), name.into(), value, String::new()]);
            }
        };
        match definition.key() {
            Some(key) => {
                fact("kind", "table".to_owned());
                fact("primary key", key.join(", "));
                fact("look-ups", "find the latest row of a key, in the order of arrival".to_owned());
            }
            None => fact("kind", definition.kind().word().to_owned()),
        }
        match &definition.body {
            Body::Readable(relation) => {
                if let RelationKind::View { sql } = &relation.kind {
                    fact("query", sql.clone());
                }
                self.describe_stream(&describe.name, &mut fact);
            }
            Body::Sink(_, create) => {
                for option in &create.options {
                    fact(&option.name, redact::shown(option).to_owned());
                }
            }
            Body::Pending(_) | Body::Broken { .. } => fact("status", status_of_absent(definition)),
        }
        fact("used by", names.users(&describe.name).join(", "));
        let column = |at: usize| strings(rows.iter().map(|row| row[at].clone()));
        Ok(table(vec![("part", column(0)), ("name", column(1)), ("value", column(2)), ("note", column(3))]))
    }

    fn describe_stream(&self, name: &str, fact: &mut impl FnMut(&str, String)) {
        let Some(info) = self.engine.streams().into_iter().find(|info| info.name == name) else { return };
        fact("event time", info.event_time);
        // What was said stands among the options.
        if let Some(timeout) = info.idle_timeout.filter(|_| info.options.iter().all(|(name, _)| name != "idle_timeout"))
        {
            fact("idle_timeout", format!("{timeout:?}"));
        }
        fact("label", info.labels.join(", "));
        fact("status", info.status);
        fact("restarts", if info.restarts == 0 { String::new() } else { info.restarts.to_string() });
        if let Ok(Some(stopped)) = self.engine.quarantine(name) {
            let place = format!("{}, partition {}", stopped.input, stopped.partition);
            fact("quarantined rows", format!("{place}, offsets {} to {}", stopped.first.0, stopped.next.0));
            fact("quarantined since", moment::text(stopped.since).unwrap_or_default());
            fact("crash", stopped.reason.clone());
            fact("rows", rows_as_json(&stopped.rows));
            fact("goes on", format!("RESUME STREAM {name} tries again; FROM LATEST skips what came since"));
        }
        if let Some(paused) = info.paused {
            let since = moment::text(paused.since).unwrap_or_default();
            fact("paused since", format!("{since}; RESUME STREAM {name} lets it go on"));
            fact("waiting", format!("{} rows", paused.waiting_rows));
            let lost = paused.lost_rows;
            fact("lost to retention", if lost == 0 { String::new() } else { format!("{lost} rows while it rests") });
        }
        fact("keeps", kept(&self.engine.jobs(), name));
        if info.durability != Durability::Memory {
            fact("durability", word(info.durability).to_owned());
            fact("on disk", format!("{} rows, {} bytes", info.log_rows, info.log_bytes));
            fact(
                "after a restart",
                info.recovery.map_or_else(String::new, |recovery| match recovery {
                    Recovery::ExactlyOnce => "goes on where it ended: every row counts once".to_owned(),
                    Recovery::Live => "goes on with what comes then: rows in between are missing".to_owned(),
                }),
            );
            fact("because", info.live_because.unwrap_or_default());
            let unusable = info.damaged_snapshots;
            fact("damaged snapshots", if unusable == 0 { String::new() } else { unusable.to_string() });
            let lost = |rows: u64| if rows == 0 { String::new() } else { format!("{rows} rows") };
            fact("not stored", lost(info.unstored_rows));
            fact("damaged", lost(info.damaged_rows));
        }
        fact("partitions", info.partitions.to_string());
        for (name, value) in info.options {
            fact(&name, value);
        }
    }
}

/// What the jobs of a named stream keep that are its own, in words.
fn kept(jobs: &[JobInfo], name: &str) -> String {
    let mut reached: Vec<&JobInfo> = jobs.iter().filter(|job| job.stream.as_deref() == Some(name)).collect();
    let mut at = 0;
    while let Some(job) = reached.get(at) {
        let below = jobs.iter().filter(|other| other.stream.is_none() && job.inputs.contains(&other.id));
        let new: Vec<&JobInfo> = below.filter(|other| !reached.iter().any(|known| known.id == other.id)).collect();
        reached.extend(new);
        at += 1;
    }
    let states = reached.iter().filter(|job| job.kind != "stream" && job.state != "nothing");
    states.map(|job| job.state.clone()).collect::<Vec<_>>().join("; ")
}

fn jobs(jobs: &[JobInfo]) -> RecordBatch {
    let number = |of: fn(&JobInfo) -> u64| Arc::new(UInt64Array::from_iter_values(jobs.iter().map(of))) as ArrayRef;
    table(vec![
        ("id", strings(jobs.iter().map(|job| job.id.clone()))),
        ("kind", strings(jobs.iter().map(|job| job.kind.clone()))),
        ("description", strings(jobs.iter().map(|job| job.description.clone()))),
        ("inputs", strings(jobs.iter().map(|job| job.inputs.join(", ")))),
        ("stream", Arc::new(jobs.iter().map(|job| job.stream.clone()).collect::<StringArray>())),
        ("users", strings(jobs.iter().map(|job| job.users.join(", ")))),
        ("rows_in", number(|job| job.counters.rows_in)),
        ("rows_out", number(|job| job.counters.rows_out)),
        ("late", number(|job| job.counters.late + job.counters.late_idle)),
        ("failed", number(|job| job.counters.failed)),
        ("pairs_failed", number(|job| job.counters.pairs_failed)),
        ("dropped", number(|job| job.counters.dropped)),
        ("forgotten", number(|job| job.counters.forgotten)),
        ("state_bytes", number(|job| job.state_bytes as u64)),
        ("watermark", moments(jobs.iter().map(|job| job.watermark))),
        ("started", moments(jobs.iter().map(|job| Some(job.started)))),
        ("status", strings(jobs.iter().map(|job| job.status.clone()))),
        ("restarts", number(|job| job.restarts)),
        ("crash", Arc::new(jobs.iter().map(|job| job.crash.clone()).collect::<StringArray>())),
    ])
}

fn queries(queries: &[QueryInfo]) -> RecordBatch {
    let number =
        |of: fn(&QueryInfo) -> u64| Arc::new(UInt64Array::from_iter_values(queries.iter().map(of))) as ArrayRef;
    table(vec![
        ("id", strings(queries.iter().map(|query| query.id.clone()))),
        ("query", strings(queries.iter().map(|query| query.sql.clone()))),
        ("started", moments(queries.iter().map(|query| Some(query.started)))),
        ("jobs", strings(queries.iter().map(|query| query.jobs.join(", ")))),
        ("subscriptions", number(|query| query.subscriptions as u64)),
        ("rows", number(|query| query.rows)),
        ("status", strings(queries.iter().map(|query| if query.paused { "paused" } else { "running" }.to_owned()))),
    ])
}

/// How a named stream whose log is on disk goes on after a restart; empty for others.
fn recovery(info: &StreamInfo) -> &'static str {
    match info.recovery.filter(|_| info.durability != Durability::Memory) {
        Some(Recovery::ExactlyOnce) => "exactly once",
        Some(Recovery::Live) => "live",
        None => "",
    }
}

fn losses(losses: &[Loss]) -> RecordBatch {
    let number = |of: fn(&Loss) -> u64| Arc::new(UInt64Array::from_iter_values(losses.iter().map(of))) as ArrayRef;
    table(vec![
        ("kind", strings(losses.iter().map(|loss| loss.kind.word().to_owned()))),
        ("name", strings(losses.iter().map(|loss| loss.name.clone()))),
        ("reason", strings(losses.iter().map(|loss| loss.reason.word().to_owned()))),
        ("rows", number(|loss| loss.lost.rows)),
        ("unknown_gaps", number(|loss| loss.lost.gaps)),
        ("since", moments(losses.iter().map(|loss| Some(loss.since)))),
        ("users", strings(losses.iter().map(|loss| loss.users.join(", ")))),
        ("meaning", strings(losses.iter().map(|loss| format!("rows that {}", loss.reason.meaning())))),
    ])
}

/// Rows as JSON: an array of arrays.
pub(crate) fn rows_as_json(rows: &RecordBatch) -> String {
    let mut text = Vec::new();
    write_rows_array(rows, 0..rows.num_rows(), &mut text);
    String::from_utf8(text).expect("JSON is written as UTF-8")
}

/// Records that did not become rows.
fn rejected(info: &StreamInfo) -> u64 {
    info.counters.undecodable + info.counters.without_event_time + info.counters.failed
}

fn is_absent(definition: &Definition) -> bool {
    matches!(definition.body, Body::Pending(_) | Body::Broken { .. })
}

fn status_of_absent(definition: &Definition) -> String {
    match &definition.body {
        Body::Broken { reason, .. } => format!("broken: {reason}"),
        _ => "waiting for its first events, from which its columns are inferred".to_owned(),
    }
}

fn connector_of_absent(definition: &Definition) -> String {
    match &definition.body {
        Body::Pending(create) => {
            let connector = create.options.iter().find(|option| option.name == "connector");
            connector.map_or(String::new(), |option| option.value.clone())
        }
        _ => String::new(),
    }
}

/// A type as `CREATE SOURCE` writes it; others as Arrow does.
fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INT",
        DataType::Int64 => "BIGINT",
        DataType::Float32 => "REAL",
        DataType::Float64 => "DOUBLE",
        DataType::Utf8 | DataType::LargeUtf8 => "VARCHAR",
        DataType::Utf8View => "JSON",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTEA",
        DataType::Date32 | DataType::Date64 => "DATE",
        DataType::Timestamp(_, None) => "TIMESTAMP",
        other => return other.to_string(),
    }
    .to_owned()
}

pub(super) fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, values)| Field::new(*name, values.data_type().clone(), values.is_nullable()))
        .collect();
    let values = columns.into_iter().map(|(_, values)| values).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), values).expect("all columns have a value for each row")
}

pub(super) fn strings(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

pub(super) fn moments(values: impl Iterator<Item = Option<EventTime>>) -> ArrayRef {
    Arc::new(values.map(|moment| moment.map(|moment| moment.0)).collect::<TimestampNanosecondArray>())
}

/// How it is written in an option.
fn word(durability: Durability) -> &'static str {
    match durability {
        Durability::Memory => "memory",
        Durability::Buffered => "buffered",
        Durability::Durable => "durable",
    }
}

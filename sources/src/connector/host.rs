//! `host`: what this machine does, sampled several times a second. Live: the event time is the sample's.
//!
//! `table` says what: `cpu` (a row a processor), `memory` (one row), `disk` (a row a mount), `network` (a row an
//! interface), `process` (a row a process). `interval` is the time between samples: 250 ms unless said, 1 s for
//! processes. Counts of bytes and packets are those since the sample before.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use squilla_engine::{Clock, Connector, ConnectorInfo, EngineError, EventTime, PartitionReader, ReadEvent};
use squilla_query::{CreateSource, Diagnostic};
use sysinfo::{Disks, Networks, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};
use tokio::task::JoinHandle;

use super::failed;
use crate::SourceEnv;
use crate::define::{Made, nanoseconds, refuse_columns};
use crate::options::Options;

/// Time between samples unless the definition says otherwise.
const INTERVAL: Duration = Duration::from_millis(250);
/// The same, of processes: there may be thousands.
const PROCESS_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between samples.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Longest wait for a sample before an empty poll is told.
const WAIT_NS: i64 = 100_000_000;

pub(super) const DESCRIPTION: &str = "samples this machine: processors, memory, disks, networks or processes";
pub(super) const OPTIONS: [(&str, &str); 2] = [
    ("table", "'cpu', 'memory', 'disk', 'network' or 'process'"),
    ("interval", "time between samples: '250ms' unless said, '1s' for processes"),
];

/// What is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Cpu,
    Memory,
    Disk,
    Network,
    Process,
}

const TABLES: [(&str, Table); 5] = [
    ("cpu", Table::Cpu),
    ("memory", Table::Memory),
    ("disk", Table::Disk),
    ("network", Table::Network),
    ("process", Table::Process),
];

impl Table {
    /// The columns behind `ts`.
    fn columns(self) -> &'static [(&'static str, DataType)] {
        const TEXT: DataType = DataType::Utf8;
        const COUNT: DataType = DataType::Int64;
        const SHARE: DataType = DataType::Float64;
        match self {
            Self::Cpu => &[("cpu", TEXT), ("usage_percent", SHARE), ("frequency_mhz", COUNT)],
            Self::Memory => &[
                ("total_bytes", COUNT),
                ("used_bytes", COUNT),
                ("available_bytes", COUNT),
                ("free_bytes", COUNT),
                ("swap_total_bytes", COUNT),
                ("swap_used_bytes", COUNT),
            ],
            Self::Disk => &[
                ("device", TEXT),
                ("mount", TEXT),
                ("file_system", TEXT),
                ("total_bytes", COUNT),
                ("available_bytes", COUNT),
                ("read_bytes", COUNT),
                ("written_bytes", COUNT),
            ],
            Self::Network => &[
                ("interface", TEXT),
                ("received_bytes", COUNT),
                ("transmitted_bytes", COUNT),
                ("received_packets", COUNT),
                ("transmitted_packets", COUNT),
                ("errors", COUNT),
            ],
            Self::Process => &[
                ("pid", COUNT),
                ("parent_pid", COUNT),
                ("name", TEXT),
                ("status", TEXT),
                ("cpu_percent", SHARE),
                ("memory_bytes", COUNT),
                ("read_bytes", COUNT),
                ("written_bytes", COUNT),
                ("run_time_s", COUNT),
            ],
        }
    }

    fn schema(self) -> SchemaRef {
        let time = Field::new("ts", squilla_query::timestamp_type(), true);
        let others = self.columns().iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
        Arc::new(Schema::new(std::iter::once(time).chain(others).collect::<Vec<_>>()))
    }
}

/// Samples this machine.
#[derive(Debug)]
pub(crate) struct Host {
    name: String,
    table: Table,
    interval: Duration,
    clock: Arc<dyn Clock>,
    options: Vec<(String, String)>,
}

pub(crate) fn define(
    create: &CreateSource,
    env: &SourceEnv,
    options: &mut Options<'_>,
) -> Result<Made, Vec<Diagnostic>> {
    options.required("table", "write table = 'cpu', 'memory', 'disk', 'network' or 'process'");
    let table = options.choice("table", Table::Cpu, &TABLES);
    let usual = if table == Table::Process { PROCESS_INTERVAL } else { INTERVAL };
    let interval = options.duration("interval", usual);
    let least =
        if matches!(table, Table::Cpu | Table::Process) { sysinfo::MINIMUM_CPU_UPDATE_INTERVAL } else { MIN_INTERVAL };
    if interval < least {
        let message = format!("an interval of {interval:?} is too short");
        options.bad_value("interval", message, format!("at least {least:?}"));
    }
    refuse_columns(create, "host")?;
    let connector = Host {
        name: create.name.clone(),
        table,
        interval,
        clock: env.clock.clone(),
        options: create.options.iter().map(|option| (option.name.clone(), option.value.clone())).collect(),
    };
    // Samples are in order: no row is ever earlier than one before it.
    Ok(Made { schema: table.schema(), connector: Arc::new(connector), delay: Duration::ZERO })
}

#[async_trait]
impl Connector for Host {
    fn info(&self) -> ConnectorInfo {
        ConnectorInfo {
            connector: "host",
            label: None,
            bounded: false,
            rereadable: false,
            can_wait: false,
            replay: false,
            options: self.options.clone(),
        }
    }

    async fn open(&self, columns: &[usize]) -> Result<Vec<Box<dyn PartitionReader>>, EngineError> {
        let table = self.table;
        // The first look only sets what later ones are compared to.
        let sampler = tokio::task::spawn_blocking(move || Sampler::new(table)).await;
        let sampler = sampler
            .map_err(|error| error.to_string())
            .and_then(|sampler| sampler.map_err(|error| error.to_string()))
            .map_err(|message| failed(&self.name, message, true))?;
        Ok(vec![Box::new(HostReader {
            name: self.name.clone(),
            columns: columns.to_vec(),
            interval: nanoseconds(self.interval),
            due: self.clock.now().plus(nanoseconds(self.interval)),
            clock: self.clock.clone(),
            state: State::Resting(sampler),
        })])
    }
}

struct HostReader {
    name: String,
    columns: Vec<usize>,
    interval: i64,
    due: EventTime,
    clock: Arc<dyn Clock>,
    state: State,
}

enum State {
    Resting(Box<Sampler>),
    /// On a thread of its own; a reader that is dropped meanwhile finds it here again.
    Sampling(JoinHandle<(Box<Sampler>, RecordBatch)>),
    Broken,
}

#[async_trait]
impl PartitionReader for HostReader {
    async fn next(&mut self) -> Result<ReadEvent, EngineError> {
        if let State::Resting(_) = self.state {
            let now = self.clock.now();
            if now < self.due {
                self.clock.sleep_until(self.due.min(now.plus(WAIT_NS))).await;
            }
            let now = self.clock.now();
            if now < self.due {
                return Ok(ReadEvent::Empty);
            }
            // Samples that were missed are not made up for.
            self.due = self.due.plus(self.interval).max(now);
            if let State::Resting(mut sampler) = std::mem::replace(&mut self.state, State::Broken) {
                let clock = self.clock.clone();
                self.state = State::Sampling(tokio::task::spawn_blocking(move || {
                    let rows = sampler.sample(clock.as_ref());
                    (sampler, rows)
                }));
            }
        }
        let State::Sampling(sampling) = &mut self.state else {
            return Err(failed(&self.name, "a sample failed before", true));
        };
        let sampled = sampling.await;
        self.state = State::Broken;
        let (sampler, rows) = sampled.map_err(|error| failed(&self.name, error.to_string(), true))?;
        self.state = State::Resting(sampler);
        let rows = rows.project(&self.columns)?;
        Ok(ReadEvent::Batch { rows, undecodable: 0, rejects: Vec::new(), bytes: 0, receipts: Vec::new() })
    }
}

/// Looks at the machine.
struct Sampler {
    table: Table,
    schema: SchemaRef,
    system: System,
    disks: Disks,
    networks: Networks,
}

/// A column that is being filled.
enum Values {
    Text(Vec<Option<String>>),
    Count(Vec<Option<i64>>),
    Share(Vec<Option<f64>>),
}

/// A value of a row.
enum Value {
    Text(String),
    Count(u64),
    Share(f32),
    Null,
}

impl Sampler {
    fn new(table: Table) -> Result<Box<Self>, sysinfo::Error> {
        let mut sampler = Self {
            table,
            schema: table.schema(),
            system: System::new()?,
            disks: Disks::new()?,
            networks: Networks::new()?,
        };
        sampler.look();
        Ok(Box::new(sampler))
    }

    fn look(&mut self) {
        match self.table {
            Table::Cpu => self.system.refresh_cpu_all(),
            Table::Memory => self.system.refresh_memory(),
            Table::Disk => self.disks.refresh(true),
            Table::Network => self.networks.refresh(true),
            Table::Process => {
                let wanted = ProcessRefreshKind::nothing().with_cpu().with_memory().with_disk_usage();
                let wanted = wanted.with_exe(UpdateKind::Never).without_tasks();
                self.system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
            }
        }
    }

    fn sample(&mut self, clock: &dyn Clock) -> RecordBatch {
        self.look();
        let now = clock.now().0;
        let rows = match self.table {
            Table::Cpu => self.cpus(),
            Table::Memory => vec![self.memory()],
            Table::Disk => self.disks(),
            Table::Network => self.networks(),
            Table::Process => self.processes(),
        };
        let count = rows.len();
        let mut columns: Vec<Values> =
            self.table.columns().iter().map(|(_, data_type)| Values::of(data_type)).collect();
        for row in rows {
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
        }
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![now; count]));
        let arrays = std::iter::once(times).chain(columns.into_iter().map(Values::finish)).collect();
        RecordBatch::try_new(self.schema.clone(), arrays).expect("rows have the table's columns")
    }

    fn cpus(&self) -> Vec<Vec<Value>> {
        let row = |cpu: &sysinfo::Cpu| {
            vec![Value::Text(cpu.name().to_owned()), Value::Share(cpu.usage()), Value::Count(cpu.frequency())]
        };
        self.system.cpus().iter().map(row).collect()
    }

    fn memory(&self) -> Vec<Value> {
        let system = &self.system;
        [
            system.total_memory(),
            system.used_memory(),
            system.available_memory(),
            system.free_memory(),
            system.total_swap(),
            system.used_swap(),
        ]
        .map(Value::Count)
        .into()
    }

    fn disks(&self) -> Vec<Vec<Value>> {
        let row = |disk: &sysinfo::Disk| {
            let usage = disk.usage();
            vec![
                Value::Text(disk.name().to_string_lossy().into_owned()),
                Value::Text(disk.mount_point().display().to_string()),
                Value::Text(disk.file_system().to_string_lossy().into_owned()),
                Value::Count(disk.total_space()),
                Value::Count(disk.available_space()),
                Value::Count(usage.read_bytes),
                Value::Count(usage.written_bytes),
            ]
        };
        self.disks.iter().map(row).collect()
    }

    fn networks(&self) -> Vec<Vec<Value>> {
        let rows = self.networks.iter().map(|(name, network)| {
            vec![
                Value::Text(name.display().to_string()),
                Value::Count(network.received()),
                Value::Count(network.transmitted()),
                Value::Count(network.packets_received()),
                Value::Count(network.packets_transmitted()),
                Value::Count(network.errors_on_received() + network.errors_on_transmitted()),
            ]
        });
        rows.collect()
    }

    fn processes(&self) -> Vec<Vec<Value>> {
        let rows = self.system.processes().values().map(|process| {
            let usage = process.disk_usage();
            vec![
                Value::Count(process.pid().as_u32().into()),
                process.parent().map_or(Value::Null, |parent| Value::Count(parent.as_u32().into())),
                Value::Text(process.name().to_string_lossy().into_owned()),
                Value::Text(process.status().to_string()),
                Value::Share(process.cpu_usage()),
                Value::Count(process.memory()),
                Value::Count(usage.read_bytes),
                Value::Count(usage.written_bytes),
                Value::Count(process.run_time()),
            ]
        });
        rows.collect()
    }
}

impl Values {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Utf8 => Self::Text(Vec::new()),
            DataType::Float64 => Self::Share(Vec::new()),
            _ => Self::Count(Vec::new()),
        }
    }

    fn push(&mut self, value: Value) {
        match (self, value) {
            (Self::Text(values), Value::Text(value)) => values.push(Some(value)),
            (Self::Count(values), Value::Count(value)) => values.push(i64::try_from(value).ok()),
            // Shares of what has not been looked at twice are no numbers.
            (Self::Share(values), Value::Share(value)) => values.push(value.is_finite().then_some(value.into())),
            (Self::Text(values), _) => values.push(None),
            (Self::Count(values), _) => values.push(None),
            (Self::Share(values), _) => values.push(None),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Text(values) => Arc::new(StringArray::from(values)),
            Self::Count(values) => Arc::new(Int64Array::from(values)),
            Self::Share(values) => Arc::new(Float64Array::from(values)),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Int64Type, TimestampNanosecondType};
    use squilla_engine::ManualClock;

    use super::*;
    use crate::testing::{create, env_with};

    #[tokio::test]
    async fn every_table_gives_rows_at_its_interval() {
        let start = 1_700_000_000_000_000_000;
        for (table, _) in TABLES {
            let clock = Arc::new(ManualClock::new(EventTime(start)));
            let env = env_with(clock.clone(), Vec::new());
            let options = [("connector", "host"), ("table", table), ("interval", "1s")];
            let definition = crate::define_source(&create("host", None, &options), &env).await.expect(table);
            let all: Vec<usize> = (0..definition.schema.fields().len()).collect();
            let mut readers = definition.connector.open(&all).await.expect(table);
            for second in 1..=2 {
                let now = start + second * 1_000_000_000;
                clock.set(EventTime(now));
                let ReadEvent::Batch { rows, .. } = readers[0].next().await.expect(table) else { panic!("{table}") };
                assert_eq!(rows.schema(), definition.schema);
                assert!(rows.column(0).as_primitive::<TimestampNanosecondType>().values().iter().all(|ts| *ts == now));
                if table == "memory" {
                    assert!(rows.column(1).as_primitive::<Int64Type>().value(0) > 0);
                }
                if table == "process" {
                    assert!(rows.num_rows() > 0 && rows.column(3).null_count() == 0);
                }
            }
        }
    }

    #[tokio::test]
    async fn an_interval_that_is_too_short_is_a_mistake() {
        let env = env_with(Arc::new(ManualClock::new(EventTime(0))), Vec::new());
        let options = [("connector", "host"), ("table", "cpu"), ("interval", "1ms")];
        let mistakes = crate::define_source(&create("host", None, &options), &env).await.expect_err("too short");
        assert_eq!(mistakes[0].help, "at least 200ms");
        let create = create("host", None, &[("connector", "host"), ("table", "gpu")]);
        let mistakes = crate::define_source(&create, &env).await.expect_err("no such table");
        assert_eq!(mistakes[0].help, "did you mean \"cpu\"?");
    }
}

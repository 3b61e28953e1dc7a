//! Definitions of sources: what all connectors have in common.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_expr::{Expr, Operator};
use squilla_engine::{Connector, Durability, EventTimeSpec, SourceDefinition, StreamOptions, WatermarkSpec};
use squilla_query::{CreateSource, CreateStream, Diagnostic};

use crate::SourceEnv;
use crate::connector::{self, CONNECTORS};
use crate::format::scalar::TimestampUnit;
use crate::options::{Options, suggest};

/// How far back a stream's log reaches unless the definition says otherwise.
const RETENTION: Duration = Duration::from_secs(15 * 60);
/// How large a stream's log gets unless the definition says otherwise, in bytes.
const RETENTION_BYTES: usize = 64 << 20;
/// The same of a log on disk.
const DISK_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
const DISK_RETENTION_BYTES: usize = 8 << 30;
/// How long a partition may be silent unless the definition says otherwise.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How far the watermark stays behind the event time unless the definition says otherwise.
pub(crate) const WATERMARK_DELAY: Duration = Duration::from_secs(5);

/// What a connector makes of a definition.
pub(crate) struct Made {
    pub(crate) schema: SchemaRef,
    pub(crate) connector: Arc<dyn Connector>,
    /// How far the watermark stays behind without a WATERMARK clause.
    pub(crate) delay: Duration,
}

/// See [`crate::define_source`].
pub(crate) fn source(create: &CreateSource, env: &SourceEnv) -> Result<SourceDefinition, Vec<Diagnostic>> {
    let mut options = Options::new(&create.options);
    let names: Vec<&str> = CONNECTORS.to_vec();
    let help = format!("write WITH (connector = '…'): {}", names.join(", "));
    let Some(kind) = options.required("connector", &help) else {
        return Err(options.finish("a source"));
    };
    let Common { durability, retention, retention_bytes, idle_timeout } = common(&mut options);
    let made = match kind.to_ascii_lowercase().as_str() {
        "file" => connector::file::define(create, env, &mut options),
        "flights" => connector::flights::define(create, env, &mut options),
        "host" => connector::host::define(create, env, &mut options),
        "http" => connector::http::define(create, env, &mut options, durability != Durability::Memory),
        "generator" => connector::generator::define(create, env, &mut options),
        _ => {
            options.bad_value("connector", format!("there is no connector \"{kind}\""), suggest(kind, &names));
            // Which options are right, nobody can say.
            return Err(options.finish_without_names());
        }
    };
    let mistakes = options.finish(&format!("connector \"{kind}\""));
    let made = match made {
        Ok(made) if mistakes.is_empty() => made,
        Ok(_) => return Err(mistakes),
        Err(mut others) => {
            others.splice(0..0, mistakes);
            return Err(others);
        }
    };
    create.check_arrivals(&made.schema).map_err(|mistake| vec![mistake])?;
    if let Some(key) = &create.key {
        key.check(&made.schema).map_err(|mistake| vec![mistake])?;
    }
    if durability != Durability::Memory && made.connector.info().rereadable {
        let message = format!("connector \"{kind}\" keeps no log: what it reads can be read again");
        return Err(vec![Diagnostic::new("unsupported", message).help("leave out durability")]);
    }
    let event_time = event_time(create, &made)?;
    Ok(SourceDefinition {
        name: create.name.clone(),
        schema: made.schema,
        key: create.key.as_ref().map(|key| key.columns.clone()).unwrap_or_default(),
        event_time,
        idle_timeout,
        retention,
        retention_bytes,
        durability,
        resumes: false,
        connector: made.connector,
    })
}

/// See [`crate::define_stream`].
pub(crate) fn stream(create: &CreateStream) -> Result<StreamOptions, Vec<Diagnostic>> {
    let mut options = Options::new(&create.options);
    let (durability, retention, retention_bytes) = log(&mut options);
    let mistakes = options.finish("a stream");
    if mistakes.is_empty() {
        Ok(StreamOptions { durability, retention, retention_bytes, resumes: false, paused: false, generation: 0 })
    } else {
        Err(mistakes)
    }
}

/// What all sources have.
struct Common {
    durability: Durability,
    retention: Duration,
    retention_bytes: usize,
    idle_timeout: Duration,
}

fn common(options: &mut Options<'_>) -> Common {
    options.refuse("partition_by", "leave it out: a source's partitions are those of the outside world");
    let (durability, retention, retention_bytes) = log(options);
    Common { durability, retention, retention_bytes, idle_timeout: options.duration("idle_timeout", IDLE_TIMEOUT) }
}

/// Where a stream's log lies, and how much it keeps.
fn log(options: &mut Options<'_>) -> (Durability, Duration, usize) {
    let kinds = [("memory", Durability::Memory), ("buffered", Durability::Buffered), ("durable", Durability::Durable)];
    let durability = options.choice("durability", Durability::Memory, &kinds);
    let (retention, bytes) = match durability {
        Durability::Memory => (RETENTION, RETENTION_BYTES),
        Durability::Buffered | Durability::Durable => (DISK_RETENTION, DISK_RETENTION_BYTES),
    };
    (durability, options.duration("retention", retention), options.size("retention_size", bytes))
}

/// The JSON column that takes each record as a whole, beside those that take fields of it.
pub(crate) fn record_column(create: &CreateSource, options: &mut Options<'_>) -> Option<String> {
    let name = options.text("record_column")?;
    let declared = create.schema.as_ref().and_then(|schema| schema.field_with_name(name).ok());
    if declared.is_none_or(|field| *field.data_type() != DataType::Utf8View) {
        let message = format!("there is no JSON column \"{name}\"");
        options.bad_value("record_column", message, format!("declare it: CREATE SOURCE … ({name} JSON, …)"));
        return None;
    }
    Some(name.to_owned())
}

/// The unit of numbers that are read as TIMESTAMP.
pub(crate) fn timestamp_unit(options: &mut Options<'_>) -> TimestampUnit {
    let units = [
        ("s", TimestampUnit::Second),
        ("ms", TimestampUnit::Millisecond),
        ("us", TimestampUnit::Microsecond),
        ("ns", TimestampUnit::Nanosecond),
    ];
    options.choice("timestamp_unit", TimestampUnit::Millisecond, &units)
}

/// Refuses declared columns: the connector has columns of its own.
pub(crate) fn refuse_columns(create: &CreateSource, connector: &str) -> Result<(), Vec<Diagnostic>> {
    if create.schema.is_none() {
        return Ok(());
    }
    let message = format!("connector \"{connector}\" has columns of its own");
    Err(vec![Diagnostic::new("unsupported", message).help("leave out the list of columns")])
}

/// The schema as decoders make it: inner fields of nested columns may be null whatever was declared, since a missing
/// value is null.
pub(crate) fn relaxed(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let relaxed = field.as_ref().clone().with_data_type(relaxed_type(field.data_type()));
        Arc::new(relaxed)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn relaxed_type(data_type: &DataType) -> DataType {
    let inner = |field: &FieldRef| Arc::new(Field::new(field.name(), relaxed_type(field.data_type()), true));
    match data_type {
        DataType::List(element) => DataType::List(inner(element)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        other => other.clone(),
    }
}

fn is_event_time(data_type: &DataType) -> bool {
    *data_type == DataType::Timestamp(TimeUnit::Nanosecond, None)
}

fn event_time(create: &CreateSource, made: &Made) -> Result<EventTimeSpec, Vec<Diagnostic>> {
    let schema = &made.schema;
    let Some(clause) = &create.watermark else {
        // What a row of a table says is so from its arrival on; and no time that it tells need be there.
        if create.key.is_some() {
            return Ok(EventTimeSpec::Arrival);
        }
        let first = schema.fields().iter().position(|field| is_event_time(field.data_type()));
        let watermark = WatermarkSpec::Delay(nanoseconds(made.delay));
        return Ok(first.map_or(EventTimeSpec::Arrival, |index| EventTimeSpec::Column { index, watermark }));
    };
    let Ok(index) = schema.index_of(&clause.column) else {
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let message = format!("source \"{}\" has no column \"{}\"", create.name, clause.column);
        let mistake = Diagnostic::new("unknown_column", message).at(clause.span);
        return Err(vec![mistake.help(suggest(&clause.column, &columns))]);
    };
    let data_type = schema.field(index).data_type();
    if !is_event_time(data_type) {
        let message = format!("the event time must be a TIMESTAMP, column \"{}\" is {data_type}", clause.column);
        let help = "declare the column as TIMESTAMP; timestamp_unit = 's' | 'ms' | 'us' | 'ns' says what numbers count";
        return Err(vec![Diagnostic::new("type_mismatch", message).at(clause.span).help(help)]);
    }
    let expression = squilla_query::bind_watermark(clause, schema)?;
    let watermark = match delay(&expression, &clause.column) {
        Some(delay) => WatermarkSpec::Delay(delay),
        None => WatermarkSpec::Expr(expression),
    };
    Ok(EventTimeSpec::Column { index, watermark })
}

pub(crate) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// The nanoseconds of `column - interval`, zero for the column alone; `None` for any other expression.
fn delay(expression: &Expr, column: &str) -> Option<i64> {
    match expression {
        Expr::Column(found) => (found.name == column).then_some(0),
        Expr::Alias(alias) => delay(&alias.expr, column),
        Expr::BinaryExpr(binary) if binary.op == Operator::Minus => {
            delay(&binary.left, column).filter(|inner| *inner == 0)?;
            interval(&binary.right).filter(|interval| *interval >= 0)
        }
        _ => None,
    }
}

fn interval(expression: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expression else { return None };
    match value {
        ScalarValue::IntervalMonthDayNano(Some(value)) if value.months == 0 => {
            i64::from(value.days).checked_mul(86_400_000_000_000)?.checked_add(value.nanoseconds)
        }
        ScalarValue::IntervalDayTime(Some(value)) => {
            let days = i64::from(value.days).checked_mul(86_400_000)?;
            days.checked_add(value.milliseconds.into())?.checked_mul(1_000_000)
        }
        ScalarValue::DurationSecond(Some(value)) => value.checked_mul(1_000_000_000),
        ScalarValue::DurationMillisecond(Some(value)) => value.checked_mul(1_000_000),
        ScalarValue::DurationMicrosecond(Some(value)) => value.checked_mul(1_000),
        ScalarValue::DurationNanosecond(Some(value)) => Some(*value),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

//! The rows that came too late for a named stream, as something to read: `LATE(name)`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::catalog::{Relation, RelationKind, TimeAttribute};
use crate::plan::{GatherKind, JoinTime, Plan, RankTime};
use crate::timestamp_type;

/// Name of the column that says why a row was late: [`LATE_BY_WATERMARK`] or [`LATE_BY_IDLE`].
pub const LATE_REASON: &str = "late_reason";
/// The watermark that the rows before it in its partition imply had passed what it belongs to.
pub const LATE_BY_WATERMARK: &str = "late";
/// What it belongs to was told while its partition was taken for idle.
pub const LATE_BY_IDLE: &str = "idle";

/// What those who read `LATE(name)` find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateStream {
    /// The columns of what was late, by name, and those of [`late_fields`].
    pub schema: SchemaRef,
    /// Where the rows' event time is.
    pub time: TimeAttribute,
}

/// Finds the columns and the event time of a relation by its name.
pub(crate) type FindColumns<'f> = dyn Fn(&str) -> Option<(SchemaRef, TimeAttribute)> + 'f;

/// Name of the column that holds the event time of rows whose own columns do not.
const LATE_EVENT_TIME: &str = "late_event_time";

/// Columns that tell when and why a row was late. Columns of the row itself that have such a name are left out.
pub fn late_fields() -> [Field; 6] {
    [
        Field::new(LATE_EVENT_TIME, timestamp_type(), false),
        Field::new(LATE_REASON, DataType::Utf8, false),
        // How far the watermark was ahead of the row.
        Field::new("late_by_ms", DataType::Int64, false),
        // The watermark by which it was late.
        Field::new("late_watermark", timestamp_type(), false),
        // When it arrived.
        Field::new("late_at", timestamp_type(), false),
        // The source or stream that it came from.
        Field::new("late_input", DataType::Utf8, false),
    ]
}

/// The name under which plans read the late rows of a stream.
pub fn late_name(stream: &str) -> String {
    format!("late({stream})")
}

/// The stream whose late rows are read under this name; `None`: they are no late rows.
pub fn late_of(name: &str) -> Option<&str> {
    name.strip_prefix("late(")?.strip_suffix(')')
}

impl Relation {
    /// Its late rows; `None` when it can have none.
    pub fn late_rows(&self) -> Option<Self> {
        let late = self.late.clone()?;
        Some(Self {
            name: late_name(&self.name),
            kind: RelationKind::Stream,
            schema: late.schema,
            time: late.time,
            windows: None,
            late: None,
            replay: self.replay,
        })
    }
}

impl Plan {
    /// What of this plan's input comes too late; `None`: nothing can.
    pub fn late_stream(&self, find: &FindColumns<'_>) -> Option<LateStream> {
        let mut inputs = Vec::new();
        collect(self, find, &mut inputs);
        let own_time = inputs.first()?.time.clone();
        let mut fields: Vec<Field> = Vec::new();
        for field in inputs.iter().flat_map(|input| input.fields.iter()) {
            merge(&mut fields, field);
        }
        let own = late_fields();
        fields.retain(|field| own.iter().all(|own| own.name() != field.name()));
        let is_time =
            |name: &String| fields.iter().any(|field| field.name() == name && *field.data_type() == timestamp_type());
        let time = match own_time {
            TimeAttribute::Column(name) if is_time(&name) && inputs.iter().all(|input| input.is_by(&name)) => name,
            _ => LATE_EVENT_TIME.to_owned(),
        };
        fields.extend(own.into_iter().filter(|field| field.name() != LATE_EVENT_TIME || time == LATE_EVENT_TIME));
        Some(LateStream { schema: Arc::new(Schema::new(fields)), time: TimeAttribute::Column(time) })
    }
}

/// Rows that are judged.
struct Judged {
    fields: Vec<Field>,
    time: TimeAttribute,
}

impl Judged {
    /// Whether this column holds the event time.
    fn is_by(&self, name: &str) -> bool {
        matches!(&self.time, TimeAttribute::Column(own) if own == name)
    }
}

/// Finds what is judged and comes in no order: results of windows come in that of their ends, and are never late.
fn collect(plan: &Plan, find: &FindColumns<'_>, found: &mut Vec<Judged>) {
    let judged: Vec<(&Plan, bool)> = match plan {
        Plan::Aggregate { input, .. } => vec![(input, false)],
        Plan::Gather { input, gather, .. } if matches!(gather.kind, GatherKind::Session { .. }) => {
            vec![(input, false)]
        }
        Plan::Rank { input, rank, .. } if matches!(rank.time, RankTime::Window { .. }) => vec![(input, false)],
        Plan::Join { left, right, join, .. } if !matches!(join.time, JoinTime::Table { .. }) => {
            vec![(left, true), (right, true)]
        }
        _ => Vec::new(),
    };
    for (input, joined) in judged {
        if !is_disordered(input, find) {
            continue;
        }
        let (schema, time) = columns(input, joined, find);
        let time = match time {
            TimeAttribute::Column(name) => TimeAttribute::Column(own_name(&name, joined).to_owned()),
            _ => TimeAttribute::Arrival,
        };
        let field = |field: &Arc<Field>| Field::new(own_name(field.name(), joined), field.data_type().clone(), true);
        found.push(Judged { fields: schema.fields().iter().map(field).collect(), time });
    }
    plan.inputs().into_iter().for_each(|input| collect(input, find, found));
}

/// A column's name without that of its relation, which it has where it is joined.
fn own_name(name: &str, joined: bool) -> &str {
    if joined { name.rsplit_once('.').map_or(name, |(_, own)| own) } else { name }
}

fn is_disordered(plan: &Plan, find: &FindColumns<'_>) -> bool {
    match plan {
        Plan::Scan { relation, .. } => find(relation).is_none_or(|(_, time)| time != TimeAttribute::WindowTime),
        Plan::Union { .. } => true,
        Plan::Filter { input, .. }
        | Plan::Project { input, .. }
        | Plan::AssignWindow { input, .. }
        | Plan::Sample { input, .. }
        | Plan::Unnest { input, .. } => is_disordered(input, find),
        Plan::Rank { input, rank, .. } if rank.keeps_first() => is_disordered(input, find),
        Plan::Join { left, join, .. } if matches!(join.time, JoinTime::Table { .. }) => is_disordered(left, find),
        _ => false,
    }
}

/// The columns of an input: all of its relation where nothing but filters is between, else those that are read.
fn columns(plan: &Plan, joined: bool, find: &FindColumns<'_>) -> (SchemaRef, TimeAttribute) {
    match plan {
        Plan::Scan { relation, .. } if !joined => {
            let own = |(schema, time)| (crate::arrival_column::own_columns(&schema), time);
            find(relation).map_or_else(|| (Arc::clone(plan.schema()), TimeAttribute::Arrival), own)
        }
        Plan::Filter { input, .. } | Plan::Sample { input, .. } if !joined => columns(input, joined, find),
        other => {
            let time = other.time_attribute(&|name| find(name).map(|(_, time)| time));
            (Arc::clone(other.schema()), time)
        }
    }
}

/// Adds a column. Two of one name are one, as text where their types differ; what is no single value then goes.
fn merge(fields: &mut Vec<Field>, field: &Field) {
    let Some(at) = fields.iter().position(|known| known.name() == field.name()) else {
        fields.push(field.clone());
        return;
    };
    if fields[at].data_type() == field.data_type() {
        return;
    }
    if fields[at].data_type().is_nested() || field.data_type().is_nested() {
        fields.remove(at);
    } else {
        fields[at] = Field::new(field.name(), DataType::Utf8, true);
    }
}

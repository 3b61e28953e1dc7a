//! Which column of inferred numbers holds times.
//!
//! A number says of itself neither that it is a time nor what it counts. It is one where the statement says so: the column
//! that `WATERMARK FOR` names, and with a `timestamp_unit` the first that is called as times are.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use squilla_query::{CreateSource, Diagnostic, timestamp_type};

/// Names of columns that hold times, where `timestamp_unit` says that there is one.
const NAMES: [&str; 8] =
    ["ts", "time", "timestamp", "event_time", "event_ts", "event_timestamp", "datetime", "occurred_at"];

/// The inferred columns, with the one that holds times as numbers as a TIMESTAMP.
pub(crate) fn with_event_time(inferred: &SchemaRef, create: &CreateSource) -> SchemaRef {
    let found = match &create.watermark {
        Some(clause) => inferred.fields().iter().position(|field| *field.name() == clause.column),
        None if has_unit(create) && !has_times(inferred) => {
            let is_named = |field: &Field| NAMES.contains(&field.name().to_lowercase().as_str());
            inferred.fields().iter().position(|field| is_number(field) && is_named(field))
        }
        None => None,
    };
    let Some(found) = found.filter(|at| is_number(inferred.field(*at))) else { return Arc::clone(inferred) };
    let fields = inferred.fields().iter().enumerate().map(|(at, field)| {
        if at == found { Arc::new(field.as_ref().clone().with_data_type(timestamp_type())) } else { Arc::clone(field) }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Refuses a unit of times where none was found among the inferred columns.
pub(crate) fn check_unit(found: &Schema, create: &CreateSource) -> Result<(), Vec<Diagnostic>> {
    let Some(option) = create.options.iter().find(|option| option.name == UNIT) else { return Ok(()) };
    if has_times(found) {
        return Ok(());
    }
    let message = "timestamp_unit says what numbers count, and none of the inferred columns is known to hold times";
    let help = "say which one does: CREATE SOURCE name (WATERMARK FOR column AS column - INTERVAL '5 seconds') WITH (…), \
                or declare the columns";
    Err(vec![Diagnostic::new("bad_option", message).at(option.span).help(help)])
}

const UNIT: &str = "timestamp_unit";

fn has_unit(create: &CreateSource) -> bool {
    create.options.iter().any(|option| option.name == UNIT)
}

fn has_times(schema: &Schema) -> bool {
    schema.fields().iter().any(|field| *field.data_type() == timestamp_type())
}

fn is_number(field: &Field) -> bool {
    matches!(
        field.data_type(),
        DataType::Int32 | DataType::Int64 | DataType::UInt32 | DataType::UInt64 | DataType::Float64
    )
}

#[cfg(test)]
mod tests {
    use squilla_query::WatermarkClause;

    use super::*;
    use crate::testing::create;

    fn types(watermark: Option<&str>, options: &[(&str, &str)], columns: &[(&str, DataType)]) -> Vec<String> {
        let mut create = create("e", None, options);
        create.watermark = watermark.map(|column| WatermarkClause {
            column: column.to_owned(),
            expression: column.to_owned(),
            span: None,
        });
        let fields = columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
        let found = with_event_time(&Arc::new(Schema::new(fields.collect::<Vec<_>>())), &create);
        let times = found.fields().iter().filter(|field| *field.data_type() == timestamp_type());
        times.map(|field| field.name().clone()).collect()
    }

    #[test]
    fn the_clause_or_the_unit_says_which_numbers_are_times() {
        let columns = [("id", DataType::Int64), ("sent", DataType::Float64), ("Time", DataType::Int64)];
        assert_eq!(types(Some("sent"), &[], &columns), ["sent"]);
        assert_eq!(types(Some("id"), &[("timestamp_unit", "s")], &columns), ["id"]);
        assert_eq!(types(None, &[("timestamp_unit", "s")], &columns), ["Time"]);
        assert!(types(None, &[], &columns).is_empty());
        assert!(types(None, &[("timestamp_unit", "s")], &columns[..2]).is_empty());
        let text = [("ts", DataType::Utf8), ("at", timestamp_type())];
        assert_eq!(types(Some("ts"), &[], &text), ["at"]);
    }
}

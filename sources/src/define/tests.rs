use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_expr::{col, lit};
use squilla_engine::{EventTime, ManualClock};
use squilla_query::WatermarkClause;

use super::*;
use crate::testing::{create, env_with};

const SECOND_NS: i64 = 1_000_000_000;

fn env() -> SourceEnv {
    env_with(Arc::new(ManualClock::new(EventTime(0))), Vec::new())
}

fn columns() -> Vec<Field> {
    vec![Field::new("id", DataType::Int64, true), Field::new("ts", squilla_query::timestamp_type(), true)]
}

#[test]
fn a_column_less_an_interval_is_a_delay() {
    let seconds = |seconds: i64| lit(ScalarValue::new_interval_mdn(0, 0, seconds * SECOND_NS));
    assert_eq!(delay(&col("ts"), "ts"), Some(0));
    assert_eq!(delay(&(col("ts") - seconds(2)), "ts"), Some(2 * SECOND_NS));
    assert_eq!(delay(&(col("ts") - lit(ScalarValue::new_interval_mdn(0, 1, 0))), "ts"), Some(86_400 * SECOND_NS));
    assert_eq!(delay(&(col("ts") - lit(ScalarValue::new_interval_dt(0, 5))), "ts"), Some(5_000_000));
    // A month has no fixed length.
    assert_eq!(delay(&(col("ts") - lit(ScalarValue::new_interval_mdn(1, 0, 0))), "ts"), None);
    assert_eq!(delay(&(col("ts") + seconds(2)), "ts"), None);
    assert_eq!(delay(&(col("other") - seconds(2)), "ts"), None);
    assert_eq!(delay(&(col("ts") - seconds(-2)), "ts"), None);
    assert_eq!(delay(&((col("ts") - seconds(1)) - seconds(2)), "ts"), None);
}

#[tokio::test]
async fn without_a_clause_the_first_timestamp_counts_less_five_seconds() {
    let create = create("e", Some(columns()), &[("connector", "http"), ("idle_timeout", "3s")]);
    let definition = crate::define_source(&create, &env()).await.expect("a source");
    let watermark = WatermarkSpec::Delay(5 * SECOND_NS);
    assert_eq!(definition.event_time, EventTimeSpec::Column { index: 1, watermark });
    assert_eq!(definition.idle_timeout, Duration::from_secs(3));
    assert_eq!((definition.retention, definition.retention_bytes), (Duration::from_secs(900), 64 << 20));
}

#[tokio::test]
async fn without_a_timestamp_the_arrival_counts() {
    let columns = vec![Field::new("id", DataType::Int64, true)];
    let create = create("e", Some(columns), &[("connector", "http")]);
    let definition = crate::define_source(&create, &env()).await.expect("a source");
    assert_eq!(definition.event_time, EventTimeSpec::Arrival);
}

#[tokio::test]
async fn a_clause_must_name_a_timestamp() {
    let mistake = async |column: &str| {
        let mut create = create("e", Some(columns()), &[("connector", "http")]);
        create.watermark = Some(WatermarkClause { column: column.into(), expression: column.into(), span: None });
        let mistakes = crate::define_source(&create, &env()).await.expect_err("a mistake");
        (mistakes[0].code, mistakes[0].help.clone())
    };
    assert_eq!(mistake("tss").await, ("unknown_column", "did you mean \"ts\"?".to_owned()));
    assert_eq!(mistake("id").await.0, "type_mismatch");
}

#[tokio::test]
async fn connectors_that_are_unknown_or_missing() {
    let mistake = async |options: &[(&str, &str)]| {
        let mistakes = crate::define_source(&create("e", None, options), &env()).await.expect_err("a mistake");
        mistakes[0].help.clone()
    };
    assert_eq!(mistake(&[]).await, "write WITH (connector = '…'): file, flights, generator, host, http");
    assert_eq!(mistake(&[("connector", "htpp")]).await, "did you mean \"http\"?");
    let columns = create("e", Some(columns()), &[("connector", "flights")]);
    let mistakes = crate::define_source(&columns, &env()).await.expect_err("its own columns");
    assert_eq!(mistakes[0].message, "connector \"flights\" has columns of its own");
}

#[tokio::test]
async fn help_names_the_options_that_connectors_read() {
    for connector in crate::connectors() {
        let unknown = [("connector", connector.name), ("qqqqqqqqqqqqqqqqqqqq", "")];
        let mistakes = crate::define_source(&create("e", None, &unknown), &env()).await.expect_err("unknown");
        let told = mistakes.iter().find(|mistake| mistake.code == "unknown_option").map(|m| m.help.clone());
        let told = told.expect("help").replace("it can be: ", "");
        let mut told: Vec<&str> = told.split(", ").filter(|name| *name != "partition_by").collect();
        let mut helped: Vec<&str> = connector.options.iter().map(|(name, _)| *name).collect();
        told.sort_unstable();
        helped.sort_unstable();
        assert_eq!(told, helped, "{}", connector.name);
    }
}

#[test]
fn inner_fields_may_be_null() {
    let element = Field::new("item", DataType::Int64, false);
    let schema = Schema::new(vec![Field::new("l", DataType::List(Arc::new(element)), false)]);
    let relaxed = relaxed(&schema);
    assert!(!relaxed.field(0).is_nullable());
    let DataType::List(element) = relaxed.field(0).data_type() else { panic!("a list") };
    assert!(element.is_nullable());
}

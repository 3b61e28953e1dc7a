//! Where a query's output has its event time.

use crate::catalog::TimeAttribute;
use crate::plan::{JoinTime, Plan, RankTime};
use datafusion_expr::Expr;

impl Plan {
    /// Where those who read this plan's output under a name find its event time: the end of the window, the column
    /// that passes the inputs' event time through (under whatever name), or no column at all.
    pub fn time_attribute(&self, of_relation: &dyn Fn(&str) -> Option<TimeAttribute>) -> TimeAttribute {
        if let Some(column) = self.time_column(of_relation) {
            return TimeAttribute::Column(self.schema().field(column).name().clone());
        }
        let relations = self.streams();
        let windowed = |name: &String| of_relation(name) == Some(TimeAttribute::WindowTime);
        if self.is_windowed() || relations.iter().all(windowed) {
            TimeAttribute::WindowTime
        } else {
            TimeAttribute::Arrival
        }
    }

    fn time_column(&self, of_relation: &dyn Fn(&str) -> Option<TimeAttribute>) -> Option<usize> {
        match self {
            Self::Scan { relation, schema } => match of_relation(relation)? {
                TimeAttribute::Column(column) => schema.index_of(&column).ok(),
                TimeAttribute::WindowTime | TimeAttribute::Arrival => None,
            },
            Self::Filter { input, .. }
            | Self::AssignWindow { input, .. }
            | Self::Sample { input, .. }
            | Self::Track { input, .. }
            | Self::Unnest { input, .. } => input.time_column(of_relation),
            // A ranked row happens at the end of its window.
            Self::Rank { rank, .. } if matches!(rank.time, RankTime::Window { .. }) => None,
            // Its fields lie in another order.
            Self::Rank { input, schema, .. } => {
                let time = input.time_column(of_relation)?;
                schema.index_of(input.schema().field(time).name()).ok()
            }
            Self::Project { input, exprs, .. } => {
                let time = input.time_column(of_relation)?;
                let schema = input.schema();
                exprs.iter().position(|named| column_of(&named.expr) == Some(schema.field(time).name()))
            }
            Self::Union { inputs, .. } => {
                let mut columns = inputs.iter().map(|input| input.time_column(of_relation));
                let first = columns.next()??;
                columns.all(|column| column == Some(first)).then_some(first)
            }
            Self::Join { left, join, schema, .. } if matches!(join.time, JoinTime::Table { .. }) => {
                let time = left.time_column(of_relation)?;
                schema.index_of(left.schema().field(time).name()).ok()
            }
            Self::Aggregate { .. }
            | Self::ByArrival { .. }
            | Self::AggregateRunning { .. }
            | Self::Gather { .. }
            | Self::Fill { .. }
            | Self::Join { .. } => None,
        }
    }
}

/// The column that an expression passes on unchanged.
fn column_of(expr: &Expr) -> Option<&String> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        Expr::Alias(alias) => column_of(&alias.expr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion_expr::{col, lit};

    use super::*;
    use crate::plan::NamedExpr;
    use crate::timestamp_type;

    fn scan() -> Plan {
        let fields = vec![Field::new("ts", timestamp_type(), true), Field::new("price", DataType::Int64, true)];
        Plan::Scan { relation: "bids".into(), schema: Arc::new(Schema::new(fields)) }
    }

    fn project(exprs: Vec<(Expr, &str)>) -> Plan {
        let fields: Vec<Field> = exprs.iter().map(|(_, name)| Field::new(*name, timestamp_type(), true)).collect();
        let exprs = exprs.into_iter().map(|(expr, name)| NamedExpr { expr, name: name.into() }).collect();
        Plan::Project { input: Arc::new(scan()), exprs, schema: Arc::new(Schema::new(fields)) }
    }

    fn time_of(plan: &Plan) -> TimeAttribute {
        plan.time_attribute(&|name| (name == "bids").then(|| TimeAttribute::Column("ts".into())))
    }

    #[test]
    fn a_column_keeps_being_the_event_time_under_another_name() {
        assert_eq!(time_of(&project(vec![(lit(1), "one"), (col("ts"), "at")])), TimeAttribute::Column("at".into()));
        assert_eq!(time_of(&scan()), TimeAttribute::Column("ts".into()));
    }

    #[test]
    fn a_column_that_is_left_out_or_computed_with_is_not() {
        assert_eq!(time_of(&project(vec![(col("price"), "price")])), TimeAttribute::Arrival);
        assert_eq!(time_of(&project(vec![(col("ts") + lit(1), "ts")])), TimeAttribute::Arrival);
    }
}

//! Jobs that look up in a table.

use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;
use squilla_query::{JoinKind, JoinSpec, short_text};

use super::{Setting, Stateful};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::branch::{canonical_expr, types};
use crate::operator::{LookupJoin, LookupSpec, Operator};

/// Joins the branches of a stream with the one of a table.
#[derive(Debug)]
pub(crate) struct LookupJob {
    pub(crate) join: JoinSpec,
    /// The table's name.
    pub(crate) table: String,
    /// The visible fields of the stream and of the table.
    pub(crate) fields: [SchemaRef; 2],
    pub(crate) schema: SchemaRef,
}

impl LookupJob {
    fn key(&self) -> String {
        let equal = |key: &squilla_query::JoinKey| format!("{} = {}", short_text(&key.left), short_text(&key.right));
        self.join.on.iter().map(equal).collect::<Vec<_>>().join(" and ")
    }
}

impl Stateful for LookupJob {
    fn kind(&self) -> &'static str {
        "look-up"
    }

    fn canonical(&self) -> String {
        let JoinSpec { kind, on, filter, .. } = &self.join;
        let keys: Vec<String> =
            on.iter().map(|key| format!("{}~{}", canonical_expr(&key.left), canonical_expr(&key.right))).collect();
        let filter = filter.as_ref().map(canonical_expr).unwrap_or_default();
        let [left, right] = self.fields.each_ref().map(types);
        format!("lookup({kind:?};{};{filter}){left}{right}{}", keys.join(","), types(&self.schema))
    }

    fn describe(&self) -> String {
        let what = match self.join.kind {
            JoinKind::Semi => "keep rows found in",
            JoinKind::Anti => "keep rows not found in",
            JoinKind::Left => "look up, or null, in",
            JoinKind::Inner | JoinKind::Right | JoinKind::Full => "look up in",
        };
        let condition =
            self.join.filter.as_ref().map_or(String::new(), |filter| format!(" where {}", short_text(filter)));
        format!("{what} table {} by {}{condition}", self.table, self.key())
    }

    fn describe_state(&self) -> String {
        format!("table {}: the latest row of each key", self.table)
    }

    fn describe_emission(&self) -> String {
        format!("rows as they come, with what table {} holds then", self.table)
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn exprs(&self) -> Vec<&Expr> {
        self.join.on.iter().flat_map(|key| [&key.left, &key.right]).chain(&self.join.filter).collect()
    }

    fn key_columns(&self) -> Option<usize> {
        None
    }

    fn reads_table(&self) -> bool {
        true
    }

    fn begin(&self, _watermark: EventTime) -> Option<EventTime> {
        None
    }

    fn operator(&self, setting: Setting) -> Result<Box<dyn Operator>, EngineError> {
        let of = |right: bool| setting.inputs.iter().zip(&setting.sides).filter(move |(_, side)| **side == right);
        let input = |right: bool| {
            let first = of(right).next().map(|((schema, _), _)| schema.clone());
            first.ok_or_else(|| EngineError::Plan("a look-up of one input".into()))
        };
        let spec = LookupSpec {
            table: self.table.clone(),
            inputs: [input(false)?, input(true)?],
            fields: self.fields.clone(),
            partitions: of(false).map(|((_, partitions), _)| partitions).sum(),
            on: self.join.on.clone(),
            filter: self.join.filter.clone(),
            kind: self.join.kind,
            schema: self.schema.clone(),
            state_limit_bytes: setting.state_limit_bytes,
        };
        Ok(Box::new(LookupJoin::new(spec, setting.counters)?))
    }
}

//! What the rows that functions follow are results of: windows, and the keys of groups.

use datafusion_expr::Expr;
use datafusion_sql::sqlparser::ast;

use super::group::Grouping;
use super::select::Item;
use crate::plan::{GatherKind, JoinTime, NamedExpr, Plan, RUNNING_TTL_NS};

/// Windows without a row of its own after which a key is forgotten, where windows lie on a grid.
const EMPTY_WINDOWS: i64 = 100;

/// The windows that rows are results of.
pub(super) struct Grid {
    /// How long a key is remembered after its last window, in nanoseconds of event time.
    pub(super) ttl_ns: i64,
    /// The groups' keys, and the columns that hold each; `None`: not known.
    pub(super) keys: Option<Vec<(String, Vec<String>)>>,
}

/// The windows of a plan's rows; `None`: they are not those of closed windows.
pub(super) fn series(plan: &Plan, named: &dyn Fn(&str) -> Option<Option<i64>>) -> Option<Grid> {
    let ttl = |slide_ns: i64| slide_ns.saturating_mul(EMPTY_WINDOWS);
    let of = |keys: &[NamedExpr]| Some(keys.iter().map(|key| (key.name.clone(), vec![key.name.clone()])).collect());
    match plan {
        Plan::Aggregate { window, keys, .. } => Some(Grid { ttl_ns: ttl(window.slide_ns()), keys: of(keys) }),
        Plan::Gather { gather, .. } => match gather.kind {
            GatherKind::Session { gap_ns, .. } => {
                Some(Grid { ttl_ns: ttl(gap_ns).max(RUNNING_TTL_NS), keys: of(&gather.keys) })
            }
            GatherKind::Count { .. } => None,
        },
        Plan::Scan { relation, .. } => {
            let slide_ns = named(relation)?;
            Some(Grid { ttl_ns: slide_ns.map_or(RUNNING_TTL_NS, ttl), keys: None })
        }
        Plan::Filter { input, .. } | Plan::Fill { input, .. } | Plan::Track { input, .. } => series(input, named),
        // A look-up gives each row once, or not at all.
        Plan::Join { left, join, .. } if matches!(join.time, JoinTime::Table { .. }) => series(left, named),
        Plan::Project { input, exprs, .. } => {
            let below = series(input, named)?;
            let passed = |wanted: &String| {
                let passes = |item: &&NamedExpr| matches!(&item.expr, Expr::Column(column) if column.name == *wanted);
                exprs.iter().filter(passes).map(|item| item.name.clone()).collect::<Vec<_>>()
            };
            let keys = below.keys.map(|keys| {
                keys.into_iter().map(|(name, columns)| (name, columns.iter().flat_map(passed).collect())).collect()
            });
            Some(Grid { keys, ..below })
        }
        _ => None,
    }
}

impl Grouping {
    /// What is grouped by beside the windows, in the words of the `SELECT` list; `None`: there are several sets of keys.
    pub(super) fn key_syntax(&self, items: &[Item]) -> Option<Vec<ast::Expr>> {
        let numbered = |syntax: &ast::Expr| match syntax {
            ast::Expr::Value(value) => match &value.value {
                ast::Value::Number(number, _) => items.get(number.parse::<usize>().ok()?.checked_sub(1)?),
                _ => None,
            },
            _ => None,
        };
        let key = |syntax: &ast::Expr| numbered(syntax).map_or_else(|| syntax.clone(), |item| item.syntax.clone());
        self.sets.is_none().then(|| self.syntax.iter().map(key).collect())
    }
}

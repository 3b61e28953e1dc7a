//! GROUPING SETS, CUBE and ROLLUP: one grouping for each set of keys, over the same windows, united.

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError, ScalarValue};
use datafusion_expr::{Expr, ExprSchemable, lit};
use datafusion_sql::sqlparser::ast;

use crate::diagnostic::{Diagnostic, Span};
use crate::display::short_text;
use crate::parse::{fold, unsupported};
use crate::plan::NamedExpr;
use crate::{WINDOW_END, WINDOW_START, WINDOW_TIME};

/// Sets that a GROUP BY may come to: each is a grouping of its own.
const MAX_SETS: usize = 64;

/// Expressions, and for each set, when there are any, which of them it has.
pub(super) type Sets = (Vec<ast::Expr>, Option<Vec<Vec<usize>>>);

/// Expressions of GROUP BY, and which of them each set has.
#[derive(Default)]
pub(super) struct SetReader {
    syntax: Vec<ast::Expr>,
    /// Expressions that are in all sets.
    plain: Vec<usize>,
    /// The sets of each GROUPING SETS, CUBE and ROLLUP.
    factors: Vec<Vec<Vec<usize>>>,
    refused: bool,
}

impl SetReader {
    /// Takes one item of GROUP BY.
    pub(super) fn read(&mut self, expr: &ast::Expr) {
        match expr {
            ast::Expr::GroupingSets(sets) => {
                let sets = sets.iter().map(|set| self.indices(set)).collect();
                self.factors.push(sets);
            }
            ast::Expr::Rollup(parts) => {
                let parts: Vec<Vec<usize>> = parts.iter().map(|part| self.indices(part)).collect();
                self.rollup(&parts);
            }
            ast::Expr::Cube(parts) => {
                let parts: Vec<Vec<usize>> = parts.iter().map(|part| self.indices(part)).collect();
                self.cube(&parts);
            }
            ast::Expr::Tuple(parts) if parts.is_empty() => {}
            other => {
                let index = self.index(other);
                self.plain.push(index);
            }
        }
    }

    /// `WITH ROLLUP` and `WITH CUBE`: over all items but the window's.
    pub(super) fn modify(&mut self, modifiers: &[ast::GroupByWithModifier]) {
        for modifier in modifiers {
            let of_window = |index: &usize| match &self.syntax[*index] {
                ast::Expr::Identifier(name) => [WINDOW_START, WINDOW_END, WINDOW_TIME].contains(&fold(name).as_str()),
                _ => false,
            };
            let (windows, keys): (Vec<usize>, Vec<usize>) = self.plain.iter().copied().partition(of_window);
            let parts: Vec<Vec<usize>> = keys.into_iter().map(|key| vec![key]).collect();
            self.plain = windows;
            match modifier {
                ast::GroupByWithModifier::Rollup => self.rollup(&parts),
                ast::GroupByWithModifier::Cube => self.cube(&parts),
                _ => self.refused = true,
            }
        }
    }

    /// All expressions, and the sets when there are any.
    pub(super) fn finish(self, at: Option<Span>) -> Result<Sets, Diagnostic> {
        if self.refused {
            let mistake = unsupported("GROUP BY … WITH TOTALS is not available", at);
            return Err(mistake.help("GROUPING SETS ((country), ()) gives the total too"));
        }
        let count = self.factors.iter().try_fold(1, |count: usize, sets| count.checked_mul(sets.len()));
        if count.is_none_or(|count| count > MAX_SETS) {
            let message = format!("GROUP BY comes to more than {MAX_SETS} grouping sets");
            return Err(Diagnostic::new("limit", message)
                .at(at)
                .help("name the sets that you want: GROUPING SETS (…)"));
        }
        if self.factors.is_empty() {
            return Ok((self.syntax, None));
        }
        let mut sets = vec![self.plain];
        for factor in &self.factors {
            sets = sets.iter().flat_map(|set| factor.iter().map(|more| [set.as_slice(), more].concat())).collect();
        }
        Ok((self.syntax, Some(sets)))
    }

    fn rollup(&mut self, parts: &[Vec<usize>]) {
        self.factors.push((0..=parts.len()).rev().map(|count| parts[..count].concat()).collect());
    }

    fn cube(&mut self, parts: &[Vec<usize>]) {
        // More than can be told apart here are far too many.
        let parts = &parts[..parts.len().min(16)];
        let chosen = |mask: usize| {
            let chosen = parts.iter().enumerate().filter(|(at, _)| mask & (1 << (parts.len() - 1 - at)) != 0);
            chosen.flat_map(|(_, part)| part.iter().copied()).collect()
        };
        self.factors.push((0..1 << parts.len()).rev().map(chosen).collect());
    }

    fn indices(&mut self, exprs: &[ast::Expr]) -> Vec<usize> {
        exprs.iter().map(|expr| self.index(expr)).collect()
    }

    fn index(&mut self, expr: &ast::Expr) -> usize {
        let known = self.syntax.iter().position(|known| known == expr);
        known.unwrap_or_else(|| {
            self.syntax.push(expr.clone());
            self.syntax.len() - 1
        })
    }
}

/// The expression with `grouping(a, b)` replaced by what it is in a set: for each argument, the first in the highest
/// place, a bit that is 1 where the set does not have it.
pub(super) fn grouping_bits(expr: Expr, keys: &[NamedExpr], absent: &[Expr]) -> Result<Expr, Diagnostic> {
    let mut stranger = None;
    let replaced = expr.transform_up(|expr| {
        let Expr::AggregateFunction(call) = &expr else { return Ok(Transformed::no(expr)) };
        if call.func.name() != "grouping" {
            return Ok(Transformed::no(expr));
        }
        let mut bits = 0_i32;
        for arg in &call.params.args {
            let missing = absent.contains(arg);
            if !missing && !keys.iter().any(|key| key.expr == *arg) {
                stranger = Some(short_text(arg));
            }
            bits = bits << 1 | i32::from(missing);
        }
        Ok::<_, DataFusionError>(Transformed::yes(lit(bits)))
    });
    match (stranger, replaced) {
        (None, Ok(replaced)) => Ok(replaced.data),
        (Some(name), _) => {
            let mistake = Diagnostic::new("not_grouped", format!("grouping({name}): \"{name}\" is not grouped by"));
            Err(mistake.help("it tells of a key of GROUP BY whether this row is a total over it"))
        }
        (None, Err(error)) => {
            Err(Diagnostic::new("invalid", super::expr::message(&error)).help("grouping(k) takes a key of GROUP BY"))
        }
    }
}

/// A key, and the null that it is in sets without it.
pub(super) fn nothing(key: Expr, scope: &DFSchema) -> Option<(Expr, Expr)> {
    let data_type: DataType = key.get_type(scope).ok()?;
    let null = ScalarValue::try_from(&data_type).ok()?;
    Some((key, Expr::Literal(null, None)))
}

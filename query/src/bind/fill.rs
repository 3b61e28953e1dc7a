//! `GROUP BY … FILL (NULL | 0 | PREVIOUS)`: rows for groups in windows without rows.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion_sql::sqlparser::ast;

use super::check::function_name;
use super::{Binder, Bound};
use crate::diagnostic::Diagnostic;
use crate::parse::{FILL, fold};
use crate::plan::{FillValue, Plan, WindowSpec};

/// Windows without a row after which a group is forgotten: a group that has gone neither stays on a dashboard nor in
/// memory for ever.
const EMPTY_WINDOWS: u32 = 100;

/// The FILL of a GROUP BY, as it was written for the parser.
pub(super) fn call(expr: &ast::Expr) -> Option<&ast::Function> {
    match expr {
        ast::Expr::Function(function) if function_name(function) == FILL => Some(function),
        _ => None,
    }
}

/// Groups with a row in every window.
pub(super) fn filled(bound: Bound, window: WindowSpec, keys: usize, value: FillValue) -> Bound {
    let fields = bound.schema().fields().iter().enumerate();
    let fields = fields.map(|(index, field)| {
        let nullable = field.is_nullable() || index >= 2 + keys;
        Field::new(field.name(), field.data_type().clone(), nullable)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let input = Arc::clone(&bound.plan);
    let plan = Plan::Fill { input, window, keys, value, empty_windows: EMPTY_WINDOWS, schema };
    Bound { plan: Arc::new(plan), nodes: bound.nodes + 1, ..bound }
}

impl Binder<'_> {
    /// What stands in the parentheses.
    pub(super) fn fill_value(&mut self, call: &ast::Function) -> Option<FillValue> {
        let ast::FunctionArguments::List(list) = &call.args else { return None };
        let value = match list.args.as_slice() {
            [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr))] => match expr {
                ast::Expr::Identifier(word) if ["previous", "prev"].contains(&fold(word).as_str()) => {
                    Some(FillValue::Previous)
                }
                ast::Expr::Value(value) => match &value.value {
                    ast::Value::Null => Some(FillValue::Null),
                    ast::Value::Number(number, _) if number.parse() == Ok(0.0) => Some(FillValue::Zero),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        if value.is_none() {
            let at = self.place(call);
            let mistake = Diagnostic::new("invalid", "FILL takes NULL, 0 or PREVIOUS").at(at);
            self.tell(mistake.help("write FILL (0); coalesce(…, 7) in the SELECT list puts another value for a null"));
        }
        value
    }
}

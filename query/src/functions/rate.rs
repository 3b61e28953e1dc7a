//! `rate(x)` and `count_rate(x)`: sums and counts per second of the window. Binding puts `sum` or `count` and a division
//! in their place, so that they share panes and jobs with those.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, Result, internal_err, plan_err};
use datafusion_expr::expr::AggregateFunction;
use datafusion_expr::function::AccumulatorArgs;
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, Signature, Volatility, cast, lit,
    scalar_doc_sections::DOC_SECTION_MATH,
};
use datafusion_functions_aggregate::count::count_udaf;
use datafusion_functions_aggregate::sum::sum_udaf;

/// What a call stands for.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Rate {
    name: &'static str,
    signature: Signature,
}

/// Both functions.
pub(super) fn all() -> Vec<Arc<AggregateUDF>> {
    let function = |name| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(AggregateUDF::from(Rate { name, signature }))
    };
    vec![function("rate"), function("count_rate")]
}

/// Stands for the length of the window until its bounds are known. No column can be called so.
pub(crate) const WINDOW_SECONDS: &str = "__window_seconds";

/// The expression with sums and counts by [`WINDOW_SECONDS`] in the place of rates.
pub(crate) fn expand(expr: Expr) -> Expr {
    let seconds = Expr::Column(Column::new_unqualified(WINDOW_SECONDS));
    let expanded = expr.transform_up(|expr| {
        Ok(match expr {
            Expr::AggregateFunction(call) if call.func.inner().downcast_ref::<Rate>().is_some() => {
                Transformed::yes(by(call, &seconds))
            }
            other => Transformed::no(other),
        })
    });
    expanded.expect("the closure does not fail").data
}

fn by(mut call: AggregateFunction, seconds: &Expr) -> Expr {
    let sums = call.func.name() == "rate" && !call.params.args.is_empty();
    call.func = if sums { sum_udaf() } else { count_udaf() };
    if call.params.args.is_empty() {
        call.params.args.push(lit(1i64));
    }
    cast(Expr::AggregateFunction(call), DataType::Float64) / seconds.clone()
}

impl AggregateUDFImpl for Rate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [] => Ok(Vec::new()),
            [any] if self.name == "count_rate" => Ok(vec![any.clone()]),
            [DataType::Null] => Ok(vec![DataType::Float64]),
            [kind] if kind.is_signed_integer() => Ok(vec![DataType::Int64]),
            [kind] if kind.is_unsigned_integer() => Ok(vec![DataType::UInt64]),
            [kind] if kind.is_floating() => Ok(vec![DataType::Float64]),
            [kind] if kind.is_numeric() => Ok(vec![kind.clone()]),
            [other] => plan_err!("{} takes a number, not {other}", self.name),
            more => plan_err!("{} takes one argument, not {}", self.name, more.len()),
        }
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        internal_err!("{} stands for another aggregate", self.name)
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCS: LazyLock<[Documentation; 2]> = LazyLock::new(|| {
            let doc = |what: &str, syntax: &str| Documentation::builder(DOC_SECTION_MATH, what, syntax).build();
            [
                doc("The sum of x per second of the window; rate() counts rows.", "rate(x)"),
                doc("How many rows, or values other than null, come per second of the window.", "count_rate([x])"),
            ]
        });
        Some(&DOCS[usize::from(self.name != "rate")])
    }
}

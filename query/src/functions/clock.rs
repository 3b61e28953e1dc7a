//! `now()` and its kin: when the row arrived.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::{Result, exec_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{
    ColumnarValue, Documentation, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    scalar_doc_sections::DOC_SECTION_DATETIME,
};

use crate::timestamp_type;

/// Names of the functions that tell when a row arrived, and what each makes of that moment.
const CLOCKS: [(&str, &[&str]); 3] = [
    ("now", &["current_timestamp", "localtimestamp", "proctime"]),
    ("current_date", &["today"]),
    ("current_time", &[]),
];

/// A function of the moment at which a row arrived, which is logged with it: a replay has the same. The engine puts
/// that moment in its place.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ArrivalFunction {
    name: &'static str,
    aliases: Vec<String>,
    returns: DataType,
    signature: Signature,
}

/// All of them.
pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    let function = |(name, aliases): (&'static str, &[&str])| {
        let returns = match name {
            "current_date" => DataType::Date32,
            "current_time" => DataType::Time64(TimeUnit::Nanosecond),
            _ => timestamp_type(),
        };
        let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        let signature = Signature::nullary(Volatility::Volatile);
        Arc::new(ScalarUDF::from(ArrivalFunction { name, aliases, returns, signature }))
    };
    CLOCKS.into_iter().map(function).collect()
}

/// `now()`.
pub(crate) fn arrival() -> Expr {
    static NOW: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| all().remove(0));
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&NOW), Vec::new()))
}

impl ScalarUDFImpl for ArrivalFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{} is known of rows of a stream only", self.name)
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCS: LazyLock<[Documentation; 3]> = LazyLock::new(|| {
            let doc = |what: &str, syntax: &str| Documentation::builder(DOC_SECTION_DATETIME, what, syntax).build();
            [
                doc(
                    "When the row arrived, by the wall clock. It is logged: a replay has the same. In the place of an \
                     event-time column it makes windows of processing time: tumble(PROCTIME(), '10s').",
                    "now()",
                ),
                doc("The day on which the row arrived, in UTC.", "current_date()"),
                doc("The time of day at which the row arrived, in UTC.", "current_time()"),
            ]
        });
        CLOCKS.iter().position(|(name, _)| *name == self.name).map(|at| &DOCS[at])
    }
}

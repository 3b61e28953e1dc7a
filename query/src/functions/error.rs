//! `standard_error(aggregate)`, which binding puts an estimator in the place of.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err};
use datafusion_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    scalar_doc_sections::DOC_SECTION_MATH,
};

#[derive(Debug, PartialEq, Eq, Hash)]
struct StandardError {
    signature: Signature,
}

/// The function.
pub(super) fn function() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(StandardError { signature: Signature::any(1, Volatility::Immutable) }))
}

/// Whether a call is of it.
pub(crate) fn is_standard_error(function: &ScalarUDF) -> bool {
    function.inner().downcast_ref::<StandardError>().is_some()
}

impl ScalarUDFImpl for StandardError {
    fn name(&self) -> &'static str {
        "standard_error"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("standard_error stands beside an aggregate over a sample")
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOC: LazyLock<Documentation> = LazyLock::new(|| {
            let what = "How far the estimate that count, sum or avg over a TABLESAMPLE gives is off, as one standard \
                        deviation: twice as far holds all but one time in twenty.";
            Documentation::builder(DOC_SECTION_MATH, what, "standard_error(sum(x))").build()
        });
        Some(&DOC)
    }
}

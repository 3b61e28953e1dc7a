//! DataFusion's accumulators for all groups, but for those whose results would be wrong.
//!
//! - `max` and `min` of floats: DataFusion's depend on the order of rows once one is NaN, and know no infinities. Here
//!   NaN is greater than all other numbers, as it is in comparisons and in `ORDER BY`.
//! - `sum` of whole numbers: DataFusion's starts again at the other end when it overflows. Here that is an error.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arrow::array::{ArrayRef, ArrowPrimitiveType, BooleanArray};
use arrow::datatypes::{ArrowNativeTypeOp, DataType, Float32Type, Float64Type, Int64Type, UInt64Type};
use datafusion_common::{Result, exec_err};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;

/// The accumulator for all groups of a function that has one.
///
/// # Errors
/// DataFusion's.
pub(super) fn of(function: &AggregateFunctionExpr) -> Result<Box<dyn GroupsAccumulator>> {
    let kind = function.field().data_type().clone();
    // With DISTINCT a function gathers values, not their sum.
    let ours = if function.is_distinct() { "" } else { function.fun().name() };
    // Of the many NaNs the one that is greater than all numbers.
    let double = |value: f64| if value.is_nan() { f64::NAN } else { value };
    let single = |value: f32| if value.is_nan() { f32::NAN } else { value };
    let (least, greatest) = (Ordering::Less, Ordering::Greater);
    Ok(match (ours, &kind) {
        ("max", DataType::Float64) => extreme::<Float64Type>(&kind, greatest, f64::NEG_INFINITY, double),
        ("min", DataType::Float64) => extreme::<Float64Type>(&kind, least, f64::NAN, double),
        ("max", DataType::Float32) => extreme::<Float32Type>(&kind, greatest, f32::NEG_INFINITY, single),
        ("min", DataType::Float32) => extreme::<Float32Type>(&kind, least, f32::NAN, single),
        ("sum", DataType::Int64) => sum::<Int64Type>(&kind, "BIGINT", i64::overflowing_add),
        ("sum", DataType::UInt64) => sum::<UInt64Type>(&kind, "BIGINT UNSIGNED", u64::overflowing_add),
        _ => return function.create_groups_accumulator(),
    })
}

/// Keeps what compares as `wanted` with what was kept before, by the total order of floats.
fn extreme<T>(
    kind: &DataType,
    wanted: Ordering,
    start: T::Native,
    plain: impl Fn(T::Native) -> T::Native + Send + Sync + 'static,
) -> Box<dyn GroupsAccumulator>
where
    T: ArrowPrimitiveType<Native: ArrowNativeTypeOp> + Send,
{
    let keep = move |kept: &mut T::Native, new: T::Native| {
        let new = plain(new);
        if new.compare(*kept) == wanted {
            *kept = new;
        }
    };
    Box::new(PrimitiveGroupsAccumulator::<T, _>::new(kind, keep).with_starting_value(start))
}

fn sum<T>(
    kind: &DataType,
    name: &'static str,
    add: impl Fn(T::Native, T::Native) -> (T::Native, bool) + Send + Sync + 'static,
) -> Box<dyn GroupsAccumulator>
where
    T: ArrowPrimitiveType + Send,
{
    let overflowed = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&overflowed);
    let add = move |sum: &mut T::Native, value: T::Native| {
        let (total, over) = add(*sum, value);
        *sum = total;
        if over {
            noted.store(true, Relaxed);
        }
    };
    Box::new(Checked { inner: PrimitiveGroupsAccumulator::<T, _>::new(kind, add), overflowed, name })
}

/// An accumulator that notes an overflow, which is told behind the batch in which it happened.
struct Checked<A> {
    inner: A,
    overflowed: Arc<AtomicBool>,
    /// The type that is too small.
    name: &'static str,
}

impl<A> Checked<A> {
    fn check(&self) -> Result<()> {
        if self.overflowed.load(Relaxed) { exec_err!("a sum does not fit in {}", self.name) } else { Ok(()) }
    }
}

impl<A: GroupsAccumulator> GroupsAccumulator for Checked<A> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.inner.update_batch(values, groups, filter, total)?;
        self.check()
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.inner.evaluate(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit_to)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.inner.merge_batch(values, groups, total)?;
        self.check()
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(values, filter)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Float64Array, Int64Array};

    use super::*;

    #[test]
    fn a_sum_that_does_not_fit_fails_in_rows_and_in_states() -> Result<()> {
        let accumulator = || sum::<Int64Type>(&DataType::Int64, "BIGINT", i64::overflowing_add);
        let values = |values: Vec<i64>| [Arc::new(Int64Array::from(values)) as ArrayRef];
        let mut fits = accumulator();
        fits.update_batch(&values(vec![i64::MAX - 1, 1, -5]), &[0, 0, 1], None, 2)?;
        let state = fits.state(EmitTo::All)?;
        assert_eq!(state[0].as_primitive::<Int64Type>().values(), &[i64::MAX, -5]);

        let error =
            accumulator().update_batch(&values(vec![i64::MAX, 1]), &[0, 0], None, 1).expect_err("it does not fit");
        assert!(error.to_string().contains("a sum does not fit in BIGINT"), "{error}");
        let mut merged = accumulator();
        merged.update_batch(&values(vec![i64::MIN]), &[0], None, 1)?;
        assert!(merged.merge_batch(&values(vec![-1]), &[0], 1).is_err());
        Ok(())
    }

    #[test]
    fn nan_is_greatest_in_any_order() -> Result<()> {
        let plain = |value: f64| if value.is_nan() { f64::NAN } else { value };
        for order in [[f64::NAN, 1.0, f64::NEG_INFINITY], [1.0, -f64::NAN, f64::NEG_INFINITY]] {
            let values = [Arc::new(Float64Array::from(order.to_vec())) as ArrayRef];
            let kind = DataType::Float64;
            let mut most = extreme::<Float64Type>(&kind, Ordering::Greater, f64::NEG_INFINITY, plain);
            let mut least = extreme::<Float64Type>(&kind, Ordering::Less, f64::NAN, plain);
            most.update_batch(&values, &[0, 0, 0], None, 1)?;
            least.update_batch(&values, &[0, 0, 0], None, 1)?;
            assert!(most.evaluate(EmitTo::All)?.as_primitive::<Float64Type>().value(0).is_nan());
            assert_eq!(least.evaluate(EmitTo::All)?.as_primitive::<Float64Type>().value(0), f64::NEG_INFINITY);
        }
        Ok(())
    }
}

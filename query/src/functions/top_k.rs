//! `approx_top_k(x, k)`: the most frequent values and how often they came, in bounded memory.
//!
//! Counters of values are kept; when they become too many, the median of the counts is taken off all of them and those
//! at or below zero go. What was taken off is the error: a true count is between `count - error` and `count`, and the
//! error is at most the rows divided by half the counters. Up to that many distinct values the counts are exact.
//! Summaries merge by adding. After D. Anderson et al., "A High-Performance Algorithm for Identifying Frequent Items in
//! Data Streams" (IMC 2017).

use std::collections::HashMap;
use std::mem::size_of_val;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type};
use arrow::row::{RowConverter, RowParser, SortField};
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Signature, Volatility,
    scalar_doc_sections::DOC_SECTION_OTHER,
};

/// Largest k: the result is one value of a row.
const MAX_K: i64 = 1_000;
/// Counters that are kept for each of the k; twice as many are there before a purge.
const COUNTERS_OF_K: usize = 16;
/// Least counters that are kept, whatever k is.
const MIN_COUNTERS: usize = 256;
/// Bytes that a counter takes beside its value.
const COUNTER_BYTES: usize = 48;

#[derive(Debug, PartialEq, Eq, Hash)]
struct TopK {
    signature: Signature,
    aliases: Vec<String>,
}

/// The function.
pub(super) fn function() -> Arc<AggregateUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(AggregateUDF::from(TopK { signature, aliases: vec!["approx_most_frequent".into()] }))
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

fn counted(value: &DataType) -> Fields {
    let count = |name| Field::new(name, DataType::Int64, false);
    Fields::from(vec![Field::new("value", value.clone(), true), count("count"), count("error")])
}

impl AggregateUDFImpl for TopK {
    fn name(&self) -> &'static str {
        "approx_top_k"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(list(DataType::Struct(counted(&arg_types[0]))))
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [value, k] if k.is_integer() => Ok(vec![value.clone(), DataType::Int64]),
            [_, k] => plan_err!("approx_top_k takes a whole number as its k, not {k}"),
            other => plan_err!("approx_top_k takes a value and a k, not {} arguments", other.len()),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name: &str, kind: DataType| Arc::new(Field::new(format_state_name(args.name, name), kind, false));
        let value = args.input_fields[0].data_type().clone();
        let counts = list(DataType::Int64);
        Ok(vec![field("values", list(value)), field("counts", counts), field("error", DataType::Int64)])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return plan_err!("approx_top_k counts how often values come: it takes no DISTINCT");
        }
        let k = args.exprs[1].evaluate(&arrow::array::RecordBatch::new_empty(Arc::new(args.schema.clone())));
        let k = match k {
            Ok(datafusion_expr::ColumnarValue::Scalar(ScalarValue::Int64(Some(k)))) if (1..=MAX_K).contains(&k) => k,
            _ => return plan_err!("the k of approx_top_k is a whole number from 1 to {MAX_K}"),
        };
        let value = args.expr_fields[0].data_type().clone();
        Ok(Box::new(Summary::new(value, usize::try_from(k).unwrap_or(1))?))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOC: LazyLock<Documentation> = LazyLock::new(|| {
            let what = "The k most frequent values, as an array of {value, count, error}: the true count is between \
                        count - error and count. Exact (error 0) up to 512 distinct values, or 32 k.";
            Documentation::builder(DOC_SECTION_OTHER, what, "approx_top_k(x, k)").build()
        });
        Some(&DOC)
    }
}

/// What one group has seen.
struct Summary {
    value: DataType,
    k: usize,
    /// Counters after a purge, at the most.
    kept: usize,
    rows: RowConverter,
    parser: RowParser,
    counts: HashMap<Box<[u8]>, i64>,
    value_bytes: usize,
    /// What was taken off every count.
    error: i64,
}

impl std::fmt::Debug for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Summary").field("k", &self.k).field("values", &self.counts.len()).finish_non_exhaustive()
    }
}

impl Summary {
    fn new(value: DataType, k: usize) -> Result<Self> {
        let rows = RowConverter::new(vec![SortField::new(value.clone())])?;
        let kept = MIN_COUNTERS.max(k * COUNTERS_OF_K);
        let parser = rows.parser();
        Ok(Self { value, k, kept, rows, parser, counts: HashMap::new(), value_bytes: 0, error: 0 })
    }

    fn add(&mut self, values: &ArrayRef, counts: Option<&[i64]>) -> Result<()> {
        let nulls = values.logical_nulls();
        let rows = self.rows.convert_columns(&[Arc::clone(values)])?;
        for at in (0..rows.num_rows()).filter(|at| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*at))) {
            let count = counts.map_or(1, |counts| counts[at]);
            let row = rows.row(at);
            match self.counts.get_mut(row.data()) {
                Some(known) => *known += count,
                None => {
                    self.value_bytes += row.data().len();
                    self.counts.insert(row.data().into(), count);
                }
            }
            if self.counts.len() > 2 * self.kept {
                self.purge();
            }
        }
        Ok(())
    }

    fn purge(&mut self) {
        let mut counts: Vec<i64> = self.counts.values().copied().collect();
        let middle = counts.len() / 2;
        let (_, median, _) = counts.select_nth_unstable(middle);
        let median = *median;
        self.error += median;
        self.counts.retain(|_, count| {
            *count -= median;
            *count > 0
        });
        self.value_bytes = self.counts.keys().map(|value| value.len()).sum();
    }

    /// The values with the greatest counts first; those that are equal by it in the order of values.
    fn ordered(&self) -> Vec<(&[u8], i64)> {
        let mut all: Vec<(&[u8], i64)> = self.counts.iter().map(|(value, count)| (value.as_ref(), *count)).collect();
        all.sort_unstable_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(right.0)));
        all
    }

    fn values(&self, of: &[(&[u8], i64)]) -> Result<ArrayRef> {
        let rows = of.iter().map(|(value, _)| self.parser.parse(value));
        Ok(self.rows.convert_rows(rows)?.remove(0))
    }
}

fn one_list(values: ArrayRef) -> Result<ScalarValue> {
    let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([values.len()]);
    Ok(ScalarValue::List(Arc::new(ListArray::try_new(item, offsets, values, None)?)))
}

impl Accumulator for Summary {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], None)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (values, counts) = (states[0].as_list::<i32>(), states[1].as_list::<i32>());
        let errors = states[2].as_primitive::<Int64Type>();
        for row in 0..values.len() {
            self.error += errors.value(row);
            let counts = counts.value(row);
            self.add(&values.value(row), Some(counts.as_primitive::<Int64Type>().values()))?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let all = self.ordered();
        let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(all.iter().map(|(_, count)| *count)));
        Ok(vec![one_list(self.values(&all)?)?, one_list(counts)?, ScalarValue::Int64(Some(self.error))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut first = self.ordered();
        first.truncate(self.k);
        let counts = Int64Array::from_iter_values(first.iter().map(|(_, count)| count + self.error));
        let errors = Int64Array::from_iter_values(first.iter().map(|_| self.error));
        let columns = vec![self.values(&first)?, Arc::new(counts) as ArrayRef, Arc::new(errors) as ArrayRef];
        one_list(Arc::new(StructArray::try_new(counted(&self.value), columns, None)?))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.rows.size() + self.value_bytes + self.counts.capacity() * COUNTER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(values: impl Iterator<Item = i64>) -> Summary {
        let mut summary = Summary::new(DataType::Int64, 3).expect("numbers can be told apart");
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        summary.update_batch(&[values]).expect("it counts");
        summary
    }

    fn told(summary: &mut Summary) -> Vec<(i64, i64, i64)> {
        let ScalarValue::List(list) = summary.evaluate().expect("it tells") else { panic!("it is a list") };
        let values = list.value(0);
        let column = |at: usize| values.as_struct().column(at).as_primitive::<Int64Type>().values().to_vec();
        let (values, counts, errors) = (column(0), column(1), column(2));
        (0..values.len()).map(|at| (values[at], counts[at], errors[at])).collect()
    }

    #[test]
    fn few_values_are_counted_exactly() {
        let mut some = summary([5, 7, 5, 9, 9, 5, 1].into_iter());
        assert_eq!(told(&mut some), [(5, 3, 0), (9, 2, 0), (1, 1, 0)]);
    }

    #[test]
    fn many_values_stay_within_the_error_and_so_do_merged_ones() {
        // Value 0 comes 6,000 times among 40,000 values that come once; 1 and 2 come 3,000 and 2,000 times.
        let rows = |offset: i64| {
            (0..20_000i64).flat_map(move |at| {
                let frequent = if at % 10 < 3 { Some(0) } else { None };
                let less = if at % 20 < 3 { Some(1) } else { None };
                let least = if at % 10 == 0 { Some(2) } else { None };
                [frequent, less, least, Some(10 + offset + at)].into_iter().flatten()
            })
        };
        let (mut left, mut right) = (summary(rows(0)), summary(rows(20_000)));
        let state: Vec<ArrayRef> =
            right.state().expect("a state").iter().map(|part| part.to_array().expect("an array")).collect();
        left.merge_batch(&state).expect("it merges");
        let total = 2 * (20_000 + 6_000 + 3_000 + 2_000);
        let told = told(&mut left);
        for ((value, count, error), (expected, exact)) in told.iter().zip([(0, 12_000), (1, 6_000), (2, 4_000)]) {
            assert_eq!(*value, expected);
            assert!((count - error..=*count).contains(&exact), "{exact} in {}..={count}", count - error);
            assert!(*error <= total / MIN_COUNTERS as i64, "{error}");
        }
        assert!(left.counts.len() <= 2 * MIN_COUNTERS);
    }
}

//! What functions remember of the windows of keys.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt32Type};
use arrow::row::{RowConverter, SortField};
use squilla_query::TrackFunction;

use super::state::{State, check_count, values};
use crate::error::EngineError;

/// Of a normal distribution the median absolute deviation times this is the standard deviation.
const MAD_TO_DEVIATION: f64 = 1.4826;
/// And the mean absolute deviation times this, which is taken where more than half of the values are equal.
const MEAN_TO_DEVIATION: f64 = 1.253_314;
const NANOSECONDS: f64 = 1e9;

/// What one function remembers of all keys.
pub(super) enum Memory {
    /// Of a function of numbers.
    Numbers { function: TrackFunction, keys: Vec<Numbers>, scratch: Vec<f64>, bytes: usize },
    /// Values as they were, each as a row of bytes.
    Values { windows: usize, kind: DataType, converter: RowConverter, keys: Vec<VecDeque<Vec<u8>>>, bytes: usize },
}

/// What is remembered of a key's numbers.
#[derive(Debug, Default, Clone)]
pub(super) struct Numbers {
    /// How many there were.
    count: u32,
    /// The last ones; once they are as many as are looked back at, the oldest is at `count` modulo their length.
    last: Vec<f64>,
    mean: f64,
    variance: f64,
    /// Time and value of the last.
    previous: Option<(i64, f64)>,
}

impl Memory {
    /// No keys yet, of a function of values of a type.
    ///
    /// # Errors
    /// [`EngineError::Arrow`] when values of the type cannot be kept.
    pub(super) fn new(function: &TrackFunction, kind: &DataType) -> Result<Self, EngineError> {
        Ok(match function {
            TrackFunction::Lag { windows } => Self::Values {
                windows: *windows as usize,
                kind: kind.clone(),
                converter: RowConverter::new(vec![SortField::new(kind.clone())])?,
                keys: Vec::new(),
                bytes: 0,
            },
            _ => Self::Numbers { function: function.clone(), keys: Vec::new(), scratch: Vec::new(), bytes: 0 },
        })
    }

    /// What the function gives for rows of the keys `ids`, of which there are `known`, in their order.
    ///
    /// # Errors
    /// [`EngineError::Arrow`] when the column is not of the type.
    pub(super) fn follow(
        &mut self,
        column: &ArrayRef,
        ids: &[usize],
        known: usize,
        time: i64,
    ) -> Result<ArrayRef, EngineError> {
        match self {
            Self::Numbers { function, keys, scratch, bytes } => {
                *bytes += known.saturating_sub(keys.len()) * size_of::<Numbers>();
                keys.resize(known.max(keys.len()), Numbers::default());
                let column = cast(column, &DataType::Float64)?;
                let numbers = column.as_primitive::<Float64Type>();
                let mut results = Float64Array::builder(ids.len());
                for (row, id) in ids.iter().enumerate() {
                    let value = numbers.is_valid(row).then(|| numbers.value(row)).filter(|value| value.is_finite());
                    let key = &mut keys[*id];
                    let before = key.last.capacity();
                    results.append_option(value.and_then(|value| key.follow(function, time, value, scratch)));
                    *bytes += (key.last.capacity() - before) * size_of::<f64>();
                }
                Ok(Arc::new(results.finish()))
            }
            Self::Values { windows, converter, keys, bytes, .. } => {
                *bytes += known.saturating_sub(keys.len()) * size_of::<VecDeque<Vec<u8>>>();
                keys.resize(known.max(keys.len()), VecDeque::new());
                let nothing = converter.convert_columns(&[arrow::array::new_null_array(column.data_type(), 1)])?;
                let rows = converter.convert_columns(&[Arc::clone(column)])?;
                let mut results = converter.empty_rows(ids.len(), 0);
                let parser = converter.parser();
                for (row, id) in ids.iter().enumerate() {
                    let key = &mut keys[*id];
                    let (mut kept, full) = (Vec::new(), key.len() == *windows);
                    if full {
                        kept = key.pop_front().unwrap_or_default();
                        results.push(parser.parse(&kept));
                    } else {
                        results.push(nothing.row(0));
                    }
                    let held = kept.capacity();
                    kept.clear();
                    kept.extend_from_slice(rows.row(row).as_ref());
                    *bytes = *bytes + kept.capacity() - held;
                    *bytes += if full { 0 } else { size_of::<Vec<u8>>() };
                    key.push_back(kept);
                }
                let column = converter.convert_rows(&results)?.into_iter().next();
                column.ok_or_else(|| EngineError::Plan("a row of no columns".to_owned()))
            }
        }
    }

    /// Forgets what it knows of a key.
    pub(super) fn begin_anew(&mut self, id: usize) {
        match self {
            Self::Numbers { keys, bytes, .. } => {
                if let Some(key) = keys.get_mut(id) {
                    *bytes -= key.last.capacity() * size_of::<f64>();
                    *key = Numbers::default();
                }
            }
            Self::Values { keys, bytes, .. } => {
                if let Some(key) = keys.get_mut(id) {
                    *bytes -= values_bytes(key);
                    *key = VecDeque::new();
                }
            }
        }
    }

    /// Forgets all keys but those that stay, which are numbered anew in their order.
    pub(super) fn retain(&mut self, stays: &BooleanArray) {
        let mut kept = stays.values().iter();
        match self {
            Self::Numbers { keys, bytes, .. } => {
                keys.retain(|_| kept.next().unwrap_or(false));
                *bytes = numbers_bytes(keys);
            }
            Self::Values { keys, bytes, .. } => {
                keys.retain(|_| kept.next().unwrap_or(false));
                let of_keys = keys.len() * size_of::<VecDeque<Vec<u8>>>();
                *bytes = of_keys + keys.iter().map(values_bytes).sum::<usize>();
            }
        }
    }

    /// Puts what is remembered, key by key, behind what a state holds.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn save(&self, state: &mut State) -> Result<(), EngineError> {
        match self {
            Self::Numbers { keys, .. } => {
                let numbers = |of: fn(&Numbers) -> f64| -> ArrayRef {
                    Arc::new(Float64Array::from_iter_values(keys.iter().map(of)))
                };
                let previous = || keys.iter().map(|key| key.previous);
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(UInt32Array::from_iter_values(keys.iter().map(|key| key.count))),
                    numbers(|key| key.mean),
                    numbers(|key| key.variance),
                    Arc::new(previous().map(|last| last.map(|last| last.0)).collect::<Int64Array>()),
                    Arc::new(previous().map(|last| last.map(|last| last.1)).collect::<Float64Array>()),
                    counts(keys.iter().map(|key| key.last.len())),
                ];
                state.put_columns(columns, keys.len())?;
                let last: Float64Array = keys.iter().flat_map(|key| &key.last).copied().map(Some).collect();
                let count = last.len();
                state.put_columns(vec![Arc::new(last)], count)
            }
            Self::Values { converter, keys, .. } => {
                state.put_columns(vec![counts(keys.iter().map(VecDeque::len))], keys.len())?;
                let parser = converter.parser();
                let rows = keys.iter().flatten().map(|value| parser.parse(value));
                let columns = converter.convert_rows(rows)?;
                let count = keys.iter().map(VecDeque::len).sum();
                state.put_columns(columns, count)
            }
        }
    }

    /// Takes it from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        match self {
            Self::Numbers { keys, bytes, .. } => {
                let (number, float) = (DataType::UInt32, DataType::Float64);
                let kinds = [number.clone(), float.clone(), float.clone(), DataType::Int64, float.clone(), number];
                let (columns, len) = state.take_columns(&kinds)?;
                let (last, count) = state.take_columns(&[float])?;
                let (mut last, counts) = (values::<Float64Type>(&last[0]).into_iter(), lengths(&columns[5], count)?);
                let [mean, variance, value] = [1, 2, 4].map(|at: usize| values::<Float64Type>(&columns[at]));
                let (seen, time) = (values::<UInt32Type>(&columns[0]), values::<Int64Type>(&columns[3]));
                let of_key = |at: usize| Numbers {
                    count: seen[at],
                    last: last.by_ref().take(counts[at]).collect(),
                    mean: mean[at],
                    variance: variance[at],
                    previous: columns[3].is_valid(at).then(|| (time[at], value[at])),
                };
                *keys = (0..len).map(of_key).collect();
                *bytes = numbers_bytes(keys);
            }
            Self::Values { converter, keys, bytes, kind, .. } => {
                let (columns, _) = state.take_columns(&[DataType::UInt32])?;
                let (kept, count) = state.take_columns(std::slice::from_ref(kind))?;
                let (rows, counts) = (converter.convert_columns(&kept)?, lengths(&columns[0], count)?);
                let mut kept = rows.iter().map(|row| row.as_ref().to_vec());
                *keys = counts.into_iter().map(|count| kept.by_ref().take(count).collect()).collect();
                *bytes = keys.len() * size_of::<VecDeque<Vec<u8>>>() + keys.iter().map(values_bytes).sum::<usize>();
            }
        }
        Ok(())
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Numbers { bytes, .. } | Self::Values { bytes, .. } => *bytes,
        }
    }
}

fn numbers_bytes(keys: &[Numbers]) -> usize {
    let last = |key: &Numbers| key.last.capacity() * size_of::<f64>();
    size_of_val(keys) + keys.iter().map(last).sum::<usize>()
}

/// Lengths as a column.
fn counts(lengths: impl Iterator<Item = usize>) -> ArrayRef {
    // What a function looks back at is counted in 32 bits.
    Arc::new(UInt32Array::from_iter_values(lengths.map(|length| length as u32)))
}

/// The lengths of a column of such, whose sum is `total`.
fn lengths(column: &ArrayRef, total: usize) -> Result<Vec<usize>, EngineError> {
    let lengths: Vec<usize> = values::<UInt32Type>(column).into_iter().map(|length| length as usize).collect();
    check_count("values", total, lengths.iter().sum())?;
    Ok(lengths)
}

fn values_bytes(key: &VecDeque<Vec<u8>>) -> usize {
    key.iter().map(|value| value.capacity() + size_of::<Vec<u8>>()).sum()
}

impl Numbers {
    fn follow(&mut self, function: &TrackFunction, time: i64, value: f64, scratch: &mut Vec<f64>) -> Option<f64> {
        let count = self.count;
        self.count = self.count.saturating_add(1);
        match function {
            TrackFunction::RobustZscore { windows, min_count } => {
                let seen = self.last.len();
                let score = (seen >= *min_count as usize).then(|| robust(&self.last, value, scratch));
                if seen < *windows as usize {
                    self.last.push(value);
                } else {
                    self.last[(count % windows) as usize] = value;
                }
                score
            }
            TrackFunction::Ewma { alpha } => {
                self.mean = if count == 0 { value } else { self.mean + alpha * (value - self.mean) };
                Some(self.mean)
            }
            TrackFunction::EwmaBand { alpha, deviations, min_count } => {
                let bound = (count >= *min_count).then(|| self.mean + deviations * self.variance.sqrt());
                let difference = value - self.mean;
                if count == 0 {
                    self.mean = value;
                } else {
                    self.mean += alpha * difference;
                    self.variance = (1.0 - alpha) * (self.variance + alpha * difference * difference);
                }
                bound
            }
            TrackFunction::RateOfChange => {
                let (then, was) = self.previous.replace((time, value)).filter(|(then, _)| *then < time)?;
                Some((value - was) / (time.saturating_sub(then) as f64 / NANOSECONDS))
            }
            TrackFunction::Lag { .. } => None,
        }
    }
}

/// How many deviations a value is from the median.
fn robust(numbers: &[f64], value: f64, scratch: &mut Vec<f64>) -> f64 {
    scratch.clear();
    scratch.extend_from_slice(numbers);
    let middle = median(scratch);
    let away = value - middle;
    scratch.iter_mut().for_each(|number| *number = (*number - middle).abs());
    let spread = MAD_TO_DEVIATION * median(scratch);
    if spread > 0.0 {
        return away / spread;
    }
    let spread = MEAN_TO_DEVIATION * scratch.iter().sum::<f64>() / scratch.len() as f64;
    // Where all were equal, whatever differs is infinitely far.
    if away == 0.0 { 0.0 } else { away / spread }
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    let half = numbers.len() / 2;
    if numbers.len() % 2 == 1 { numbers[half] } else { f64::midpoint(numbers[half - 1], numbers[half]) }
}

//! What functions remember of the windows of keys.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::row::{RowConverter, SortField};
use squilla_query::TrackFunction;

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
    Values { windows: usize, converter: RowConverter, keys: Vec<VecDeque<Vec<u8>>>, bytes: usize },
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
            Self::Values { windows, converter, keys, bytes } => {
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
                let numbers = |key: &Numbers| key.last.capacity() * size_of::<f64>();
                *bytes = keys.len() * size_of::<Numbers>() + keys.iter().map(numbers).sum::<usize>();
            }
            Self::Values { keys, bytes, .. } => {
                keys.retain(|_| kept.next().unwrap_or(false));
                let of_keys = keys.len() * size_of::<VecDeque<Vec<u8>>>();
                *bytes = of_keys + keys.iter().map(values_bytes).sum::<usize>();
            }
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Numbers { bytes, .. } | Self::Values { bytes, .. } => *bytes,
        }
    }
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

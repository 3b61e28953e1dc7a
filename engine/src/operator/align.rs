//! One order for the rows of several partitions, whatever the order in which their batches come.

use std::collections::VecDeque;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, TimestampNanosecondType};

use super::state::{State, check_count, check_kinds};
use crate::error::EngineError;

/// Holds rows of partitions that are ahead until the others have come as far. Rows go by the watermark that the rows
/// before them in their partition imply, then by partition, then by place in it: an order that follows from the
/// partitions alone. With one partition nothing is held.
pub(super) struct Align {
    partitions: Vec<Lane>,
    bytes: usize,
}

struct Lane {
    /// Behind the last row that has come.
    watermark: i64,
    /// It holds back the others.
    active: bool,
    held: VecDeque<Held>,
}

/// Columns of rows, and the watermark before each. Later rows may have more columns, or fewer.
struct Held {
    columns: Vec<ArrayRef>,
    watermarks: ArrayRef,
}

impl Held {
    fn watermarks(&self) -> &[i64] {
        self.watermarks.as_primitive::<TimestampNanosecondType>().values()
    }

    fn bytes(&self) -> usize {
        self.columns.iter().chain([&self.watermarks]).map(|column| column.get_array_memory_size()).sum()
    }
}

/// Rows in order.
pub(super) struct Aligned {
    /// Their columns: those that all of them have.
    pub(super) columns: Vec<ArrayRef>,
    /// The watermark before each, of type TIMESTAMP.
    pub(super) watermarks: ArrayRef,
}

impl Align {
    /// Nothing is held yet, and nothing known of the partitions.
    pub(super) fn new(partitions: u32) -> Self {
        let lane = || Lane { watermark: i64::MIN, active: true, held: VecDeque::new() };
        Self { partitions: (0..partitions).map(|_| lane()).collect(), bytes: 0 }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts what is held behind what a state holds.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn save(&self, state: &mut State) -> Result<(), EngineError> {
        let lanes = self.partitions.iter().map(|lane| (lane.watermark, lane.active, lane.held.len()));
        state.put(&lanes.collect::<Vec<_>>())?;
        for held in self.partitions.iter().flat_map(|lane| &lane.held) {
            let columns = [std::slice::from_ref(&held.watermarks), &held.columns].concat();
            state.put_columns(columns, held.watermarks.len())?;
        }
        Ok(())
    }

    /// Takes it from the front of a state; `kinds`: the types of the first columns.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restore(&mut self, kinds: &[DataType], state: &mut State) -> Result<(), EngineError> {
        let lanes: Vec<(i64, bool, usize)> = state.take()?;
        check_count("partitions", lanes.len(), self.partitions.len())?;
        let time = squilla_query::timestamp_type();
        for (lane, (watermark, active, pieces)) in self.partitions.iter_mut().zip(lanes) {
            (lane.watermark, lane.active) = (watermark, active);
            for _ in 0..pieces {
                let rows = state.take_rows()?;
                let known = rows.columns().get(..kinds.len() + 1).unwrap_or_default();
                check_kinds(known, &[std::slice::from_ref(&time), kinds].concat())?;
                let held = Held { watermarks: known[0].clone(), columns: rows.columns()[1..].to_vec() };
                self.bytes += held.bytes();
                lane.held.push_back(held);
            }
        }
        Ok(())
    }

    /// Takes rows of a partition, which has come to `watermark` or was found idle at it.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when there is no such partition.
    pub(super) fn push(
        &mut self,
        partition: u32,
        columns: Vec<ArrayRef>,
        watermarks: ArrayRef,
        watermark: i64,
        idle: bool,
    ) -> Result<(), EngineError> {
        let lane = self.lane(partition)?;
        lane.watermark = lane.watermark.max(watermark);
        lane.active = !idle;
        let held = Held { columns, watermarks };
        if !held.watermarks.is_empty() {
            let bytes = held.bytes();
            lane.held.push_back(held);
            self.bytes += bytes;
        }
        Ok(())
    }

    /// A partition gets no further rows.
    ///
    /// # Errors
    /// As [`Align::push`].
    pub(super) fn end(&mut self, partition: u32) -> Result<(), EngineError> {
        self.lane(partition)?.active = false;
        Ok(())
    }

    /// All rows whose turn has come.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn release(&mut self) -> Result<Option<Aligned>, EngineError> {
        let mut released: Vec<Held> = Vec::new();
        for at in 0..self.partitions.len() {
            let limit = self.limit(at);
            let lane = &mut self.partitions[at];
            while let Some(first) = lane.held.front() {
                let ready = match limit {
                    None => first.watermarks.len(),
                    Some((watermark, other)) => {
                        let before = |own: &i64| (*own, at) < (watermark, other);
                        first.watermarks().partition_point(before)
                    }
                };
                if ready == 0 {
                    break;
                }
                let whole = lane.held.pop_front().expect("there is a first");
                self.bytes = self.bytes.saturating_sub(whole.bytes());
                let rest = whole.watermarks.len() - ready;
                if rest > 0 {
                    let rest = whole.slice(ready, rest);
                    self.bytes += rest.bytes();
                    lane.held.push_front(rest);
                    released.push(whole.slice(0, ready));
                    break;
                }
                released.push(whole);
            }
        }
        join(released)
    }

    /// The least watermark of the other partitions that are active, and which that is: rows before it may go.
    fn limit(&self, at: usize) -> Option<(i64, usize)> {
        let others = self.partitions.iter().enumerate().filter(|(other, lane)| *other != at && lane.active);
        others.map(|(other, lane)| (lane.watermark, other)).min()
    }

    fn lane(&mut self, partition: u32) -> Result<&mut Lane, EngineError> {
        let count = self.partitions.len();
        self.partitions
            .get_mut(partition as usize)
            .ok_or_else(|| EngineError::Plan(format!("partition {partition} where there are {count}")))
    }
}

impl Held {
    fn slice(&self, from: usize, rows: usize) -> Self {
        Self {
            columns: self.columns.iter().map(|column| column.slice(from, rows)).collect(),
            watermarks: self.watermarks.slice(from, rows),
        }
    }
}

/// Pieces, in order of their partitions, as one in order of watermarks.
fn join(mut pieces: Vec<Held>) -> Result<Option<Aligned>, EngineError> {
    if pieces.len() < 2 {
        return Ok(pieces.pop().map(|Held { columns, watermarks }| Aligned { columns, watermarks }));
    }
    let one = |arrays: Vec<&dyn Array>| concat(&arrays);
    let watermarks = one(pieces.iter().map(|piece| piece.watermarks.as_ref()).collect())?;
    let common = pieces.iter().map(|piece| piece.columns.len()).min().unwrap_or_default();
    let columns = (0..common)
        .map(|idx| one(pieces.iter().map(|piece| piece.columns[idx].as_ref()).collect()))
        .collect::<Result<Vec<_>, _>>()?;
    let marks = watermarks.as_primitive::<TimestampNanosecondType>().values();
    if marks.is_sorted() {
        return Ok(Some(Aligned { columns, watermarks }));
    }
    let count = u32::try_from(marks.len()).map_err(|_| EngineError::Plan("too many rows at once".into()))?;
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_by_key(|row| marks[*row as usize]);
    let order = UInt32Array::from(order);
    let columns = columns.iter().map(|column| take(column, &order, None)).collect::<Result<_, _>>()?;
    Ok(Some(Aligned { columns, watermarks: take(&watermarks, &order, None)? }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::TimestampNanosecondArray;

    use super::*;

    fn push(align: &mut Align, partition: u32, marks: &[i64], watermark: i64) {
        let marks: ArrayRef = Arc::new(TimestampNanosecondArray::from(marks.to_vec()));
        align.push(partition, vec![Arc::clone(&marks)], marks, watermark, false).expect("a partition");
    }

    fn released(align: &mut Align) -> Vec<i64> {
        let rows = align.release().expect("it releases");
        rows.map_or_else(Vec::new, |rows| {
            let column = rows.columns[0].as_primitive::<TimestampNanosecondType>();
            column.values().to_vec()
        })
    }

    #[test]
    fn rows_wait_for_partitions_that_are_behind() {
        let mut align = Align::new(2);
        push(&mut align, 1, &[i64::MIN, 3, 7], 9);
        assert_eq!(released(&mut align), [0i64; 0]);
        assert!(align.bytes() > 0);
        push(&mut align, 0, &[i64::MIN, 5], 7);
        // The other is at 7 and has the first word there.
        assert_eq!(released(&mut align), [i64::MIN, i64::MIN, 3, 5]);
        align.end(0).expect("a partition");
        assert_eq!(released(&mut align), [7]);
        assert_eq!(align.bytes(), 0);
    }
}

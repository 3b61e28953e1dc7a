//! Which rows of a stream's batches meet which conditions. Where a batch takes long, those that come next and are there
//! already are searched with it, by all threads that have nothing else to do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::columns::pick;
use crate::batch::StreamBatch;
use crate::error::EngineError;
use crate::operator::{Crew, CrewPart, Matches, Predicate, PredicateIndex, Scratch};

/// A batch that takes so long is searched with others: waking a helper takes a small part of it.
const LONG: Duration = Duration::from_micros(25);
/// What is searched at once takes so long, on one thread: the rows that are found first wait for it.
const AT_ONCE: Duration = Duration::from_millis(4);
/// Batches that are searched at once, at the most, unless there are more threads.
const BATCHES_AT_ONCE: usize = 16;

/// See the module.
pub(super) struct Search {
    index: Arc<PredicateIndex>,
    crew: Option<Arc<Crew>>,
    /// Room for each thread that searches, and for what is found.
    scratch: Arc<Mutex<Vec<Scratch>>>,
    spare: Vec<Matches>,
    /// What was found in batches that come next.
    ahead: VecDeque<(Arc<StreamBatch>, Found)>,
    /// How long a batch took, the last time.
    took: Duration,
    /// What others have spent on it that nobody has counted yet.
    helped: Duration,
}

/// What was found in a batch.
pub(super) struct Found {
    pub(super) matches: Matches,
    /// The columns of all rows that meet predicates, those of each behind each other; `None`: they are chosen later.
    pub(super) picked: Option<RecordBatch>,
}

impl Found {
    fn new(matches: Matches, columns: Option<RecordBatch>) -> Result<Self, EngineError> {
        let (count, _) = matches.sizes();
        // A row that thousands get is not there thousands of times.
        let few = |columns: &RecordBatch| (1..=columns.num_rows()).contains(&count);
        let Some(columns) = columns.filter(few) else { return Ok(Self { matches, picked: None }) };
        let mut rows = Vec::with_capacity(count);
        matches.iter().for_each(|(_, own)| rows.extend_from_slice(own));
        Ok(Self { picked: Some(pick(&columns, &rows.into())?), matches })
    }
}

impl Search {
    pub(super) fn new(input: &SchemaRef, crew: Option<Arc<Crew>>) -> Self {
        Self {
            index: Arc::new(PredicateIndex::new(input)),
            crew,
            scratch: Arc::default(),
            spare: Vec::new(),
            ahead: VecDeque::new(),
            took: Duration::ZERO,
            helped: Duration::ZERO,
        }
    }

    /// Adds a predicate under a number that no other has.
    ///
    /// # Errors
    /// As [`PredicateIndex::add`].
    pub(super) fn add(&mut self, slot: u32, predicate: Predicate) -> Result<(), EngineError> {
        self.index().add(slot, predicate)
    }

    /// Takes a predicate out.
    pub(super) fn remove(&mut self, slot: u32) {
        self.index().remove(slot);
    }

    /// The index, to be changed: what was found ahead is of no use then.
    fn index(&mut self) -> &mut PredicateIndex {
        self.ahead.clear();
        Arc::get_mut(&mut self.index).expect("whoever helps has let go of it when a search ends")
    }

    /// Finds the rows of a batch that meet each predicate. `upcoming`: so many batches that come next, if they are there.
    ///
    /// # Errors
    /// As [`PredicateIndex::find`], of any batch that was searched.
    pub(super) fn find(
        &mut self,
        batch: &Arc<StreamBatch>,
        upcoming: impl FnOnce(usize) -> Vec<Arc<StreamBatch>>,
        mut columns: impl FnMut(&StreamBatch) -> Option<RecordBatch>,
    ) -> Result<Found, EngineError> {
        while let Some((of, found)) = self.ahead.pop_front() {
            if Arc::ptr_eq(&of, batch) {
                return Ok(found);
            }
            self.spare.push(found.matches);
        }
        self.index().settle();
        let started = Instant::now();
        let mut batches = vec![batch.clone()];
        if let Some(crew) = self.crew.as_ref().filter(|_| self.took >= LONG) {
            let wanted = AT_ONCE.div_duration_f64(self.took) as usize;
            batches.extend(upcoming(wanted.min(BATCHES_AT_ONCE).max(crew.threads()) - 1));
        }
        let parts: Vec<CrewPart<_>> = batches.iter().map(|batch| self.part(batch.clone(), columns(batch))).collect();
        let found = match &self.crew {
            Some(crew) => crew.all(parts),
            None => parts.into_iter().map(|part| part()).collect(),
        };
        let spent: Duration = found.iter().map(|(_, took)| *took).sum();
        self.took = spent / u32::try_from(batches.len()).unwrap_or(u32::MAX);
        self.helped += spent.saturating_sub(started.elapsed());
        for (batch, (found, _)) in batches.into_iter().zip(found) {
            self.ahead.push_back((batch, found?));
        }
        let (_, found) = self.ahead.pop_front().expect("one of its own");
        Ok(found)
    }

    fn part(
        &mut self,
        batch: Arc<StreamBatch>,
        columns: Option<RecordBatch>,
    ) -> CrewPart<(Result<Found, EngineError>, Duration)> {
        let (index, scratch) = (self.index.clone(), self.scratch.clone());
        let mut matches = self.spare.pop().unwrap_or_default();
        Box::new(move || {
            let started = Instant::now();
            let room = || scratch.lock().unwrap_or_else(PoisonError::into_inner);
            let mut own = room().pop().unwrap_or_default();
            let found = index.find(&batch.rows, batch.arrival, &mut own, &mut matches);
            room().push(own);
            let found = found.and_then(|()| Found::new(matches, columns));
            (found, started.elapsed())
        })
    }

    /// Room for what is found next.
    pub(super) fn reuse(&mut self, matches: Matches) {
        self.spare.push(matches);
    }

    /// What others have spent on it since this was asked for.
    pub(super) fn helped(&mut self) -> Duration {
        std::mem::take(&mut self.helped)
    }
}

#[cfg(test)]
mod tests {
    use datafusion_expr::{col, lit};

    use super::*;
    use crate::job::route::gather::tests::batch;

    /// One that looks ahead: each batch is said to have taken so long.
    fn search(took: Duration) -> Search {
        let input = batch(0, 0, &[]).rows.schema();
        Search { took, ..Search::new(&input, Some(Arc::new(Crew::apart(2)))) }
    }

    fn wait_for(search: &mut Search, slot: u32, number: i64) {
        let schema = batch(0, 0, &[]).rows.schema();
        let predicate = Predicate::new(&[&col("n").eq(lit(number))], &schema).expect("it can be looked up");
        search.add(slot, predicate).expect("it can be computed");
    }

    fn batches(count: u64) -> Vec<Arc<StreamBatch>> {
        let numbers = |first: u64| (0..50).map(|at| (first.cast_signed() + at) % 7).collect::<Vec<_>>();
        (0..count).map(|first| Arc::new(batch(0, first, &numbers(first)))).collect()
    }

    /// The rows that meet each predicate, found in this batch; `None` in the end: nobody was asked what comes next.
    fn found(search: &mut Search, all: &[Arc<StreamBatch>], at: usize) -> (Vec<(u32, Vec<u32>)>, Option<usize>) {
        let mut asked = None;
        let upcoming = |most: usize| {
            asked = Some(most);
            all[at + 1..].iter().take(most).cloned().collect()
        };
        let Found { matches, picked } = search.find(&all[at], upcoming, |_| None).expect("nothing fails");
        assert!(picked.is_none());
        let found = matches.iter().map(|(slot, rows)| (slot, rows.to_vec())).collect();
        search.reuse(matches);
        (found, asked)
    }

    #[test]
    fn what_was_found_ahead_is_what_is_found_in_each() {
        let all = batches(10);
        let (mut ahead, mut each) = (search(AT_ONCE / 4), search(Duration::ZERO));
        for slot in 0..7 {
            wait_for(&mut ahead, slot, slot.into());
            wait_for(&mut each, slot, slot.into());
        }
        for at in 0..all.len() {
            let (together, asked) = found(&mut ahead, &all, at);
            assert_eq!(asked, (at % 4 == 0).then_some(3), "three more with each fourth");
            assert_eq!(together, found(&mut each, &all, at).0);
            assert_eq!(together.len(), 7);
            (ahead.took, each.took) = (AT_ONCE / 4, Duration::ZERO);
        }
    }

    #[test]
    fn what_was_found_before_somebody_came_or_went_is_not_told() {
        let all = batches(4);
        let mut search = search(AT_ONCE / 4);
        let slots = |search: &mut Search, at: usize| {
            search.took = AT_ONCE / 4;
            found(search, &all, at).0.into_iter().map(|(slot, _)| slot).collect::<Vec<_>>()
        };
        wait_for(&mut search, 0, 0);
        wait_for(&mut search, 1, 1);
        assert_eq!(slots(&mut search, 0), [0, 1]);
        search.remove(0);
        assert_eq!(slots(&mut search, 1), [1]);
        wait_for(&mut search, 0, 6);
        assert_eq!(slots(&mut search, 2), [0, 1]);
        // One that was passed over: those before it are of no use.
        assert_eq!(slots(&mut search, 0), [0, 1]);
        assert_eq!(slots(&mut search, 3), [0, 1]);
    }
}

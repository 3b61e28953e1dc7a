//! Panes that a crew works on while whoever owns them reads on.
//!
//! Rows of different panes have nothing to do with each other, and those of event times in some order come pane by pane.
//! So a thread takes the next pane while another is still at the one before: nothing is dealt out, nothing is merged, and
//! each pane takes its rows in their order, from one thread at a time, so that whatever an aggregate depends on is as if
//! there were one thread. What has to be done with a pane lies in line; who comes takes the first whose pane nobody is at.
//! The owner comes when the line is long, and finds work in another pane than its helpers where the line is longer than a
//! pane's rows.
//!
//! That results are told in order, whatever order they are computed in, is after A. Koliousis et al., "SABER: Window-Based
//! Hybrid Stream Processing for Heterogeneous Architectures" (SIGMOD 2016).

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use arrow::array::ArrayRef;

use super::crew::Crew;
use super::grouping::{Grouping, Results, Sealed};
use super::pane::{Pane, PaneKey};
use super::shards::Dealer;
use super::windows::by_shard;
use crate::error::EngineError;

/// Rows that lie in line at the most, so that they are still in a cache when it is their turn.
const AHEAD_ROWS: usize = 262_144;
/// Bytes of rows that lie in line at the most: as much again as a job may have handed over.
const AHEAD_BYTES: usize = 16 << 20;

/// See the module.
pub(super) struct Yard {
    crew: Arc<Crew>,
    board: Arc<Board>,
    lent: BTreeMap<PaneKey, Lent>,
    ahead_rows: usize,
}

/// Rows for a pane.
pub(super) struct Delivery {
    pub(super) key: PaneKey,
    pub(super) columns: Vec<ArrayRef>,
    pub(super) rows: usize,
    /// What they hold.
    pub(super) bytes: usize,
}

/// The results of a window, once they are there.
pub(super) struct Promise(Arc<Mutex<Option<Vec<Results>>>>);

/// A pane that was lent, and whether there may be something in it that is not sealed.
struct Lent {
    cell: Arc<Cell>,
    unsealed: bool,
}

struct Cell {
    pane: Mutex<Pane>,
    /// Somebody is at it. Changed by whoever holds the line.
    busy: AtomicBool,
    /// What the pane held when it was looked at last, which is part of `total`.
    bytes: AtomicUsize,
    total: Arc<AtomicUsize>,
}

struct Board {
    grouping: Arc<Grouping>,
    dealer: Option<Arc<Dealer>>,
    line: Mutex<Line>,
    changed: Condvar,
    bytes: Arc<AtomicUsize>,
    most_groups: AtomicUsize,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Errand>,
    /// Errands that somebody is at.
    running: usize,
    helpers: usize,
    /// Of what is waiting or running.
    rows: usize,
    bytes: usize,
    failure: Option<Failure>,
}

enum Failure {
    Error(EngineError),
    Panic(Box<dyn Any + Send>),
}

/// Something to be done with panes, after all that was to be done with them before.
struct Errand {
    cells: Vec<Arc<Cell>>,
    task: Task,
}

enum Task {
    Take { columns: Vec<ArrayRef>, rows: usize, bytes: usize },
    Seal,
    Close(Promise),
    Merge(Promise),
}

impl Yard {
    /// Nothing is lent. `dealer`: how rows come to panes whose groups are dealt out.
    pub(super) fn new(crew: Arc<Crew>, grouping: Arc<Grouping>, dealer: Option<Arc<Dealer>>) -> Self {
        let (line, changed, bytes, most_groups) = Default::default();
        let board = Arc::new(Board { grouping, dealer, line, changed, bytes, most_groups });
        Self { crew, board, lent: BTreeMap::new(), ahead_rows: AHEAD_ROWS }
    }

    /// Lets fewer rows lie in line.
    #[cfg(test)]
    pub(super) fn set_ahead_rows(&mut self, rows: usize) {
        self.ahead_rows = rows;
    }

    /// Whether panes are lent, or something is not done that was asked for.
    pub(super) fn is_busy(&self) -> bool {
        !self.lent.is_empty() || self.board.lock().is_busy()
    }

    /// Whether a pane is lent.
    pub(super) fn has(&self, key: PaneKey) -> bool {
        self.lent.contains_key(&key)
    }

    /// Lends a pane.
    pub(super) fn lend(&mut self, key: PaneKey, pane: Pane) {
        let cell = Cell {
            pane: Mutex::default(),
            busy: AtomicBool::new(false),
            bytes: 0.into(),
            total: Arc::clone(&self.board.bytes),
        };
        cell.measure(&pane);
        *cell.lock() = pane;
        self.lent.insert(key, Lent { cell: Arc::new(cell), unsealed: true });
    }

    /// Has a pane that is lent take rows.
    pub(super) fn take(&mut self, delivery: Delivery) {
        let Delivery { key, columns, rows, bytes } = delivery;
        let lent = self.lent.get_mut(&key).expect("it was lent");
        lent.unsealed = true;
        let errand = Errand { cells: vec![Arc::clone(&lent.cell)], task: Task::Take { columns, rows, bytes } };
        self.push(errand);
    }

    /// Has a pane that is lent evaluated: all that is in it.
    pub(super) fn close(&mut self, key: PaneKey) -> Promise {
        let (promise, own) = Promise::pair();
        let cells = vec![Arc::clone(&self.lent[&key].cell)];
        self.push(Errand { cells, task: Task::Close(own) });
        promise
    }

    /// Has panes that are lent evaluated together; they stay as they are.
    pub(super) fn merge(&mut self, keys: &[PaneKey]) -> Promise {
        let mut cells = Vec::with_capacity(keys.len());
        for key in keys {
            let lent = self.lent.get_mut(key).expect("it was lent");
            let cell = Arc::clone(&lent.cell);
            if std::mem::take(&mut lent.unsealed) {
                self.push(Errand { cells: vec![Arc::clone(&cell)], task: Task::Seal });
            }
            cells.push(cell);
        }
        let (promise, own) = Promise::pair();
        self.push(Errand { cells, task: Task::Merge(own) });
        promise
    }

    /// A pane is no longer needed, once all is done that was asked for.
    pub(super) fn forget(&mut self, key: PaneKey) {
        self.lent.remove(&key);
    }

    /// Does one errand; false: there is none that nobody is at.
    pub(super) fn help(&self) -> Result<bool, EngineError> {
        let errand = self.board.lock().next()?;
        let Some(errand) = errand else { return Ok(false) };
        self.board.run(errand);
        self.board.check()?;
        Ok(true)
    }

    /// Helps until the line is no longer too long. True: there was nothing to help with, all lay before the same panes.
    ///
    /// # Errors
    /// As [`Pane::update`], of any errand.
    pub(super) fn keep_up(&self) -> Result<bool, EngineError> {
        let mut starved = false;
        loop {
            let mut line = self.board.lock();
            if line.rows <= self.ahead_rows && line.bytes <= AHEAD_BYTES || line.failure.is_some() {
                break;
            }
            match line.next()? {
                Some(errand) => {
                    drop(line);
                    self.board.run(errand);
                }
                None => {
                    starved = true;
                    drop(self.board.changed.wait(line).unwrap_or_else(PoisonError::into_inner));
                }
            }
        }
        self.board.check()?;
        Ok(starved)
    }

    /// Does all that is to be done, and gives back what was lent.
    ///
    /// # Errors
    /// As [`Pane::update`], of any errand.
    pub(super) fn settle(&mut self) -> Result<Vec<(PaneKey, Pane)>, EngineError> {
        loop {
            let mut line = self.board.lock();
            match line.next()? {
                Some(errand) => {
                    drop(line);
                    self.board.run(errand);
                }
                None if line.running > 0 => {
                    drop(self.board.changed.wait(line).unwrap_or_else(PoisonError::into_inner));
                }
                None => break,
            }
        }
        self.board.check()?;
        let lent = std::mem::take(&mut self.lent).into_iter();
        Ok(lent.map(|(key, lent)| (key, std::mem::take(&mut *lent.cell.lock()))).collect())
    }

    /// The most groups that a window has had.
    pub(super) fn most_groups(&self) -> usize {
        self.board.most_groups.load(Relaxed)
    }

    /// Bytes of what is lent, and of the rows in line.
    pub(super) fn bytes(&self) -> usize {
        self.board.bytes.load(Relaxed) + self.board.lock().bytes
    }

    /// Puts an errand in line, and calls a helper if one is missing.
    fn push(&self, errand: Errand) {
        let mut line = self.board.lock();
        let (rows, bytes) = errand.task.size();
        (line.rows, line.bytes) = (line.rows + rows, line.bytes + bytes);
        line.waiting.push_back(errand);
        let calls = line.helpers + 1 < self.crew.threads();
        line.helpers += usize::from(calls);
        drop(line);
        let board = Arc::clone(&self.board);
        if calls && !self.crew.call(move || board.serve()) {
            self.board.lock().helpers -= 1;
        }
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        self.board.lock().waiting.clear();
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something that nobody is at; false: there is no such thing, and this helper goes.
    fn serve(&self) -> bool {
        let mut line = self.lock();
        match line.next() {
            Ok(Some(errand)) => {
                drop(line);
                self.run(errand);
            }
            Ok(None) => {
                line.helpers -= 1;
                return false;
            }
            Err(error) => line.fail(Failure::Error(error)),
        }
        true
    }

    fn run(&self, (errand, parts): (Errand, Vec<Sealed>)) {
        let Errand { cells, task } = errand;
        let (rows, bytes) = task.size();
        let at = cells.first().filter(|_| !matches!(task, Task::Merge(_))).cloned();
        let done = catch_unwind(AssertUnwindSafe(|| self.perform(at.as_deref(), task, &parts)));
        // Who waits for this finds what was forgotten meanwhile no longer counted.
        drop(cells);
        let mut line = self.lock();
        if let Some(cell) = at {
            cell.busy.store(false, Relaxed);
        }
        line.running -= 1;
        (line.rows, line.bytes) = (line.rows - rows, line.bytes - bytes);
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => line.fail(Failure::Error(error)),
            Err(panic) => line.fail(Failure::Panic(panic)),
        }
        drop(line);
        self.changed.notify_one();
    }

    fn perform(&self, cell: Option<&Cell>, task: Task, parts: &[Sealed]) -> Result<(), EngineError> {
        let (grouping, ids) = (&self.grouping, &mut Vec::new());
        let Some(cell) = cell else {
            if let Task::Merge(promise) = task {
                promise.keep(self.results(parts)?);
            }
            return Ok(());
        };
        let mut pane = cell.lock();
        match task {
            Task::Take { columns, rows, .. } => match &self.dealer {
                Some(dealer) if pane.is_dealt() => {
                    pane.update_shards(grouping, dealer, &dealer.deal(&columns, rows)?, ids)?;
                }
                _ => pane.update(grouping, &columns, rows, ids)?,
            },
            Task::Seal => pane.seal(grouping, ids)?,
            Task::Close(promise) => {
                let mut pane = std::mem::take(&mut *pane);
                promise.keep(match pane.take_unsealed(grouping, ids)? {
                    Some(groups) => {
                        self.most_groups.fetch_max(groups.iter().map(|groups| groups.len()).sum(), Relaxed);
                        groups.into_iter().map(|groups| groups.results()).collect::<Result<_, _>>()?
                    }
                    None => self.results(&pane.take(grouping, ids)?)?,
                });
            }
            Task::Merge(_) => {}
        }
        cell.measure(&pane);
        Ok(())
    }

    fn results(&self, parts: &[Sealed]) -> Result<Vec<Results>, EngineError> {
        self.most_groups.fetch_max(parts.iter().map(|part| part.len).max().unwrap_or_default(), Relaxed);
        let of = |parts: &[Sealed]| self.grouping.merge(parts, &mut Vec::new())?.results();
        match by_shard(parts) {
            Some(shards) => shards.iter().map(|shard| of(shard)).collect(),
            None => Ok(vec![of(parts)?]),
        }
    }

    /// What has gone wrong.
    fn check(&self) -> Result<(), EngineError> {
        match self.lock().failure.take() {
            None => Ok(()),
            Some(Failure::Error(error)) => Err(error),
            Some(Failure::Panic(panic)) => resume_unwind(panic),
        }
    }
}

impl Line {
    /// The first errand whose panes nobody is at, and what is merged by it; somebody is at it from now on.
    fn next(&mut self) -> Result<Option<(Errand, Vec<Sealed>)>, EngineError> {
        // Panes that nobody is at, but that something else is to be done with before.
        let mut awaited: Vec<&Arc<Cell>> = Vec::new();
        let mut found = None;
        for (at, errand) in self.waiting.iter().enumerate() {
            let is_free =
                |cell: &Arc<Cell>| !cell.busy.load(Relaxed) && !awaited.iter().any(|other| Arc::ptr_eq(other, cell));
            if errand.cells.iter().all(is_free) {
                found = Some(at);
                break;
            }
            awaited.extend(errand.cells.iter().filter(|cell| !cell.busy.load(Relaxed)));
        }
        let Some(errand) = found.and_then(|at| self.waiting.remove(at)) else { return Ok(None) };
        let mut parts = Vec::new();
        if let Task::Merge(_) = errand.task {
            // What comes to the panes from now on is not of this window.
            for cell in &errand.cells {
                parts.append(&mut cell.lock().parts()?);
            }
        } else {
            errand.cells.iter().for_each(|cell| cell.busy.store(true, Relaxed));
        }
        self.running += 1;
        Ok(Some((errand, parts)))
    }

    /// Whether something is to be done or told.
    fn is_busy(&self) -> bool {
        self.running > 0 || !self.waiting.is_empty() || self.failure.is_some()
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.waiting.clear();
    }
}

impl Task {
    /// Rows, and what they hold.
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Take { rows, bytes, .. } => (*rows, *bytes),
            Self::Seal | Self::Close(_) | Self::Merge(_) => (0, 0),
        }
    }
}

impl Cell {
    fn lock(&self) -> MutexGuard<'_, Pane> {
        self.pane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measure(&self, pane: &Pane) {
        let bytes = pane.bytes();
        self.total.fetch_add(bytes, Relaxed);
        self.total.fetch_sub(self.bytes.swap(bytes, Relaxed), Relaxed);
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.total.fetch_sub(*self.bytes.get_mut(), Relaxed);
    }
}

impl Promise {
    /// Results that are there.
    pub(super) fn kept(results: Vec<Results>) -> Self {
        Self(Arc::new(Mutex::new(Some(results))))
    }

    fn pair() -> (Self, Self) {
        let shared = Arc::new(Mutex::new(None));
        (Self(Arc::clone(&shared)), Self(shared))
    }

    fn keep(&self, results: Vec<Results>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(results);
    }

    /// The results, if they are there.
    pub(super) fn take(&self) -> Option<Vec<Results>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

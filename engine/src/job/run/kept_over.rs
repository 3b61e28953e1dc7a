//! A task of which snapshots are taken that goes over to another query: see [`crate::job::alter`].
//!
//! The new query's first snapshot lies beside those of the old one before it is decided which of them the stream has. A
//! process that starts again goes on from the newest that is of the query which the catalog holds, and removes those that
//! are newer.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::keep::{Keeping, Onward, blocking};
use super::{Keeper, Task, Work, describe};
use crate::clock::EventTime;
use crate::counters::Counters;
use crate::error::EngineError;
use crate::job::alter::{Before, NextKept, Ready, let_go};
use crate::job::feed::Feed;
use crate::job::lasting::{Onset, plan_of};
use crate::job::late::LateTap;
use crate::job::snapshot::Snapshot;
use crate::job::stage::Stage;
use crate::job::{Branch, HandedOver, Inputs, Job};
use crate::stream::Position;

/// Who is told, and who decides.
type Asked = (oneshot::Sender<Result<Ready, EngineError>>, oneshot::Receiver<bool>, oneshot::Sender<()>);

/// What takes the place of what a task does.
struct Heir {
    stage: Stage,
    branches: Vec<Branch>,
    feed: Feed,
    work: Work,
    keeping: Keeping,
    /// It has told nothing, and is not on disk.
    first: Snapshot,
    until: EventTime,
}

impl Task {
    /// Goes over if that is decided once the new query's first snapshot is on disk.
    pub(super) async fn go_over_kept(
        &mut self,
        before: Before,
        next: NextKept,
        read: Vec<(Arc<Job>, Position)>,
        (ready, decided, done): Asked,
    ) -> Result<(), EngineError> {
        let made = match self.kept_heir(before, next, &read).await {
            Ok(heir) => {
                let (snapshots, first) = (heir.keeping.snapshots.clone(), heir.first.clone());
                let written = blocking(move || snapshots.write(first)).await;
                written.and_then(|written| written).map(|generation| (heir, generation))
            }
            Err(error) => Err(error),
        };
        let (heir, generation) = match made {
            Ok(made) => made,
            Err(error) => {
                // Whoever asked may have gone: all stays as it is.
                let _ = ready.send(Err(error));
                return Ok(());
            }
        };
        let complete_from = heir.feed.complete_from.max(self.job.complete_from());
        let at = HandedOver { watermark: heir.until, complete_from };
        let goes = ready.send(Ok(Ready { at, read })).is_ok() && decided.await == Ok(true);
        let snapshots = heir.keeping.snapshots.clone();
        if goes {
            self.take_over(heir)?;
            // Whoever asked may have gone: the stream has another definition all the same.
            let _ = done.send(());
        }
        // Those of the query that it does not have.
        blocking(move || snapshots.forget(|other| if goes { other < generation } else { other == generation })).await?
    }

    async fn kept_heir(
        &mut self,
        before: Before,
        next: NextKept,
        read: &[(Arc<Job>, Position)],
    ) -> Result<Heir, EngineError> {
        let NextKept { branches, fusion, schema, windowed } = next;
        let keeping = self.rest_keeping().await;
        let keeping = keeping.ok_or_else(|| EngineError::Plan("no snapshots are taken of what it keeps".into()))?;
        let until = self.until(before);
        let live = || Ok(None);
        let onset = Onset { read, told: until, windowed, at_place: !windowed, carry: None, live: &live };
        let now = self.shared.clock.now();
        let (begins, inputs) = fusion.begin(&branches, now, Some(&onset));
        let keeping = Keeping {
            plan: plan_of(&fusion, &schema),
            by_arrival: fusion.is_by_arrival(),
            begins: crate::job::snapshot::Begins { goes_on: true, ..begins },
            ..keeping
        };
        let mut first = keeping.first(inputs, Some(&self.job.output));
        first.point.counters = self.job.counters.snapshot();
        let onward = Onward::anew(first.clone());
        let stage = Stage::Stateful(fusion.job(&schema, &keeping.begins, None));
        let begin = onward.begin();
        let mut feed = Feed::open(&branches, &stage, (&begin, EventTime::MAX, now), true, &self.job.counters)?;
        let mut work = Work::new(&self.shared, &stage, &feed, &self.job.counters)?;
        // The job's counters go on as they are.
        onward.enter(&keeping, (&mut feed, &mut work, &branches), &Counters::default())?;
        Ok(Heir { stage, branches, feed, work, keeping, first, until })
    }

    fn take_over(&mut self, heir: Heir) -> Result<(), EngineError> {
        let Heir { stage, branches, feed, work, keeping, .. } = heir;
        let names: Vec<_> =
            branches.iter().map(|branch| (branch.job().display_name(), branch.ops.as_slice())).collect();
        let description = describe(&names, &stage);
        let before = self.job.set_inputs(Inputs::new(branches.clone(), description));
        let_go(&before.branches);
        let_go(&self.branches);
        self.job.lose_before(feed.complete_from);
        self.reached.go_on_at(feed.positions());
        self.repeated.clear();
        self.running_partitions = feed.partitions();
        (self.stage, self.branches, self.feed, self.work) = (stage, branches, feed, work);
        self.keeper = Some(Keeper::new(keeping, None));
        self.late = LateTap::new(&self.job)?;
        Ok(())
    }
}

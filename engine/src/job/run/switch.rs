//! A task that goes on with another job's stream, which takes the place of one that it reads: see
//! [`crate::job::alter::carry`].

use std::sync::Arc;

use tokio::sync::oneshot;

use super::again::Recipe;
use super::anchor::Awaited;
use super::keep::blocking;
use super::{Task, Work, describe};
use crate::error::EngineError;
use crate::job::alter::let_go;
use crate::job::carry::{Reads, Switch, adapted};
use crate::job::history::positions_below;
use crate::job::skipped::Taken;
use crate::job::snapshot::{Begins, Point, Snapshot, Snapshots};
use crate::job::{Branch, Inputs, Lease};
use crate::operator::State;
use crate::stream::{Position, Start, Stream};

impl Task {
    /// Waits for the other stream where the one that it reads has ended, and goes on there.
    pub(super) async fn switch(&mut self) -> Result<(), EngineError> {
        self.anchor_when_read()?;
        let Some(switch) = &self.switching else { return Ok(()) };
        if !self.reads(switch) {
            self.let_others_switch();
            return Ok(());
        }
        let places = self.feed.positions();
        let own = self.branches.iter().zip(&places).filter(|(branch, _)| switch.is_of(branch));
        let at_end = own.into_iter().all(|(_, place)| ends_at(place, &switch.end));
        if !at_end || !self.feed.is_clear() || self.keeper.is_some() && !self.is_ready() {
            return Ok(());
        }
        let Some(switch) = self.switching.take() else { return Ok(()) };
        match self.note_place(&switch).await {
            Ok(noted) => self.stand_by(switch, noted).await,
            // Whoever asked may have gone: all stays as it is.
            Err(error) => drop(switch.ready.send(Err(error))),
        }
        Ok(())
    }

    /// It reads the stream through others, which go on with the other.
    fn let_others_switch(&mut self) {
        let Some(mut switch) = self.switching.take() else { return };
        let (ready, _) = oneshot::channel();
        // Whoever asked may have gone.
        let _ = std::mem::replace(&mut switch.ready, ready).send(Ok(Reads::ThroughOthers));
        if self.resumes_at().is_some() {
            self.awaited = Some(Awaited::of(switch));
        }
    }

    /// Refuses to go on with another stream: it rests, and nobody knows when it will have read this one to its end.
    pub(super) fn refuse_switch(&mut self) {
        if let Some(switch) = self.switching.take() {
            let status = "it is paused".to_owned();
            let error = EngineError::NotCarried { name: switch.from.display_name(), user: switch.user, why: status };
            // Whoever asked may have gone.
            let _ = switch.ready.send(Err(error));
        }
    }

    fn reads(&self, switch: &Switch) -> bool {
        self.branches.iter().any(|branch| switch.is_of(branch))
    }

    /// What it has come to is on disk before it is decided which stream it reads: a process that starts again goes on
    /// there with the one or the other.
    async fn note_place(&mut self, switch: &Switch) -> Result<Option<(Arc<Snapshots>, u64)>, EngineError> {
        let Some(keeping) = self.rest_keeping().await else {
            if let Some(snapshots) = &switch.snapshots {
                self.store_windows(snapshots.clone(), switch).await?;
            } else if self.job.stream.is_some() {
                let places = self.places();
                let inputs = self.read_so_far(&[], places);
                self.mark(inputs).await?;
            }
            return Ok(None);
        };
        let Some((old, new)) = switch.plans.as_ref().filter(|(old, _)| **old == *keeping.plan) else {
            let why = "it keeps rows with columns that would lie in another order".to_owned();
            let (name, user) = (switch.from.display_name(), switch.user.clone());
            return Err(EngineError::NotCarried { name, user, why });
        };
        let snapshot = self.take_snapshot().ok_or_else(|| EngineError::State("no snapshot can be taken".into()))?;
        let mut snapshots = vec![snapshot];
        if old != new {
            // It goes by the text of a query that reads other columns.
            let mut other = snapshots[0].clone();
            other.point.plan = new.to_string();
            snapshots.push(other);
        }
        let kept = keeping.snapshots.clone();
        let write = move || snapshots.into_iter().map(|snapshot| kept.write(snapshot)).collect::<Result<Vec<_>, _>>();
        let written = blocking(write).await??;
        let last = written.last().copied().filter(|_| old != new);
        Ok(last.map(|generation| (keeping.snapshots, generation)))
    }

    /// Windows that are open are made of rows that the other log will not have.
    async fn store_windows(&mut self, snapshots: Arc<Snapshots>, switch: &Switch) -> Result<(), EngineError> {
        let (Some(step), Work::Operator(operator)) = (self.stage.stateful(), &mut self.work) else { return Ok(()) };
        let point = Point {
            plan: step.canonical(),
            inputs: self.feed.done(),
            end: None,
            begins: Begins::default(),
            counters: self.job.counters.snapshot(),
            fresh: false,
        };
        let mut state = State::default();
        self.feed.save(&mut state)?;
        operator.save(&mut state)?;
        let generation = blocking(move || snapshots.write(Snapshot { point, state })).await??;
        let before = switch.from.output.facts().max_event_time.plus(1);
        self.job.skips.take(Taken { generation, before });
        Ok(())
    }

    /// Goes on with the other stream if that is decided.
    async fn stand_by(&mut self, switch: Switch, noted: Option<(Arc<Snapshots>, u64)>) {
        let Switch { from, end, schema, plans, ready, decided, done, .. } = switch;
        if ready.send(Ok(Reads::Itself)).is_err() {
            return;
        }
        let lease = decided.await.ok();
        if let Some((snapshots, generation)) = noted {
            let goes = lease.is_some();
            // Those of the text that the catalog does not have.
            let forgotten =
                blocking(move || snapshots.forget(|other| if goes { other < generation } else { other == generation }));
            if let Ok(Err(error)) | Err(error) = forgotten.await {
                tracing::warn!(job = self.job.id, %error, "a snapshot that is not needed cannot be removed");
            }
        }
        let Some(lease) = lease else { return };
        if let Some((_, new)) = plans {
            self.set_plan(new);
        }
        let other = |branch: &Branch| {
            if Arc::ptr_eq(branch.job(), &from) { adapted(branch, &lease, &schema) } else { branch.clone() }
        };
        let goes = self.go_on_with(&from, &lease, &end, other);
        // Whoever asked may have gone: the stream is another all the same.
        let _ = done.send(goes);
    }

    fn go_on_with(
        &mut self,
        from: &Arc<crate::job::Job>,
        lease: &Arc<Lease>,
        end: &Position,
        other: impl Fn(&Branch) -> Branch,
    ) -> Result<(), EngineError> {
        let start = Start::Position(Position { epoch: lease.job().output.epoch(), ..end.clone() });
        let old: Vec<Branch> = self.branches.clone();
        self.branches = old.iter().map(&other).collect();
        for (at, branch) in old.iter().enumerate().filter(|(_, branch)| Arc::ptr_eq(branch.job(), from)) {
            self.feed.go_on_with(at, &self.branches[at], &start)?;
            let_go(std::slice::from_ref(branch));
        }
        let branches: Vec<Branch> = self.job.inputs().branches.iter().map(&other).collect();
        let names: Vec<_> =
            branches.iter().map(|branch| (branch.job().display_name(), branch.ops.as_slice())).collect();
        let description = describe(&names, &self.stage);
        let before = self.job.set_inputs(Inputs::new(branches, description));
        before.branches.iter().filter(|branch| Arc::ptr_eq(branch.job(), from)).for_each(|b| b.input.unsubscribe());
        if matches!(self.recipe, Some(Recipe::Rows)) {
            self.reached.come_to(self.feed.done());
        }
        let places = self.branches.iter().zip(self.feed.positions());
        let at = places.flat_map(|(branch, place)| positions_below(branch, &place)).collect();
        self.anchor_at(at, from.output.facts().max_event_time.plus(1))
    }
}

/// Whether a place is the end of what a stream has.
pub(super) fn ends_at(place: &Position, end: &Position) -> bool {
    let at =
        |position: &Position, partition| position.offsets.get(&partition).map_or(0, |(offset, skip)| offset.0 + skip);
    end.offsets.keys().all(|partition| at(place, *partition) >= at(end, *partition))
}

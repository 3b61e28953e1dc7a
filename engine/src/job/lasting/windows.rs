//! Named streams of windows that are made of the inputs' logs again when the process starts.

use std::sync::Arc;

use super::{NewStream, recorded_until};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::failpoint::Failpoint;
use crate::job::branch::OpSpec;
use crate::job::build::Limb;
use crate::job::feed::Begin;
use crate::job::history::from_logs;
use crate::job::run::{JobSpec, spawn_restored};
use crate::job::skipped::{Skipped, Taken};
use crate::job::stage::{Stage, Stateful};
use crate::job::{Branch, Lease};
use crate::stream::Position;

impl NewStream<'_> {
    /// Goes on with the first window that was not told as a whole.
    pub(super) async fn windows(
        &self,
        inputs: &[Limb],
        step: Arc<dyn Stateful>,
        ops: Vec<OpSpec>,
    ) -> Result<Arc<Lease>, EngineError> {
        let below = from_logs(&self.branches(inputs, self.name)?);
        let replay = below.iter().any(|branch| branch.job().output.replay());
        let (mut output, resumed) = self.open_with(1, replay, true).await?;
        let mut told = self.onset.map_or(resumed.watermarks[0], |onset| onset.told);
        if told > EventTime::MIN && self.onset.is_some() {
            self.mark(&output, told, Vec::new()).await?;
        }
        if told == EventTime::MIN && !self.options.resumes {
            let watermark = below.iter().map(|branch| branch.job().output.facts().watermark).min();
            if let Some(watermark) = watermark.filter(|at| *at > EventTime::MIN && *at < EventTime::MAX) {
                // The results of all windows that are closed by now.
                told = step.told(watermark);
                self.mark(&output, told, Vec::new()).await?;
            }
        }
        let told = recorded_until(&resumed.inputs).map_or(told, |until| until.min(told));
        let start = step.resume(told).unwrap_or(told);
        let skipped = Skipped::recorded(&resumed.inputs);
        let taken = Taken::recorded(&resumed.inputs).filter(|taken| self.onset.is_none() && taken.before > start);
        let restored = match taken {
            Some(taken) => self.restored(&below, &step, (taken, skipped.clone(), start)).await?,
            None => None,
        };
        let aggregate = match restored {
            Some(aggregate) => {
                // It tells again what was told since.
                output = output.told_until(told);
                aggregate
            }
            None => self.spawn(below, Stage::Stateful(step), Begin::After(start, skipped), None)?,
        };
        let branch = Branch { input: aggregate, updates: false, fresh: true, late: false, right: false, ops };
        let lease = self.spawn(vec![branch], self.stage.clone(), Begin::Earliest, Some(output))?;
        Failpoint::ResumeEnds.pass();
        Ok(lease)
    }

    /// The job goes on from what it kept when its input's log was replaced by another; `None`: that cannot be used.
    async fn restored(
        &self,
        below: &[Branch],
        step: &Arc<dyn Stateful>,
        (taken, skipped, start): (Taken, Vec<Skipped>, EventTime),
    ) -> Result<Option<Arc<Lease>>, EngineError> {
        let Some(logs) = &self.shared.logs else { return Ok(None) };
        let snapshots = logs.snapshots(self.name, self.options.generation).await?;
        let read = tokio::task::spawn_blocking(move || snapshots.read(taken.generation)).await;
        let Ok(snapshot) = read.map_err(|error| EngineError::Internal(Box::new(error)))? else { return Ok(None) };
        let inputs: Vec<Position> =
            below.iter().zip(&snapshot.point.inputs).map(|(branch, at)| branch.job().output.carry(at)).collect();
        let known = below.iter().zip(&inputs).all(|(branch, at)| branch.job().output.knows(at));
        if inputs.len() != below.len() || !known || snapshot.point.plan != step.canonical() {
            tracing::error!(stream = self.name, "what was kept of open windows is of other inputs: it is not used");
            return Ok(None);
        }
        let spec = JobSpec {
            number: self.shared.next_id(),
            branches: below.to_vec(),
            stage: Stage::Stateful(step.clone()),
            begin: Begin::Each(inputs),
            needed: EventTime::MAX,
            stream: None,
            private: true,
            holding: true,
            output: None,
            paused: self.options.paused,
        };
        let lease = spawn_restored(self.shared, spec, self.name, (snapshot.state, taken.before), (start, &skipped))?;
        lease.job().skips.go_on(taken, skipped);
        Ok(Some(Arc::new(lease)))
    }
}

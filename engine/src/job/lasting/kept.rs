//! Named streams that go on from snapshots: those that keep more than their own logs tell.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::datatypes::SchemaRef;

use super::{NewStream, Node};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::branch::types;
use crate::job::feed::Begin;
use crate::job::fused::Fusion;
use crate::job::run::{JobSpec, Keeping, Onward, spawn_job, spawn_kept};
use crate::job::stage::Stage;
use crate::job::{Branch, Lease, Relations, Snapshots, Use};
use crate::stream::{MemoryStream, Position, Stream};

/// What is made into one job.
pub(super) enum Kept<'a> {
    /// All of the stream.
    Whole(Fusion),
    /// What makes a result that changes, whose running results others read too: its node.
    Changing(Fusion, &'a Node),
}

impl<'a> Kept<'a> {
    /// Of a stream; the error says, in words, why it cannot go on from a snapshot.
    pub(super) fn of(node: &'a Node) -> Result<Self, String> {
        let mut changing = Vec::new();
        find_changing(node, &mut changing);
        match changing.as_slice() {
            [] => Fusion::of(node).map(Self::Whole),
            [only] => Fusion::of(only).map(|fusion| Self::Changing(fusion, only)),
            _ => Err("it is made of several results that change".into()),
        }
    }
}

/// A stream's steps as one job, if that is all of it.
pub(in crate::job) fn fused_whole(node: &Node) -> Option<Fusion> {
    match Kept::of(node) {
        Ok(Kept::Whole(fusion)) => Some(fusion),
        _ => None,
    }
}

/// Text that is equal for jobs whose states fit. `schema`: the visible fields of the result.
pub(in crate::job) fn plan_of(fusion: &Fusion, schema: &SchemaRef) -> Arc<str> {
    format!("{}{}", fusion.canonical(), types(schema)).into()
}

/// Text that is equal for streams whose snapshots fit; `None`: there are none. `schema`: the visible fields of the result.
pub(crate) fn snapshot_plan(node: &Node, schema: &SchemaRef) -> Option<Arc<str>> {
    match Kept::of(node).ok()? {
        Kept::Whole(fusion) => Some(plan_of(&fusion, schema)),
        Kept::Changing(fusion, Node::Job { stage: Stage::Stateful(step), .. }) => Some(plan_of(&fusion, step.schema())),
        Kept::Changing(..) => None,
    }
}

/// The relations that the steps read.
pub(in crate::job) fn leaves(fusion: &Fusion, relations: &Relations) -> Result<Vec<Branch>, EngineError> {
    let branch = |leaf: &crate::job::fused::Leaf| {
        let lease = relations.get(&Use::Rows(leaf.relation.clone()));
        let input = lease.ok_or_else(|| EngineError::UnknownRelation(leaf.relation.clone()))?.clone();
        let ops = leaf.ops.clone();
        Ok(Branch { input, updates: false, late: false, fresh: false, right: leaf.right, ops })
    };
    fusion.leaves.iter().map(branch).collect()
}

/// Whether a stream can go on from a snapshot.
pub(in crate::job) fn is_kept(node: &Node) -> bool {
    Kept::of(node).is_ok()
}

fn find_changing<'a>(node: &'a Node, found: &mut Vec<&'a Node>) {
    let Node::Job { inputs, stage } = node else { return };
    if stage.stateful().is_some_and(|step| step.changes()) {
        found.push(node);
        return;
    }
    inputs.iter().for_each(|limb| find_changing(&limb.input, found));
}

impl NewStream<'_> {
    /// Goes on where the last snapshot stands.
    pub(super) async fn kept(&self, kept: Kept<'_>) -> Result<(Arc<Lease>, Arc<Snapshots>), EngineError> {
        let logs = self.shared.logs.as_ref().ok_or_else(|| EngineError::NoLogFolder(self.name.to_owned()))?;
        match kept {
            Kept::Whole(fusion) => {
                let branches = leaves(&fusion, self.relations)?;
                let partitions: Vec<u32> = branches.iter().map(|branch| branch.job().output.partitions()).collect();
                let replay = branches.iter().any(|branch| branch.job().output.replay());
                let (output, _) = self.open_with(fusion.partitions(&partitions), replay, false).await?;
                let snapshots = logs.snapshots(self.name, self.options.generation).await?;
                let lease = self.fused(fusion, self.schema, None, Some(output), &snapshots).await?;
                Ok((lease, snapshots))
            }
            Kept::Changing(fusion, node) => {
                let replay = self.relations.values().any(|lease| lease.job().output.replay());
                let (output, _) = self.open_with(1, replay, false).await?;
                let snapshots = logs.snapshots(self.name, self.options.generation).await?;
                Ok((self.changing(fusion, node, output, &snapshots).await?, snapshots))
            }
        }
    }

    /// The stream's own log gets what is final, at the end of bounded input. What its readers read is what it is made of:
    /// a job that they find as if it were any other's.
    async fn changing(
        &self,
        fusion: Fusion,
        node: &Node,
        output: Arc<MemoryStream>,
        snapshots: &Arc<Snapshots>,
    ) -> Result<Arc<Lease>, EngineError> {
        let Node::Job { inputs, stage: Stage::Named } = self.node else {
            return Err(EngineError::Plan("a stream without a name".into()));
        };
        let Node::Job { stage: Stage::Stateful(step), .. } = node else {
            return Err(EngineError::Plan("a result that does not change".into()));
        };
        let shared_as = node.fingerprint(None, &|used| {
            self.relations.get(used).map_or_else(String::new, |lease| lease.job().fingerprint.clone())
        });
        let held = self.fused(fusion, step.schema(), Some(shared_as), None, snapshots).await?;
        let branches = self.branches(inputs, self.name)?;
        drop(held);
        let (number, needed, stream) = (self.shared.next_id(), EventTime::MAX, Some(self.name.to_owned()));
        let (stage, begin, output) = (Stage::Named, Begin::Fresh, Some(output));
        let (private, holding, paused) = (false, false, self.options.paused);
        let spec = JobSpec { number, branches, stage, begin, needed, stream, private, holding, output, paused };
        Ok(Arc::new(spawn_job(self.shared, spec, self.name)?))
    }

    /// Starts the steps as one job. `shared_as`: the fingerprint under which others find it, which has no log then.
    async fn fused(
        &self,
        fusion: Fusion,
        schema: &SchemaRef,
        shared_as: Option<String>,
        output: Option<Arc<MemoryStream>>,
        snapshots: &Arc<Snapshots>,
    ) -> Result<Arc<Lease>, EngineError> {
        let branches = leaves(&fusion, self.relations)?;
        let mut keeping = Keeping {
            snapshots: snapshots.clone(),
            plan: plan_of(&fusion, schema),
            begins: Default::default(),
            by_arrival: fusion.is_by_arrival(),
            logged: output.is_some(),
        };
        let start = |keeping: &Keeping, onward: Onward| {
            let stage = Stage::Stateful(fusion.clone().job(schema, onward.begins(), shared_as.clone()));
            let (number, needed) = (self.shared.next_id(), EventTime::MAX);
            let (branches, begin, output) = (branches.clone(), onward.begin(), output.clone());
            let stream = output.as_ref().map(|_| self.name.to_owned());
            let (private, holding, paused) = (stream.is_some(), true, self.options.paused);
            let spec = JobSpec { number, branches, stage, begin, needed, stream, private, holding, output, paused };
            spawn_kept(self.shared, spec, self.name, keeping.clone(), onward).map(Arc::new)
        };
        for skip in 0.. {
            let Some(onward) = keeping.onward(&branches, output.as_ref(), skip).await? else { break };
            keeping.begins = onward.begins().clone();
            match start(&keeping, onward) {
                Err(error @ EngineError::State(_)) => {
                    tracing::error!(stream = self.name, %error, "a snapshot does not fit: the one before it is used");
                }
                other => return other,
            }
        }
        let (mut begins, mut inputs) = fusion.begin(&branches, self.shared.clock.now(), self.onset);
        // What readers were told does not go back.
        begins.goes_on |= self.onset.is_some_and(|onset| onset.carry.is_some());
        let known = self.told(&branches, output.as_ref());
        if self.options.resumes {
            tracing::error!(stream = self.name, "it has no snapshot that can be used: what it kept is lost");
            inputs = known.clone().unwrap_or(inputs);
        }
        keeping.begins = begins;
        let (snapshots, first) = (keeping.snapshots.clone(), keeping.first(inputs, output.as_deref()));
        let noted = first.clone();
        let written = tokio::task::spawn_blocking(move || snapshots.write(noted)).await;
        written.map_err(|error| EngineError::Internal(Box::new(error)))??;
        let lease = start(&keeping, Onward::anew(first))?;
        if self.options.resumes {
            let reached = branches.iter().map(|branch| branch.job().output.facts().max_event_time).max();
            lease.job().lose_before(reached.unwrap_or(EventTime::MIN).plus(1));
            lease.job().counters.gaps.fetch_add(u64::from(known.is_none()), Relaxed);
        }
        Ok(lease)
    }

    /// Where the inputs had been read for the last record of the log, if they are still what they were.
    fn told(&self, branches: &[Branch], output: Option<&Arc<MemoryStream>>) -> Option<Vec<Position>> {
        let mut told = output?.inputs().into_iter().max_by_key(|inputs| offsets(inputs))?;
        for (branch, (_, at)) in branches.iter().zip(&mut told) {
            *at = branch.job().output.carry(at);
        }
        let known = |(branch, (_, at)): (&Branch, &(String, Position))| {
            branch.job().output.knows(&crate::job::feed::unmarked(at))
        };
        let fits = told.len() == branches.len() && branches.iter().zip(&told).all(known);
        fits.then(|| told.into_iter().map(|(_, at)| at).collect())
    }
}

/// The sum of all offsets: positions of one job's inputs ascend with it.
fn offsets(inputs: &[(String, Position)]) -> u64 {
    inputs.iter().flat_map(|(_, at)| at.offsets.values()).map(|(offset, _)| offset.0).sum()
}

//! A query's steps as one: for streams of which snapshots are taken.
//!
//! Where each step were a job of its own, with a stream to the next, the steps' states and places would be those of
//! different moments. As one job they have one place between two batches, and a snapshot of it is consistent. Its inputs
//! are the relations that the query reads; rows go from step to step at once.

mod begin;
mod operator;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;

use self::operator::Fused;
use super::branch::{OpSpec, canonical_branch};
use super::build::{Limb, Node};
use super::snapshot::Begins;
use super::stage::{Setting, Stage, Stateful};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::operator::Operator;

/// What a node is made of when its steps are one job.
#[derive(Debug, Clone)]
pub(super) struct Fusion {
    /// What is read, in the order of the job's branches.
    pub(super) leaves: Vec<Leaf>,
    /// Those that keep state, inputs first.
    steps: Vec<StepSpec>,
    /// What the result is made of.
    root: Vec<LimbSpec>,
}

/// A relation that is read, and the stateless steps on its way to the first that keeps state.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) relation: String,
    pub(super) right: bool,
    pub(super) ops: Vec<OpSpec>,
}

#[derive(Debug, Clone)]
struct StepSpec {
    job: Arc<dyn Stateful>,
    limbs: Vec<LimbSpec>,
}

/// One input of a step.
#[derive(Debug, Clone)]
struct LimbSpec {
    from: From,
    right: bool,
    /// What is done on the way from a step; what is done to a leaf's rows is the leaf's.
    ops: Vec<OpSpec>,
}

#[derive(Debug, Clone, Copy)]
enum From {
    Leaf(usize),
    Step(usize),
}

impl Fusion {
    /// Of a node; the error says, in words, why it cannot be one job that goes on from a snapshot.
    pub(super) fn of(node: &Node) -> Result<Self, String> {
        let mut fusion = Self { leaves: Vec::new(), steps: Vec::new(), root: Vec::new() };
        fusion.root = match node {
            Node::Job { inputs, stage: Stage::Stateless | Stage::Named } => fusion.limbs(inputs, &[], None)?,
            Node::Job { inputs, stage } => {
                let from = From::Step(fusion.step(inputs, stage)?);
                vec![LimbSpec { from, right: false, ops: Vec::new() }]
            }
            Node::Relation(name) | Node::Table(name) => return Err(format!("it hands on {name} as it is")),
        };
        Ok(fusion)
    }

    fn step(&mut self, inputs: &[Limb], stage: &Stage) -> Result<usize, String> {
        let Stage::Stateful(job) = stage else { return Err("it reads what is no step of a query".into()) };
        if stage.is_random() {
            return Err(RANDOM.into());
        }
        let limbs = self.limbs(inputs, &[], None)?;
        self.steps.push(StepSpec { job: job.clone(), limbs });
        Ok(self.steps.len() - 1)
    }

    /// Inputs, those of stateless jobs in place of these. `right`: that of the input that they are part of.
    fn limbs(&mut self, inputs: &[Limb], above: &[OpSpec], right: Option<bool>) -> Result<Vec<LimbSpec>, String> {
        let mut limbs = Vec::new();
        for limb in inputs {
            if limb.updates {
                return Err("it reads results that change".into());
            }
            let right = right.unwrap_or(limb.right);
            let ops: Vec<OpSpec> = limb.ops.iter().chain(above).cloned().collect();
            if ops.iter().any(OpSpec::is_random) {
                return Err(RANDOM.into());
            }
            match limb.input.as_ref() {
                Node::Relation(relation) => {
                    self.leaves.push(Leaf { relation: relation.clone(), right, ops });
                    let from = From::Leaf(self.leaves.len() - 1);
                    limbs.push(LimbSpec { from, right, ops: Vec::new() });
                }
                Node::Table(name) => {
                    return Err(format!("it looks up in table \"{name}\", and what that held then is not kept"));
                }
                Node::Job { inputs, stage: Stage::Stateless } => {
                    limbs.append(&mut self.limbs(inputs, &ops, Some(right))?);
                }
                Node::Job { inputs, stage } => {
                    let from = From::Step(self.step(inputs, stage)?);
                    limbs.push(LimbSpec { from, right, ops });
                }
            }
        }
        Ok(limbs)
    }

    /// Partitions of the result. `of`: those of each leaf.
    pub(super) fn partitions(&self, of: &[u32]) -> u32 {
        self.root.iter().map(|limb| self.partitions_of(limb.from, of)).sum()
    }

    fn partitions_of(&self, from: From, of: &[u32]) -> u32 {
        match from {
            From::Leaf(leaf) => of[leaf],
            // Look-ups apart, which there are none of.
            From::Step(_) => 1,
        }
    }

    /// Whether somewhere rows go by their arrival.
    pub(super) fn is_by_arrival(&self) -> bool {
        let limbs = self.steps.iter().flat_map(|step| &step.limbs).chain(&self.root);
        let ops = limbs.flat_map(|limb| &limb.ops).chain(self.leaves.iter().flat_map(|leaf| &leaf.ops));
        ops.into_iter().any(|op| *op == OpSpec::ByArrival)
    }

    /// In a word.
    pub(super) fn kind(&self) -> &'static str {
        self.steps.last().map_or("union", |step| step.job.kind())
    }

    /// Whether rows can come too late for a step.
    pub(super) fn judges_lateness(&self) -> bool {
        self.steps.iter().any(|step| step.job.judges_lateness())
    }

    /// Text that is equal for equal work on relations of equal names.
    pub(super) fn canonical(&self) -> String {
        let limbs: Vec<String> = self.root.iter().map(|limb| self.canonical_limb(limb)).collect();
        limbs.join("+")
    }

    fn canonical_limb(&self, limb: &LimbSpec) -> String {
        match limb.from {
            From::Leaf(leaf) => canonical_branch(&self.leaves[leaf].relation, false, &self.leaves[leaf].ops),
            From::Step(at) => {
                let step = &self.steps[at];
                let below: Vec<String> = step.limbs.iter().map(|limb| self.canonical_limb(limb)).collect();
                canonical_branch(&format!("({})|{}", below.join("+"), step.job.canonical()), false, &limb.ops)
            }
        }
    }

    /// What runs. `schema`: the visible fields of the result. `shared_as`: the fingerprint under which queries find it
    /// that want the running results of its last step; `None`: nobody does.
    pub(super) fn job(self, schema: &SchemaRef, begins: &Begins, shared_as: Option<String>) -> Arc<dyn Stateful> {
        Arc::new(FusedJob { fusion: self, schema: schema.clone(), begins: begins.clone(), shared_as })
    }
}

/// Why a stream that computes so has no snapshots.
pub(super) const RANDOM: &str = "it computes with random values";

/// All steps of a query as one job.
#[derive(Debug)]
struct FusedJob {
    fusion: Fusion,
    schema: SchemaRef,
    begins: Begins,
    shared_as: Option<String>,
}

impl FusedJob {
    fn steps(&self) -> impl DoubleEndedIterator<Item = &dyn Stateful> {
        self.fusion.steps.iter().map(|step| step.job.as_ref())
    }

    fn last(&self) -> Option<&dyn Stateful> {
        self.steps().next_back()
    }

    fn words(&self, of: impl Fn(&dyn Stateful) -> String) -> String {
        let mut words: Vec<String> = self.steps().map(of).collect();
        words.dedup();
        words.join("; ")
    }
}

impl Stateful for FusedJob {
    fn kind(&self) -> &'static str {
        self.fusion.kind()
    }

    fn canonical(&self) -> String {
        format!("fused({})", self.fusion.canonical())
    }

    fn describe(&self) -> String {
        self.words(|step| step.describe())
    }

    fn describe_state(&self) -> String {
        self.words(|step| step.describe_state())
    }

    fn describe_emission(&self) -> String {
        self.last().map_or_else(|| "rows as they come".into(), Stateful::describe_emission)
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn exprs(&self) -> Vec<&Expr> {
        self.steps().flat_map(Stateful::exprs).collect()
    }

    fn key_columns(&self) -> Option<usize> {
        self.last().filter(|_| self.shared_as.is_some())?.key_columns()
    }

    /// It begins where its snapshot says.
    fn begin(&self, _watermark: EventTime) -> Option<EventTime> {
        None
    }

    fn judges_lateness(&self) -> bool {
        self.fusion.judges_lateness()
    }

    fn shared_as(&self) -> Option<&str> {
        self.shared_as.as_deref()
    }

    fn operator(&self, setting: Setting) -> Result<Box<dyn Operator>, EngineError> {
        Ok(Box::new(Fused::new(self, &setting)?))
    }
}

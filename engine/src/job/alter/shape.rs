//! How queries are made of what they read, for who takes their place.

use std::sync::Arc;

use crate::job::Branch;
use crate::job::branch::OpSpec;
use crate::job::build::{Limb, Node};
use crate::job::stage::{Stage, Stateful};

/// A job that keeps state of rows: what it reads, what it does, and the steps behind it.
pub(super) struct Kept {
    pub(super) inputs: Vec<Limb>,
    pub(super) step: Arc<dyn Stateful>,
    pub(super) ops: Vec<OpSpec>,
}

impl Branch {
    /// Whether its rows are made of a relation's one by one.
    pub(crate) fn is_rows(&self) -> bool {
        let job = self.job();
        let of_rows = || job.inputs().branches.iter().all(Self::is_rows);
        !self.updates && !self.late && (job.stream.is_some() || !job.logged && of_rows())
    }
}

impl Limb {
    /// The same from relations, without jobs between that hand rows on.
    pub(super) fn straight(&self) -> Vec<Self> {
        match self.input.as_ref() {
            Node::Job { inputs, stage: Stage::Stateless } if !self.updates => {
                let below = inputs.iter().flat_map(Self::straight);
                let own = |limb: Self| {
                    let ops = limb.ops.iter().chain(&self.ops).cloned().collect();
                    Self { ops, right: self.right, ..limb }
                };
                below.map(own).collect()
            }
            _ => vec![self.clone()],
        }
    }

    /// What it reads, if that is one job which keeps state of rows: the job's inputs, its step, and the steps behind it.
    pub(super) fn state(&self) -> Option<Kept> {
        let straight = self.straight();
        let [only] = straight.as_slice() else { return None };
        let Node::Job { inputs, stage: Stage::Stateful(step) } = only.input.as_ref() else { return None };
        let reads = |limb: &Self| limb.is_rows() || limb.right && matches!(limb.input.as_ref(), Node::Table(_));
        let kept = || Kept { inputs: inputs.clone(), step: step.clone(), ops: only.ops.clone() };
        (!self.updates && inputs.iter().all(reads)).then(kept)
    }
}

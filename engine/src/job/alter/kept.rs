//! A stream of which snapshots are taken that goes over to another query of that kind.

use arrow::datatypes::SchemaRef;

use super::{Making, Told};
use crate::error::EngineError;
use crate::job::Branch;
use crate::job::build::Node;
use crate::job::fused::Fusion;
use crate::job::lasting::{fused_whole, leaves};
use crate::stream::Stream;

/// What such a stream reads from then on, and what it does.
pub(crate) struct NextKept {
    pub(crate) branches: Vec<Branch>,
    pub(in crate::job) fusion: Fusion,
    /// Visible fields of the result.
    pub(crate) schema: SchemaRef,
    /// They are results of windows; else it begins with nothing kept, at a place in each input.
    pub(crate) windowed: bool,
}

impl NextKept {
    /// Partitions of the result.
    pub(super) fn partitions(&self) -> u32 {
        let of: Vec<u32> = self.branches.iter().map(|branch| branch.job().output.partitions()).collect();
        self.fusion.partitions(&of)
    }
}

impl Making<'_> {
    /// What the stream's job goes over to; `None`: it cannot, since others may read its late rows as they are.
    pub(super) fn kept(&self, node: &Node, schema: &SchemaRef, told: Told) -> Result<Option<NextKept>, EngineError> {
        let Some(fusion) = fused_whole(node) else { return Ok(None) };
        let branches = leaves(&fusion, self.relations)?;
        let inputs: u32 = branches.iter().map(|branch| branch.stream().partitions()).sum();
        let late = self.job.late.as_ref().map(|late| late.stream.partitions());
        let windowed = told == Told::Windows;
        let fits = fusion.kind() == self.job.kind && late == fusion.judges_lateness().then_some(inputs);
        Ok(fits.then(|| NextKept { branches, fusion, schema: schema.clone(), windowed }))
    }
}

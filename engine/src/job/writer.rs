//! Commits a task's batches to its stream.

use std::sync::Arc;

use crate::batch::StreamBatch;
use crate::error::EngineError;
use crate::stream::{Commit, MemoryStream, Offset, Owner, Position, ProducerMark, Stream};

/// Owns all partitions of a stream.
pub(crate) struct Writer {
    stream: Arc<MemoryStream>,
    owners: Vec<Owner>,
    /// Give rows dense offsets of the stream's own instead of those that they come with.
    renumber: bool,
}

impl Writer {
    pub(crate) fn new(stream: Arc<MemoryStream>, renumber: bool) -> Result<Self, EngineError> {
        let owners = (0..stream.partitions()).map(|partition| stream.own(partition)).collect::<Result<_, _>>()?;
        Ok(Self { stream, owners, renumber })
    }

    /// The offset that a partition's next row gets.
    pub(crate) fn next(&self, partition: u32) -> Offset {
        self.owners[partition as usize].next
    }

    /// Commits batches, those of one partition together. Waits while a reader that must not lose rows is behind.
    pub(crate) async fn write(
        &mut self,
        batches: Vec<StreamBatch>,
        inputs: Vec<(String, Position)>,
    ) -> Result<(), EngineError> {
        self.write_marked(batches, inputs, Vec::new()).await
    }

    /// Commits a batch without waiting. False: it would have to wait; nothing was done.
    pub(crate) fn offer(&mut self, batch: StreamBatch) -> Result<bool, EngineError> {
        self.put_if(batch, false)
    }

    /// Commits a batch at once, whoever is behind. False: what writes more has to wait.
    pub(crate) fn put(&mut self, batch: StreamBatch) -> Result<bool, EngineError> {
        self.put_if(batch, true)
    }

    fn put_if(&mut self, batch: StreamBatch, whatever: bool) -> Result<bool, EngineError> {
        let next = batch.next;
        let owner = &mut self.owners[batch.partition as usize];
        let room = self.stream.put(batch, owner, whatever)?;
        if room || whatever {
            (owner.sequence, owner.next) = (owner.sequence + 1, next);
        }
        Ok(room)
    }

    /// The same of publishers' requests, which are remembered with the first partition's rows.
    pub(crate) async fn write_marked(
        &mut self,
        batches: Vec<StreamBatch>,
        inputs: Vec<(String, Position)>,
        mut marks: Vec<ProducerMark>,
    ) -> Result<(), EngineError> {
        let mut batches = batches.into_iter().peekable();
        while let Some(first) = batches.next() {
            let partition = first.partition;
            let mut outputs = vec![first];
            while let Some(batch) = batches.next_if(|batch| batch.partition == partition) {
                outputs.push(batch);
            }
            let owner = &mut self.owners[partition as usize];
            let mut next = owner.next;
            for batch in &mut outputs {
                if self.renumber {
                    batch.first = next;
                    batch.next = Offset(next.0 + batch.rows.num_rows() as u64);
                }
                next = batch.next;
            }
            let commit = Commit {
                partition,
                generation: owner.generation,
                expected_sequence: owner.sequence,
                outputs,
                state: None,
                inputs: inputs.clone(),
                marks: std::mem::take(&mut marks),
            };
            self.stream.commit(commit).await?;
            (owner.sequence, owner.next) = (owner.sequence + 1, next);
        }
        Ok(())
    }
}

//! Requests that their publisher numbers: sent again, they are not taken twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bytes::Bytes;
use squilla_engine::{Arrived, ProducerMark, Producers};
use tokio::sync::Mutex as Turn;

use super::{Queue, settled};
use crate::format::Decoded;
use crate::{Numbered, NumberedReport, PublishError, Publishers};

/// Producers whose requests wait for each other, before those that have gone are looked for.
const TURNS: usize = 1_024;

/// The numbered requests of one source.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    taken: Mutex<Producers>,
    /// One request of a producer at a time.
    turns: Mutex<HashMap<String, Weak<Turn<()>>>>,
}

impl Numbers {
    /// Goes on with what the stream's log remembers.
    pub(super) fn resume(&self, producers: Producers) {
        *self.taken.lock().expect("no holder of this lock panics") = producers;
    }

    fn arrived(&self, numbered: &Numbered) -> Arrived {
        let taken = self.taken.lock().expect("no holder of this lock panics");
        taken.arrived(&numbered.producer, numbered.sequence)
    }

    fn take(&self, mark: ProducerMark) {
        self.taken.lock().expect("no holder of this lock panics").take(mark);
    }

    fn turn(&self, producer: &str) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock().expect("no holder of this lock panics");
        if let Some(turn) = turns.get(producer).and_then(Weak::upgrade) {
            return turn;
        }
        if turns.len() >= TURNS {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::new(Turn::new(()));
        turns.insert(producer.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

impl Publishers {
    /// As [`Publishers::publish`], once however often the request comes: one that was taken before is not taken again,
    /// one before which others are missing is refused. What is remembered lasts as long as the rows do: of a durable
    /// stream it outlasts the process. The rows of a request are committed together.
    ///
    /// # Errors
    /// [`PublishError`]. The same request can be sent again, whatever it is.
    pub async fn publish_numbered(
        &self,
        source: &str,
        body: Bytes,
        numbered: Numbered,
    ) -> Result<NumberedReport, PublishError> {
        let queue = self.registry.find(source).ok_or_else(|| PublishError::Unknown(source.to_owned()))?;
        // Once it is its turn it goes on when who sent it has gone, until its rows are committed or refused: the next
        // request of the producer, which may be the same, has to know which.
        let turn = queue.numbers.turn(&numbered.producer).lock_owned().await;
        let task = tokio::spawn(async move {
            let _turn = turn;
            queue.publish_next(body, numbered).await
        });
        task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

impl Queue {
    async fn publish_next(self: &Arc<Self>, body: Bytes, numbered: Numbered) -> Result<NumberedReport, PublishError> {
        match self.numbers.arrived(&numbered) {
            Arrived::Before(mark) => return Ok(NumberedReport::Before(mark)),
            Arrived::Gap { expected } => {
                let Numbered { producer, sequence } = numbered;
                return Err(PublishError::SequenceGap { producer, sequence, expected });
            }
            Arrived::Forgotten { expected } => {
                let Numbered { producer, sequence } = numbered;
                return Err(PublishError::SequenceForgotten { producer, sequence, expected });
            }
            Arrived::Next => {}
        }
        let (queue, by) = (self.clone(), numbered.clone());
        let (report, committed) = super::decoding(body, move |body| queue.publish(body, Some(&by))).await?;
        settled(committed).await?;
        let Numbered { producer, sequence } = numbered;
        let (accepted, rejected) = (report.accepted, report.rejected);
        self.numbers.take(ProducerMark { producer, sequence, accepted, rejected });
        Ok(NumberedReport::Taken(report))
    }

    /// All of a body as one part, which is committed as a whole.
    pub(super) fn together(&self, decoded: Vec<Decoded>) -> Result<Vec<Decoded>, PublishError> {
        let rows: Vec<&RecordBatch> = decoded.iter().map(|part| &part.rows).collect();
        let rows = concat_batches(&self.schema, rows);
        let rows = rows.map_err(|error| PublishError::NotStored(format!("it is too large for one batch: {error}")))?;
        let undecodable = decoded.iter().map(|part| part.undecodable).sum();
        let rejects = decoded.into_iter().flat_map(|part| part.rejects).collect();
        Ok(vec![Decoded { rows, undecodable, rejects }])
    }
}

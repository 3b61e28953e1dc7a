//! What a task tells: final results, running ones, and rows that came too late.

use std::time::Duration;

use super::{Task, Work, nanoseconds};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::late::Late;
use crate::operator::Output;
use crate::stream::Stream;

impl Task {
    pub(super) async fn tick(&mut self, interval: Option<Duration>) -> Result<(), EngineError> {
        let mut output = Output::default();
        if let (Work::Operator(operator), Some(interval)) = (&mut self.work, interval) {
            operator.tick(&mut output)?;
            self.next_tick = self.shared.clock.now().plus(nanoseconds(interval));
        }
        self.write(output, self.shared.clock.now()).await
    }

    pub(super) async fn write(&mut self, mut output: Output, arrival: EventTime) -> Result<(), EngineError> {
        let places = if output.rows.is_empty() { Vec::new() } else { self.places() };
        self.leave_out(&mut output, &places)?;
        if !output.rows.is_empty() {
            let inputs = self.read_so_far(&output.rows, places);
            self.output.write(output.rows, inputs).await?;
        }
        if let Some(updates) = self.updates.as_mut().filter(|_| !output.updates.is_empty()) {
            updates.write(output.updates, Vec::new()).await?;
        }
        if let Some(tap) = self.late.as_mut().filter(|_| self.job.late.as_ref().is_some_and(Late::is_wanted)) {
            tap.write(output.late, arrival).await?;
        }
        Ok(())
    }

    pub(super) async fn end_partition(&mut self, partition: u32) -> Result<(), EngineError> {
        let mut output = Output::default();
        self.set_steady(false);
        if let Work::Operator(operator) = &mut self.work {
            operator.end_partition(partition, &mut output)?;
            self.write(output, self.shared.clock.now()).await?;
            if let Some(tap) = &mut self.late {
                tap.end(partition)?;
            }
            self.book()?;
            self.running_partitions -= 1;
            if self.keeps_partitions && partition < self.job.output.partitions() {
                self.job.output.end(partition);
            } else if !self.keeps_partitions && self.running_partitions == 0 {
                (0..self.job.output.partitions()).for_each(|partition| self.job.output.end(partition));
                if let Some(updates) = &self.job.updates {
                    updates.end(0);
                }
            }
        } else {
            self.job.output.end(partition);
        }
        self.set_steady(true);
        Ok(())
    }
}

//! What a task is asked between batches.

use super::alter::Altering;
use super::{Task, Work};
use crate::job::hold::Rested;
use crate::job::{Command, Status};

impl Task {
    pub(super) fn answer(&mut self, command: Command) {
        let reply = match command {
            Command::Snapshot(reply) => reply,
            Command::Where(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.whereabouts());
                return;
            }
            // It is a task of its own.
            Command::Apart => return,
            Command::Switch(switch) => {
                self.switching = Some(*switch);
                return;
            }
            Command::Note(told) => {
                self.notes.push(told);
                return;
            }
            Command::Alter(successor) => {
                self.altering = Some(Altering::new(successor));
                return;
            }
            Command::Resume { skip: Some(_), .. }
                if self.job.hold.is_paused() && matches!(self.job.status(), Status::Running) =>
            {
                // What it skips is known once it rests.
                self.wakes = Some(command);
                return;
            }
            Command::Resume { reply, .. } => {
                // It has not come to rest yet.
                self.job.hold.wake();
                // Whoever asked may have gone.
                let _ = reply.send(Rested::default());
                return;
            }
        };
        let batches = match &mut self.work {
            Work::Operator(operator) => operator.snapshot(),
            Work::HandOn => Ok(Vec::new()),
        };
        let next = self.updates.as_ref().unwrap_or(&self.output).next(0);
        // Whoever asked may have gone.
        let _ = reply.send(batches.map(|batches| (batches, next)));
    }
}

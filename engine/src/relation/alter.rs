//! Named streams whose query becomes another.

use std::sync::{Arc, Mutex};

use arrow::datatypes::SchemaRef;
use squilla_query::{Query, WINDOW_TIME, WindowSpec};

use super::{Definition, LateRelation, Relation};
use crate::engine::counts_rows;
use crate::error::EngineError;
use crate::job::{Job, Recovery, Status, Told};

impl Relation {
    /// The job of a stream whose query can become another now.
    ///
    /// # Errors
    /// [`EngineError::NotAltered`].
    pub(crate) fn alterable(&self) -> Result<Arc<Job>, EngineError> {
        let not = |status: &str| EngineError::NotAltered { name: self.name.clone(), status: status.to_owned() };
        let Definition::Stream { lease, .. } = &self.definition else { return Err(not("it is no named stream")) };
        let job = lease.job();
        if self.paused().is_some() || job.hold.is_paused() {
            return Err(not("it is paused"));
        }
        match job.status() {
            Status::Running => Ok(job.clone()),
            Status::Ended | Status::Failed(_) => Err(not(&job.status_text())),
        }
    }

    /// Whether it is a result that changes.
    pub(crate) fn is_changing(&self) -> bool {
        matches!(&self.definition, Definition::Stream { changing: true, .. })
    }

    /// Which of its logs on disk it writes.
    pub(crate) fn generation(&self) -> u32 {
        self.lasts().map_or(0, |lasts| lasts.generation)
    }

    /// Whether it goes on where it ended when the process does.
    pub(crate) fn goes_on_exactly(&self) -> bool {
        self.lasts().is_some_and(|lasts| lasts.recovery == Recovery::ExactlyOnce)
    }

    /// Whether snapshots are taken of what it keeps.
    pub(crate) fn has_snapshots(&self) -> bool {
        self.lasts().is_some_and(|lasts| lasts.snapshots.is_some())
    }

    /// Whether rows make its windows by their count, in the order of their arrival.
    pub(crate) fn counts_rows(&self) -> bool {
        matches!(&self.definition, Definition::Stream { counts_rows: true, .. })
    }

    /// The grid that the ends of its windows lie on; `None`: they lie on none, or there are none.
    pub(crate) fn windows(&self) -> Option<WindowSpec> {
        match &self.definition {
            Definition::Stream { windows, .. } => *windows,
            Definition::Live { .. } | Definition::Rereadable { .. } => None,
        }
    }

    /// Who reads its late rows, itself aside.
    pub(crate) fn late_users(&self) -> Vec<String> {
        let Definition::Stream { late, .. } = &self.definition else { return Vec::new() };
        let job = late.job.lock().expect("no holder of this lock panics");
        let users = job.as_ref().map(|lease| lease.job().users()).unwrap_or_default();
        users.into_iter().filter(|user| *user != self.name).collect()
    }

    /// The same stream with another query, whose columns are the same. Its late rows are gathered anew when they are read.
    pub(crate) fn altered(
        &self,
        reads: Vec<String>,
        query: &Query,
        windows: Option<WindowSpec>,
        late: Option<SchemaRef>,
        (told, inputs_last): (Told, bool),
    ) -> Self {
        let Definition::Stream { schema, lease, lasts, late: old, .. } = &self.definition else {
            unreachable!("only a stream has a query")
        };
        if let Some(late) = old.job.lock().expect("no holder of this lock panics").take() {
            late.job().cancel.cancel();
        }
        let event_time = if query.plan.is_windowed() { WINDOW_TIME } else { "that of what it reads" };
        Self {
            name: self.name.clone(),
            definition: Definition::Stream {
                reads,
                event_time: event_time.to_owned(),
                schema: schema.clone(),
                changing: query.plan.is_changing(),
                counts_rows: counts_rows(&query.plan),
                windows,
                lease: lease.clone(),
                lasts: lasts.altered(told, inputs_last),
                late: LateRelation { schema: late, job: Mutex::default() },
                resting: Mutex::default(),
            },
        }
    }
}

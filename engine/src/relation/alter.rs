//! Named streams whose query becomes another.

use std::sync::{Arc, Mutex};

use arrow::datatypes::{Field, SchemaRef};
use squilla_query::{Plan, Query, WINDOW_TIME, WindowSpec, sql_name};

use super::{Definition, LateRelation, Relation};
use crate::engine::counts_rows;
use crate::error::EngineError;
use crate::job::{Job, Recovery, Status, Told};

impl Relation {
    /// Refuses a plan that was made when the stream had other columns.
    ///
    /// # Errors
    /// [`EngineError::Altered`].
    pub(crate) fn check_columns(&self, plan: &Plan, name: &str) -> Result<(), EngineError> {
        if let (Plan::Scan { relation, schema }, Definition::Stream { .. }) = (plan, &self.definition)
            && relation == name
        {
            let own = self.schema();
            let here = |field: &&Arc<Field>| own.field_with_name(field.name()).ok();
            let same = |field: &&Arc<Field>| here(field).is_some_and(|here| here.data_type() == field.data_type());
            if let Some(field) = schema.fields().iter().find(|field| !same(field)) {
                let other = here(&field).map_or_else(
                    || format!("it has no column \"{}\" any more", field.name()),
                    |here| format!("column \"{}\" is {} now", field.name(), sql_name(here.data_type())),
                );
                return Err(EngineError::Altered { name: self.name.clone(), what: other });
            }
        }
        plan.inputs().into_iter().try_for_each(|input| self.check_columns(input, name))
    }

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

    /// The job that gathers its late rows, which uses it though nobody may read those.
    pub(super) fn late_job_id(&self) -> Option<String> {
        let Definition::Stream { late, .. } = &self.definition else { return None };
        late.job.lock().expect("no holder of this lock panics").as_ref().map(|lease| lease.job().id.clone())
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

//! A named stream whose readers cannot go on: its job ends, and another writes a log of its own from there on.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::carry::{Carry, Reader, Waiting};
use super::{Before, HandedOver, Making, Next, Told, begin_state, begins, let_go};
use crate::clock::EventTime;
use crate::engine::StreamOptions;
use crate::error::EngineError;
use crate::failpoint::Failpoint;
use crate::job::build::{Node, Relations};
use crate::job::feed::Begin;
use crate::job::lasting::{Beginning, Onset};
use crate::job::{Job, Lasts, Lease, build_stream};
use crate::shared::Shared;
use crate::stream::{Durability, Position};

/// What another log is made with.
pub(crate) struct Anew<'a> {
    /// Visible fields.
    pub(crate) schema: &'a SchemaRef,
    pub(crate) options: &'a StreamOptions,
    /// Its rows replace each other: it begins as if it had been created.
    pub(crate) changing: bool,
    /// Who reads the stream and goes on; the visible fields that it has had.
    pub(crate) readers: Vec<Reader>,
    pub(crate) was: &'a SchemaRef,
}

/// What has taken a job's place.
pub(crate) struct Replaced {
    pub(crate) lease: Arc<Lease>,
    pub(crate) lasts: Lasts,
    pub(crate) at: HandedOver,
    /// What its rows are.
    pub(crate) told: Told,
    /// It began as if it had been created then.
    pub(crate) anew: bool,
}

/// Has another job take the place of a named stream's, at the place where that one ends; it is there, with its log,
/// before `decide` is awaited. Until then the old one rests, and when it is decided otherwise it goes on.
pub(crate) async fn replace(
    shared: &Arc<Shared>,
    job: &Arc<Job>,
    (node, relations): (&Node, &Relations),
    (before, windowed): (Before, bool),
    anew: Anew<'_>,
    decide: impl Future<Output = Result<(), EngineError>> + Send,
) -> Result<Replaced, EngineError> {
    let making = Making { shared, job, relations, before };
    let (inputs, told, one_step) = making.inputs(node, windowed)?;
    let users = users_of(&anew.readers);
    let refused = |why: &str| EngineError::NotCarried { name: making.name(), user: users.clone(), why: why.to_owned() };
    if !one_step && !users.is_empty() {
        return Err(refused("it would be told anew: what it keeps without windows takes more than one step"));
    }
    let (ready, handle) = making.ready(told, None).await?;
    let waiting = Waiting::of(shared, job, anew.readers, anew.was).await?;
    let until = if told == Told::Windows { ready.at.watermark } else { EventTime::MIN };
    let carry = waiting.as_ref().map(|_| Carry::of(job, until, users.clone()));
    let live = || {
        if anew.changing || !one_step {
            return Ok(None);
        }
        let next = making.next(inputs, told, ready.at.watermark)?;
        making.beginning(next, &ready.read).map(Some)
    };
    let onset = Onset {
        read: &ready.read,
        told: ready.at.watermark,
        windowed: told == Told::Windows && !anew.changing,
        at_place: told == Told::State && one_step && !anew.changing,
        carry: carry.as_ref(),
        live: &live,
    };
    let name = making.name();
    let log = || shared.logs.as_ref().filter(|_| anew.options.durability != Durability::Memory);
    let built = build_stream(shared, (node, relations), &name, anew.schema, anew.options, Some(&onset)).await;
    let (lease, lasts) = match built {
        Ok(built) => built,
        Err(error) => {
            log().into_iter().for_each(|logs| logs.remove(&name, anew.options.generation));
            return Err(error);
        }
    };
    let waits = |job: &Job| (job.can_wait, job.rereadable);
    Failpoint::HandOverBegins.pass();
    let decision = match &waiting {
        Some(_) if waits(lease.job()) != waits(job) => {
            Err(refused("what it reads waits for its readers, or can be read again, as the other does not"))
        }
        _ => decide.await,
    };
    Failpoint::HandOverDecided.pass();
    // It waits for this alone.
    let _ = handle.decided.send(decision.is_ok());
    if let Err(error) = decision {
        lease.job().cancel.cancel();
        let_go(&lease.job().inputs().branches);
        log().into_iter().for_each(|logs| logs.remove(&name, anew.options.generation));
        return Err(error);
    }
    if let Some(waiting) = waiting {
        waiting.go_on(shared, &lease).await;
    }
    Failpoint::HandOverEnds.pass();
    let complete_from = lease.job().chain().iter().map(|job| job.complete_from()).max();
    let complete_from = complete_from.unwrap_or(EventTime::MIN);
    let begun_anew = anew.changing || !one_step;
    Ok(Replaced { lease, lasts, at: HandedOver { complete_from, ..ready.at }, told, anew: begun_anew })
}

/// Whose the readers are, each once, in words.
fn users_of(readers: &[Reader]) -> String {
    let mut users: Vec<&str> = readers.iter().map(|reader| reader.user.as_str()).collect();
    users.sort_unstable();
    users.dedup();
    users.join("\", \"")
}

impl Making<'_> {
    /// What the job reads that takes the other's place, and where it begins.
    fn beginning(&self, next: Next, read: &[(Arc<Job>, Position)]) -> Result<Beginning, EngineError> {
        Ok(match next {
            Next::Rows(branches) => {
                let begin = Begin::Each(begins(&branches, read));
                (branches, begin)
            }
            Next::Windows(branches) => (branches, Begin::Earliest),
            Next::State { below, step, ops } => {
                let branch = begin_state(self.shared, &self.name(), (below, step, ops), read, false)?;
                (vec![branch], Begin::Earliest)
            }
            Next::Kept(next) => (next.branches, Begin::Fresh),
        })
    }
}

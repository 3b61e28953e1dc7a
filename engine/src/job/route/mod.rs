//! Live queries that filter a stream, together: one task reads the stream for all of them, and asks an index which rows
//! each of them gets.
//!
//! To everybody else each of them is a job as any other, with an output, counters, users and a fingerprint of its own;
//! only its task is shared. A job for whose output no row of a batch is gets nothing told then: its counters and its
//! position and watermark follow within moments, a few jobs at a time, so that ten thousand waiting jobs cost next to
//! nothing. While rows come faster than they could be told one by one, or from a source that waits for its readers, those
//! that were found wait for others of the same jobs and are told together, moments later; when nothing follows, they are
//! told at once. Whatever is out of the ordinary is done by tasks of their own: a job goes on as one, behind the last row
//! that it was shown, when it is told anything, when another job reads it (whose windows wait for its watermarks), when its
//! reader makes it wait, and when a row makes it fail.

mod carry;
mod columns;
mod gather;
mod member;
mod routing;
mod search;
mod tail;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use arrow::datatypes::SchemaRef;
use tokio::sync::{Notify, mpsc};

use super::branch::OpSpec;
use super::feed::{Begin, Feed, leading_filters};
use super::run::{JobSpec, make_job};
use super::{COMMANDS, Command, Job, Lease};
use crate::counters::Counters;
use crate::error::EngineError;
use crate::operator::Predicate;
use crate::shared::Shared;
use crate::stream::{MemoryStream, Offset, Start, Stream};
use routing::Routing;

/// The tasks that filter streams, by the streams that they read.
pub(crate) type Routers = Mutex<HashMap<usize, Arc<Router>>>;

/// A task that filters a stream, to those who join it.
pub(crate) struct Router {
    newcomers: Mutex<Vec<Newcomer>>,
    /// There are newcomers.
    bell: Notify,
}

/// A job that joins.
struct Newcomer {
    job: Arc<Job>,
    inbox: mpsc::Receiver<Command>,
    predicate: Predicate,
    /// The first offset that it gets, of each partition.
    first: Vec<Offset>,
}

impl Router {
    fn newcomers(&self) -> MutexGuard<'_, Vec<Newcomer>> {
        self.newcomers.lock().expect("no holder of this lock panics")
    }
}

/// The place of a stream among the routers.
fn key_of(stream: &Arc<MemoryStream>) -> usize {
    Arc::as_ptr(stream) as usize
}

/// What a job keeps, if that can be looked up: it filters one stream that has a name, whose rows all lie before it, and
/// does no more than choose and compute columns. `None`: it needs a task of its own.
pub(super) fn predicate_of(spec: &JobSpec, begin: &Begin) -> Option<Predicate> {
    let [branch] = spec.branches.as_slice() else { return None };
    let plain = spec.stage.is_stateless() && spec.stream.is_none() && spec.output.is_none() && !spec.private;
    let input = branch.job();
    if !plain || branch.updates || branch.late || input.stream.is_none() || !input.logged {
        return None;
    }
    let from_first = match begin {
        Begin::Fresh => branch.fresh,
        Begin::Earliest => true,
        Begin::At(_) | Begin::Each(_) | Begin::After(..) => return None,
    };
    if from_first && input.output.facts().rows_total > 0 {
        return None;
    }
    conditions_of(&branch.ops, branch.stream().schema())
}

/// What steps over a stream filter, if that can be looked up and they do no more than choose and compute columns
/// beside.
pub(super) fn conditions_of(ops: &[OpSpec], input: &SchemaRef) -> Option<Predicate> {
    let filters = leading_filters(ops);
    if filters == 0 || !ops[filters..].iter().all(tail::is_plain) {
        return None;
    }
    let conditions: Vec<_> = ops[..filters]
        .iter()
        .filter_map(|op| if let OpSpec::Filter(condition) = op { Some(condition) } else { None })
        .collect();
    Predicate::new(&conditions, input)
}

/// Starts a job among those that filter the same stream.
///
/// # Errors
/// [`EngineError::Plan`] when one of its steps cannot be computed.
pub(super) fn join(
    shared: &Arc<Shared>,
    spec: JobSpec,
    predicate: Predicate,
    (begin, holding): (&Begin, bool),
    user: &str,
) -> Result<Lease, EngineError> {
    let stream = spec.branches[0].stream().clone();
    let mut routers = shared.routers.lock().expect("no holder of this lock panics");
    let router = routers.entry(key_of(&stream)).or_insert_with(|| {
        let router = Arc::new(Router { newcomers: Mutex::default(), bell: Notify::new() });
        let reader = stream.clone().reader(&Start::Latest, holding);
        shared.handle.spawn(Routing::new(shared, &router, &stream, reader, holding).run());
        router
    });
    let router = router.clone();
    // No batch that lies behind the place where it begins is looked at before it has joined.
    let mut newcomers = router.newcomers();
    drop(routers);
    let counters = Arc::new(Counters::default());
    // Who is overtaken by nobody begins with the first row: there is none yet.
    let feed = Feed::open(&spec.branches, &spec.stage, (begin, spec.needed, shared.clock.now()), false, &counters)?;
    let places = feed.positions();
    let first = |partition| places.first().and_then(|place| place.offsets.get(&partition)).map_or(Offset(0), |at| at.0);
    let first = (0..stream.partitions()).map(first).collect();
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let job = Arc::new(make_job(shared, spec, &feed, counters, commands));
    job.routed.store(true, std::sync::atomic::Ordering::Release);
    let lease = shared.registry.add(job.clone(), user);
    newcomers.push(Newcomer { job, inbox, predicate, first });
    drop(newcomers);
    router.bell.notify_one();
    Ok(lease)
}

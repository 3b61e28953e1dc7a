//! Who reads a stream that gets a log of its own anew, with other columns, and goes on with it. Each of the jobs that read
//! it stops at its end until it is decided which log the stream has, and goes on with the other at the place that follows.
//! What it has come to is on disk by then, as is what is carried over in the new log: where the one before ended. So a
//! process that starts again goes on there, whichever log the catalog holds.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion_common::{Column, ScalarValue};
use datafusion_expr::Expr;
use squilla_query::NamedExpr;
use tokio::sync::oneshot;

use crate::batch::{Memo, RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::branch::OpSpec;
use crate::job::writer::Writer;
use crate::job::{Branch, Command, Job, Lease, Snapshots, Status};
use crate::shared::Shared;
use crate::stream::{Carried, LogLimits, MemoryStream, Offset, Position, Stream};

/// How long all jobs that read a stream may take to come to its end.
const PATIENCE: Duration = Duration::from_secs(30);

const HELD_UP: &str = "it is held up by who reads it";

/// Texts of what snapshots are taken of: as it was, and as it is to be.
pub(crate) type Plans = (Arc<str>, Arc<str>);

/// A job that is to go on with another log.
pub(crate) struct Reader {
    pub(crate) job: Arc<Job>,
    /// Whose it is: a stream's or a sink's name.
    pub(crate) user: String,
    /// Texts of what snapshots are taken of, with the columns that were and those that are to be; `None`: none are taken.
    pub(crate) plans: Option<Plans>,
    /// Where what it keeps is to be stored, since it cannot be made again of the log, and the job that is to write down
    /// that it is; `None`: nowhere.
    pub(crate) windows: Option<(Arc<Snapshots>, Arc<Job>)>,
}

/// What such a job is asked.
pub(crate) struct Switch {
    pub(crate) from: Arc<Job>,
    /// Where that one's stream ends.
    pub(crate) end: Position,
    /// Its visible fields.
    pub(crate) schema: SchemaRef,
    pub(crate) user: String,
    pub(crate) plans: Option<Plans>,
    pub(crate) snapshots: Option<Arc<Snapshots>>,
    /// Told when it has come to the end, and waits; or that others do.
    pub(crate) ready: oneshot::Sender<Result<Reads, EngineError>>,
    /// What takes its place; nothing, when all stays as it is.
    pub(crate) decided: oneshot::Receiver<Arc<Lease>>,
    /// Told once it goes on.
    pub(crate) done: oneshot::Sender<Result<(), EngineError>>,
}

/// How a job reads the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    Itself,
    ThroughOthers,
}

/// What a log goes on from whose readers go on.
pub(crate) struct Carry {
    pub(crate) carried: Carried,
    /// What readers were told of each partition: the watermark, and whether it was found idle.
    pub(crate) told: Vec<(EventTime, bool)>,
    /// Results of windows with earlier event times were told; `MIN`: none was.
    pub(crate) until: EventTime,
    /// It is told by the clock of a replay.
    replay: bool,
    /// Who reads it, in words.
    users: String,
}

impl Carry {
    /// Of a job that rests.
    pub(crate) fn of(job: &Job, until: EventTime, users: String) -> Self {
        let output = &job.output;
        let carried = Carried::behind(output.carried(), &output.end_position(), output.facts().max_event_time);
        let idle = |partition| output.is_idle(partition);
        let told = (0..).zip(output.watermarks()).map(|(partition, watermark)| (watermark, idle(partition))).collect();
        Self { carried, told, until, replay: output.replay(), users }
    }

    /// Refuses a stream of another form.
    pub(crate) fn check(&self, name: &str, partitions: u32, replay: bool) -> Result<(), EngineError> {
        let own = self.carried.partitions();
        let other = if partitions as usize != own {
            format!("its rows come in {partitions} partitions, no longer in {own}")
        } else if replay != self.replay {
            "its clock is another: one of a replay is not that of live sources".to_owned()
        } else {
            return Ok(());
        };
        Err(EngineError::NotCarried { name: name.to_owned(), user: self.users.clone(), why: other })
    }
}

/// The stream in memory of one that is read by others, in place of another.
pub(crate) async fn carry_in_memory(
    shared: &Shared,
    name: &str,
    schema: &SchemaRef,
    branches: &[Branch],
    carry: &Carry,
) -> Result<Arc<MemoryStream>, EngineError> {
    let partitions = branches.iter().map(|branch| branch.stream().partitions()).sum();
    let replay = branches.iter().any(|branch| branch.job().output.replay());
    carry.check(name, partitions, replay)?;
    let (start, limits) = (carry.carried.start(shared.new_epoch()), shared.limits(LogLimits::NAMED));
    let output = MemoryStream::new(physical_schema(schema), &start, partitions, replay, limits, shared.clock.clone());
    let output = output.taking_over(&carry.carried, carry.until);
    tell(&output, carry, shared.clock.now()).await?;
    Ok(output)
}

/// Records without rows tell what readers were told.
pub(crate) async fn tell(output: &Arc<MemoryStream>, carry: &Carry, now: EventTime) -> Result<(), EngineError> {
    let told = |(partition, (watermark, idle)): (u32, &(EventTime, bool))| StreamBatch {
        kind: RowKind::Append,
        partition,
        first: Offset(0),
        next: Offset(0),
        rows: RecordBatch::new_empty(output.schema().clone()),
        watermark: *watermark,
        arrival: now,
        idle: *idle,
        memo: Memo::default(),
    };
    let known = (0..).zip(&carry.told).filter(|(_, (watermark, _))| *watermark > EventTime::MIN);
    Writer::new(output.clone(), true)?.write(known.map(told).collect(), Vec::new()).await
}

impl Switch {
    pub(crate) fn is_of(&self, branch: &Branch) -> bool {
        Arc::ptr_eq(branch.job(), &self.from)
    }
}

/// Jobs that wait at the end of a stream.
pub(crate) struct Waiting(Vec<Waits>);

struct Waits {
    job: Arc<Job>,
    user: String,
    reads: Reads,
    decided: oneshot::Sender<Arc<Lease>>,
    done: oneshot::Receiver<Result<(), EngineError>>,
}

impl Waiting {
    /// Has all readers of a job that rests come to its end; `None`: there are none.
    pub(crate) async fn of(
        shared: &Shared,
        from: &Arc<Job>,
        readers: Vec<Reader>,
        schema: &SchemaRef,
    ) -> Result<Option<Self>, EngineError> {
        if readers.is_empty() {
            return Ok(None);
        }
        let end = from.output.end_position();
        let (mut waiting, mut asked, mut tellers) = (Vec::new(), Vec::new(), Vec::new());
        for Reader { job, user, plans, windows } in readers {
            let ((ready, is_ready), (decided, decision), (done, is_done)) =
                (oneshot::channel(), oneshot::channel(), oneshot::channel());
            let (snapshots, teller) = windows.unzip();
            tellers.extend(teller.map(|teller| (user.clone(), teller)));
            let switch = Switch {
                from: from.clone(),
                end: end.clone(),
                schema: schema.clone(),
                user: user.clone(),
                plans,
                snapshots,
                ready,
                decided: decision,
                done,
            };
            // One that has ended reads nothing any more.
            if job.commands.send(Command::Switch(Box::new(switch))).await.is_ok() {
                asked.push((user.clone(), is_ready));
                waiting.push(Waits { job, user, reads: Reads::Itself, decided, done: is_done });
            }
        }
        let patience = i64::try_from(PATIENCE.as_nanos()).unwrap_or(i64::MAX);
        let until = shared.clock.sleep_until(shared.clock.now().plus(patience));
        tokio::pin!(until);
        let refused = |user: String, why: &str| {
            let (name, why) = (from.display_name(), why.to_owned());
            EngineError::NotCarried { name, user, why }
        };
        for ((user, ready), waits) in asked.into_iter().zip(&mut waiting) {
            tokio::select! {
                // One that has ended reads nothing any more.
                ready = ready => waits.reads = ready.unwrap_or(Ok(Reads::Itself))?,
                () = &mut until => return Err(refused(user, HELD_UP)),
            }
        }
        for (user, teller) in tellers {
            let (told, written) = oneshot::channel();
            let asked = teller.commands.send(Command::Note(told)).await.is_ok();
            tokio::select! {
                written = written, if asked => if written.is_err() && matches!(teller.status(), Status::Running) {
                    return Err(refused(user, "it has stopped"));
                },
                () = &mut until => return Err(refused(user, HELD_UP)),
                // One that has ended tells nothing any more.
                else => {}
            }
        }
        Ok(Some(Self(waiting)))
    }

    /// Has them go on with what takes the job's place.
    pub(crate) async fn go_on(self, shared: &Arc<Shared>, lease: &Arc<Lease>) {
        let own = |user: &str| Arc::new(Lease::new(lease.job().clone(), user, &shared.registry));
        let (direct, others): (Vec<_>, Vec<_>) = self.0.into_iter().partition(|waits| waits.reads == Reads::Itself);
        let mut gone = Vec::new();
        for Waits { job, user, decided, done, .. } in direct {
            if decided.send(own(&user)).is_ok() {
                gone.push((job, done));
            }
        }
        for (job, done) in gone {
            if let Ok(Err(error)) = done.await {
                tracing::error!(job = job.id, %error, "a job cannot go on with the stream that it reads");
                job.cancel.cancel();
            }
        }
        // What they read has gone on by now.
        for Waits { user, decided, .. } in others {
            // One that has ended reads nothing any more.
            let _ = decided.send(own(&user));
        }
    }
}

/// A branch that reads another job, whose columns are other, and gives what it gave.
pub(crate) fn adapted(branch: &Branch, lease: &Arc<Lease>, schema: &SchemaRef) -> Branch {
    let now = lease.job().output.schema();
    let exprs = schema.fields().iter().map(|field| {
        let same =
            |there: &&Field| there.data_type() == field.data_type() && (field.is_nullable() || !there.is_nullable());
        let there = now.field_with_name(field.name()).ok().filter(same);
        let expr = if there.is_some() { Expr::Column(Column::from_name(field.name())) } else { nothing(field) };
        NamedExpr { expr, name: field.name().clone() }
    });
    let adapt = OpSpec::Project { exprs: exprs.collect(), schema: schema.clone() };
    let ops = if visible(now) == *schema.fields() {
        branch.ops.clone()
    } else {
        std::iter::once(adapt).chain(branch.ops.iter().cloned()).collect()
    };
    Branch { input: lease.clone(), ops, ..branch.clone() }
}

fn visible(physical: &SchemaRef) -> arrow::datatypes::Fields {
    crate::batch::visible_schema(physical).fields().clone()
}

/// What stands for a column that nobody reads and that is no longer there.
fn nothing(field: &Field) -> Expr {
    let none = |kind: &DataType| ScalarValue::try_from(kind).unwrap_or(ScalarValue::Null);
    let value = if field.is_nullable() {
        none(field.data_type())
    } else {
        ScalarValue::new_default(field.data_type()).unwrap_or_else(|_| none(field.data_type()))
    };
    Expr::Literal(value, None)
}

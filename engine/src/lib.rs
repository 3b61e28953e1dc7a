//! Plans and sources in; chained jobs, streams and subscriptions out.
//!
//! An event's way: a [`Connector`] yields record batches, a source job stamps them with event time and watermark
//! and commits them to a [`Stream`]; jobs read streams, apply [`operator`]s and write streams; a
//! [`Subscription`] reads the last one for a client.
//!
//! Live queries that do no more than filter a named stream share one task, which reads the stream once for all of them
//! (`job/route`). It keeps their conditions in an index (`operator/predicate_index`): equalities are found by a look at
//! each row's value, ranges by two searches among the sorted values of a batch, and what is left is judged on the rows
//! found so; each query then gets its rows as columns cut out of common ones. A batch costs what its matching rows
//! cost, however many queries wait. Who gets no row is told how far the stream is within a second: of ten thousand, a
//! hundred at a time. What may fail on a row, what cannot be looked up, and what others read or hold up has a task of
//! its own, as all other jobs have.
//!
//! SQL text, HTTP and wire formats never live here. Jobs see each other's rows only through streams.

pub mod operator;

mod batch;
mod clock;
mod counters;
mod engine;
mod error;
pub mod failpoint;
mod info;
mod job;
mod ledger;
mod notice;
mod relation;
mod shared;
mod sink;
mod source;
mod stream;
mod subscription;

pub use batch::{EVENT_TIME, Memo, RowKind, StreamBatch, WATERMARK, physical_schema, visible_schema};
pub use clock::{Clock, EventTime, ManualClock, SystemClock};
pub use counters::{Counters, CountersSnapshot, FailedSample};
pub use engine::{Alteration, Engine, EngineConfig, Handover, StreamOptions, SubscribeOptions};
pub use error::EngineError;
pub use info::{ExplainedJob, JobInfo, PausedInfo, QueryInfo, StreamInfo};
pub use job::{Quarantine, Recovery, Rested};
pub use ledger::{Loser, Loss, LossReason, Losses, Lost};
pub use notice::{Notice, NoticeKind};
pub use sink::{Sink, SinkHandle, SinkSummary};
pub use source::{
    Connector, ConnectorInfo, EventTimeSpec, PartitionReader, ReadEvent, Receipt, Reject, SourceDefinition,
    WatermarkSpec,
};
pub use stream::{
    Arrived, Commit, CommitError, DiskError, Durability, Gap, GapReason, Offset, Owner, Position, PositionError,
    ProducerMark, Producers, Read, Start, Stream, StreamReader,
};
pub use subscription::{Going, Policy, Progress, Stand, Subscription, SubscriptionEvent, SubscriptionInfo};

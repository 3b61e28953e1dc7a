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
//! # Where a row's time goes
//!
//! Ten million events of the Nexmark benchmark in JSON files, of which 9.2 million are bids of 246 bytes in two files, by
//! a sampling profiler:
//!
//! | of the processor's time of | `tumble`, 2 columns of 7 | `hc`, 6 of 7 |
//! |---|---|---|
//! | reading the files | 10 % | 6 % |
//! | finding the places of values | 49 % | 19 % |
//! | whether it is UTF-8 | 4 % | 2 % |
//! | making columns | 13 % | 18 % |
//! | stamping, streams, windows, groups and their aggregates | 24 % | 55 % |
//!
//! Over batches in memory, which need no decoding, a bid costs 11 ns in `tumble`, 24 ns in `q5` and 126 ns in `hc`
//! (groups by three keys, nearly as many as rows, with distinct texts). Each partition of a source decodes by itself; one
//! task stamps all and commits them; each job is a task. Where an aggregate is what others wait for, it is shared: its
//! panes are gathered by several threads (`operator/yard.rs`), and the rows of one that is long are dealt out
//! (`operator/shards.rs`). Tables of keys are used again for panes to come, which takes a sixth off `q5` and a tenth off
//! `tumble`. Seconds of the processor and, behind the slash, of the clock, medians of three runs on two cores, ahead of
//! all else that was running there:
//!
//! | | before | since digits are skipped by eights, plain columns are made in one loop and aggregates are shared |
//! |---|---|---|
//! | `q0` | 2.06 / 1.98 | 1.83 / 1.82 |
//! | `q2` | 1.81 / 1.13 | 1.58 / 1.02 |
//! | `tumble` | 1.51 / 1.41 | 1.33 / 0.72 |
//! | `q5` | 1.62 / 1.24 | 1.45 / 0.80 |
//! | `q7` | 2.26 / 1.39 | 2.06 / 1.29 |
//! | `q11` | 2.15 / 1.52 | 1.87 / 1.47 |
//! | `hc` | 3.44 / 3.40 | 3.53 / 1.91 |
//!
//! `q0` then still ran on one thread of two: a task that wakes another keeps it for its own thread. Since a
//! partition's reader steps aside after half a millisecond, both decode; of a build that is not optimised, with a tenth of the
//! events, `q0` takes 2.44 / 1.34 instead of 2.46 / 2.47, `q7` 2.76 / 1.46, `q11` 2.70 / 1.56, `hc` 4.30 / 2.32.
//!
//! Of a stream that 1,000 live queries filter, each by other ranges and equalities of several columns, of which one row in
//! a hundred meets one (`--bin many`, batches in memory), the processor's time goes so:
//!
//! | | |
//! |---|---|
//! | looking rows up | 56 % |
//! | picking those that were found, and putting those of a job together | 18 % |
//! | making, stamping and committing | 21 % |
//! | telling jobs and their readers, waking threads, and all else | 5 % |
//!
//! Of looking up, two fifths are the look at each row's value and at the cell of a second column, a quarter finding whose
//! range holds it, a tenth comparing texts. Waking had been worst: the kernel lets a thread that was woken run in the place
//! of the one that woke it, so that each of thousands of readers cost 20 µs of both. Then it was telling each job too often,
//! and looking at candidates one bucket at a time, where each look waits for memory alone. Then a fifth of both cores was
//! idle: threads that helped beside those of the runtime were put where another ran, while the runtime's own had nothing to
//! do; so these help (`operator/crew.rs`). Millions of rows a second, medians; each pair of binaries was run in turn, on a
//! machine that was faster in later ones:
//!
//! | | before | searched by all threads, readers woken together | before | picked by all threads, candidates judged together | before | helped by the runtime's own threads |
//! |---|---|---|---|---|---|---|
//! | one filter | 78 | 119 | 125 | 130 | 99 to 149 | 136 to 143 |
//! | 10,000 by value | 31 | 45 | 55 | 76 | 59 to 79 | 101 to 107 |
//! | 1,000 by ranges | 20 | 34 | 38 | 46 | 31 to 49 | 58 to 69 |
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
mod planners;
mod relation;
mod shared;
mod sink;
mod source;
mod stream;
mod subscription;
mod turn;

pub use batch::{EVENT_TIME, Memo, RowKind, StreamBatch, WATERMARK, physical_schema, visible_schema};
pub use clock::{Clock, EventTime, ManualClock, SystemClock};
pub use counters::{Counters, CountersSnapshot, FailedSample};
pub use engine::{Alteration, Engine, EngineConfig, Handover, ReadBy, StreamOptions};
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
pub use subscription::{
    Completion, Going, Policy, Progress, Stand, SubscribeOptions, Subscription, SubscriptionEvent, SubscriptionInfo,
};

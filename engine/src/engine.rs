//! The engine's front: definitions and queries in, subscriptions and facts out.

mod alter;
mod carry;
mod harm;
mod lifecycle;

pub(crate) use alter::counts_rows;
pub use alter::{Alteration, Handover};
pub use carry::ReadBy;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use squilla_query::{Emit, Query, TimeAttribute, late_of};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::EngineError;
use crate::info::{ExplainedJob, JobInfo, QueryInfo, StreamInfo};
use crate::job::{
    Job, Lease, Linger, Node, Registry, Relations, Use, build_stream, explain, plan_jobs, plan_last, wanted_columns,
};
use crate::ledger::{Loss, Losses, losses, sums};
use crate::planners::Planners;
use crate::relation::{Relation, base_name};
use crate::shared::{Logs, Shared};
use crate::sink::{Sink, SinkHandle, spawn_sink};
use crate::source::SourceDefinition;
use crate::stream::{Durability, LogLimits, Start};
use crate::subscription::{Admission, LiveQueries, LiveQuery, Policy, SubscribeOptions, Subscription};

/// Limits and behaviour of an engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Threads of the compute runtime.
    pub compute_threads: usize,
    /// Bytes of state that one query may hold.
    pub query_state_bytes: usize,
    /// Bytes of state that all queries together may hold.
    pub process_state_bytes: usize,
    /// Live queries there can be.
    pub max_queries: usize,
    /// How long a job without users runs on after the last one vanished.
    pub linger_disconnected: Duration,
    /// How long a job without users runs on after the last one unsubscribed.
    pub linger_unsubscribed: Duration,
    /// How far a `drop_oldest` or `disconnect` subscription may be behind, in bytes of rows.
    pub subscription_lag_bytes: u64,
    /// All readers hold back sources that can wait, so that nothing is skipped (`squilla run`).
    pub lossless: bool,
    /// Where streams that last keep their logs; `None`: there can be none.
    pub log_folder: Option<PathBuf>,
    /// Bytes that all logs on disk together may hold. Beyond, appends are refused.
    pub log_disk_bytes: u64,
    /// After every batch a job goes on with what it restores of its saved state, which must change nothing: for tests.
    pub restores: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            compute_threads: std::thread::available_parallelism().map_or(2, usize::from),
            query_state_bytes: 1 << 30,
            process_state_bytes: 4 << 30,
            max_queries: 20_000,
            linger_disconnected: Duration::from_secs(60),
            linger_unsubscribed: Duration::from_secs(2),
            subscription_lag_bytes: 16 << 20,
            lossless: false,
            log_folder: None,
            log_disk_bytes: 64 << 30,
            restores: false,
        }
    }
}

/// How the log of a named stream is kept.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Whether its rows outlast the process.
    pub durability: Durability,
    /// How long rows are kept.
    pub retention: Duration,
    /// How many bytes of them.
    pub retention_bytes: usize,
    /// It was there when the process started: its log goes on. Otherwise it begins anew.
    pub resumes: bool,
    /// It rests from its start.
    pub paused: bool,
    /// Which of its logs on disk: a stream that is altered may begin another, which has the next number.
    pub generation: u32,
}

impl Default for StreamOptions {
    fn default() -> Self {
        let LogLimits { bytes, age } = LogLimits::NAMED;
        let (durability, resumes, paused, generation) = (Durability::Memory, false, false, 0);
        Self { durability, retention: age, retention_bytes: bytes, resumes, paused, generation }
    }
}

/// Runs jobs. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    relations: Mutex<BTreeMap<String, Arc<Relation>>>,
    queries: LiveQueries,
    /// Taken at shutdown.
    runtime: Mutex<Option<Runtime>>,
    planners: Planners,
    stop: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.get_mut().ok().and_then(Option::take) {
            runtime.shutdown_background();
        }
    }
}

impl Engine {
    /// Starts an engine with a runtime of its own for compute.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when threads cannot be started.
    pub fn new(config: EngineConfig, clock: Arc<dyn Clock>) -> Result<Self, EngineError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.compute_threads.max(1))
            .thread_name("compute")
            .enable_all()
            .build()
            .map_err(|error| EngineError::Internal(Box::new(error)))?;
        let linger = if config.lossless {
            Linger { disconnected: Duration::ZERO, unsubscribed: Duration::ZERO }
        } else {
            Linger { disconnected: config.linger_disconnected, unsubscribed: config.linger_unsubscribed }
        };
        let handle = runtime.handle().clone();
        let registry = Registry::new(linger, clock.clone(), handle.clone());
        let logs = config.log_folder.clone().map(|folder| Logs::new(folder, config.log_disk_bytes)).transpose();
        let logs = logs.map_err(|error| EngineError::Internal(Box::new(error)))?;
        let shared = Arc::new(Shared::new(config, clock, handle, registry, logs));
        let inner = Inner {
            shared,
            relations: Mutex::default(),
            queries: Arc::default(),
            runtime: Mutex::new(Some(runtime)),
            planners: Planners::new()?,
            stop: CancellationToken::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The configuration.
    pub fn config(&self) -> &EngineConfig {
        &self.inner.shared.config
    }

    /// Does what reads and plans statements on a thread with room for any of them, which gives way to those that handle
    /// rows and sockets.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when it panics.
    pub async fn on_planner<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        self.inner.planners.run(work).await
    }

    /// Adds a source. A live one starts at once, so that its log can be read back; one that can be reread starts
    /// with its first reader.
    ///
    /// # Errors
    /// [`EngineError::Exists`], [`EngineError::Source`] when it cannot be opened.
    pub async fn create_source(&self, definition: SourceDefinition) -> Result<(), EngineError> {
        self.check_free(&definition.name)?;
        let relation = Relation::source(&self.inner.shared, definition).await?;
        self.add(relation)
    }

    /// Adds a named stream: a job that runs without clients; its output is a stream like any other.
    ///
    /// # Errors
    /// [`EngineError::Exists`], [`EngineError::UnknownRelation`], [`EngineError::Plan`], [`EngineError::Disk`].
    pub async fn create_stream(&self, name: &str, query: &Query, options: StreamOptions) -> Result<(), EngineError> {
        self.check_free(name)?;
        let late = self.late_schema(query);
        let whole = late.is_some() && !self.config().lossless;
        let relations = self.lease_columns(query, name, whole).await?;
        // A name keeps its jobs running. Of a result that changes its own log gets what is final.
        let node = self.plan_final(query)?.named();
        let (lease, lasts) =
            build_stream(&self.inner.shared, (&node, &relations), name, query.plan.schema(), &options, None).await?;
        let reads = query.plan.relations().iter().map(|read| base_name(read).to_owned()).collect();
        let relation = Relation::stream(name, reads, query, self.windows_of(query), (lease, lasts, late));
        if options.paused {
            // The last job rests already; now those do that work for it alone.
            relation.pause(&self.inner.shared)?;
        }
        if whole {
            // Who asks for late rows does so afterwards. In a script it is known before the first row comes.
            relation.late_job(&self.inner.shared)?;
        }
        let added = self.add(relation);
        self.begin(&relations);
        added
    }

    /// The visible fields of what can be late for a query; `None`: nothing can.
    fn late_schema(&self, query: &Query) -> Option<SchemaRef> {
        let known = self.relations().clone();
        let find = |name: &str| {
            let relation = known.get(base_name(name))?;
            let time = if relation.is_windowed() { TimeAttribute::WindowTime } else { TimeAttribute::Arrival };
            match late_of(name) {
                Some(_) => Some((relation.late_schema()?, TimeAttribute::Arrival)),
                None => Some((relation.schema(), time)),
            }
        };
        query.plan.late_stream(&find).filter(|_| !query.plan.is_changing()).map(|late| late.schema)
    }

    fn check_free(&self, name: &str) -> Result<(), EngineError> {
        if self.relations().contains_key(name) { Err(EngineError::Exists(name.to_owned())) } else { Ok(()) }
    }

    fn add(&self, relation: Relation) -> Result<(), EngineError> {
        let mut relations = self.relations();
        if relations.contains_key(&relation.name) {
            return Err(EngineError::Exists(relation.name));
        }
        relations.insert(relation.name.clone(), Arc::new(relation));
        Ok(())
    }

    /// Removes a source or named stream.
    ///
    /// # Errors
    /// [`EngineError::UnknownRelation`]; [`EngineError::InUse`] while a named stream or sink reads it. Live queries on
    /// it are ended with [`EngineError::Dropped`], and so is every job that reads it.
    pub fn drop_relation(&self, name: &str) -> Result<(), EngineError> {
        let mut relations = self.relations();
        if !relations.contains_key(name) {
            return Err(EngineError::UnknownRelation(name.to_owned()));
        }
        let mut users: Vec<String> =
            relations.values().filter(|other| other.reads(name)).map(|other| other.name.clone()).collect();
        let readers: Vec<Arc<LiveQuery>> =
            self.live().values().filter(|query| query.reads.iter().any(|read| read == name)).cloned().collect();
        users.extend(readers.iter().filter(|query| query.sink).map(|query| query.id.clone()));
        if !users.is_empty() {
            return Err(EngineError::InUse { name: name.to_owned(), users });
        }
        let relation = relations.remove(name);
        drop(relations);
        for query in readers {
            query.end(EngineError::Dropped(name.to_owned()));
        }
        if let Some(relation) = relation {
            relation.stop();
            let own = |job: &Arc<Job>| job.stream.as_deref() == Some(name);
            for job in self.inner.shared.registry.jobs().iter().filter(|job| job.chain().iter().any(own)) {
                job.cancel.cancel();
            }
            if let Some(logs) = &self.inner.shared.logs {
                logs.remove(name, relation.generation());
            }
        }
        Ok(())
    }

    /// Starts a query, or attaches to its jobs that run already.
    ///
    /// # Errors
    /// [`EngineError::UnknownRelation`], [`EngineError::Plan`], [`EngineError::Limit`], [`EngineError::Source`].
    pub async fn subscribe(&self, query: &Query, options: SubscribeOptions) -> Result<Subscription, EngineError> {
        let shared = &self.inner.shared;
        // A client that comes back with its position goes on there.
        let from = options.from.or_else(|| query.since.map(Start::from));
        let options = SubscribeOptions { from, ..options };
        let admission = self.admit(query, None)?;
        admission.live.replay.store(query.until.is_some() || options.speed.is_some() || options.paused, Relaxed);
        let relations = self.lease_relations(query, &admission.live.id).await?;
        let node = self.plan(query)?;
        let subscription = Subscription::open(shared, query, &options, &node, &relations, admission).await?;
        self.begin(&relations);
        Ok(subscription)
    }

    /// Starts a query that feeds a sink, under the sink's name.
    ///
    /// # Errors
    /// As [`Engine::subscribe`].
    pub async fn start_sink(&self, name: &str, query: &Query, sink: Box<dyn Sink>) -> Result<SinkHandle, EngineError> {
        let admission = self.admit(query, Some(name))?;
        let relations = self.lease_relations(query, name).await?;
        let node = self.plan(query)?;
        let options = SubscribeOptions { policy: Some(Policy::Block), ..SubscribeOptions::default() };
        let shared = &self.inner.shared;
        let subscription = Subscription::open(shared, query, &options, &node, &relations, admission).await?;
        let handle = spawn_sink(shared, subscription, sink);
        self.begin(&relations);
        Ok(handle)
    }

    fn admit(&self, query: &Query, sink: Option<&str>) -> Result<Admission, EngineError> {
        let shared = &self.inner.shared;
        let mut queries = self.live();
        let limit = shared.config.max_queries;
        if queries.len() >= limit {
            return Err(EngineError::Limit { what: "live queries", limit });
        }
        let number = shared.next_id();
        let live = Arc::new(LiveQuery::new(number, query, sink, shared));
        queries.insert(number, live.clone());
        Ok(Admission::new(live, number, &self.inner.queries))
    }

    /// Lets sources that can be reread begin. In a `lossless` engine they wait for this, so that every query of a
    /// script sees every row; otherwise it does nothing.
    pub fn start_sources(&self) {
        for job in self.inner.shared.registry.jobs() {
            if let Some(source) = &job.source {
                source.open_gate();
            }
        }
    }

    /// Lets the sources begin that only waited for their first reader.
    fn begin(&self, relations: &Relations) {
        if self.inner.shared.config.lossless {
            return;
        }
        for source in relations.values().filter_map(|lease| lease.job().source.as_ref()) {
            source.open_gate();
        }
    }

    /// Ends a query and all its subscriptions.
    ///
    /// # Errors
    /// [`EngineError::UnknownQuery`].
    pub fn kill(&self, query: &str) -> Result<(), EngineError> {
        let queries = self.live();
        let found = queries.values().find(|live| live.id == query);
        found.ok_or_else(|| EngineError::UnknownQuery(query.to_owned()))?.kill();
        Ok(())
    }

    /// What running a query would start and share.
    ///
    /// # Errors
    /// As [`Engine::subscribe`].
    pub fn explain(&self, query: &Query) -> Result<Vec<ExplainedJob>, EngineError> {
        let node = self.plan(query)?;
        let relations = self.relations().clone();
        let known = |used: &Use| {
            let (Use::Rows(name) | Use::Table(name)) = used;
            let read = wanted_columns(&query.plan, name);
            let read: Vec<&str> = read.iter().map(String::as_str).collect();
            match (relations.get(base_name(name)), late_of(name)) {
                (None, _) => Relation::explain_unknown(),
                (Some(known), None) => known.explain(used, &read),
                (Some(known), Some(_)) => known.explain_late(),
            }
        };
        Ok(explain(&self.inner.shared.registry, &node, &known))
    }

    /// Running jobs, sources first.
    pub fn jobs(&self) -> Vec<JobInfo> {
        self.inner.shared.registry.jobs().iter().map(|job| JobInfo::of(job)).collect()
    }

    /// Sources and named streams, by name.
    pub fn streams(&self) -> Vec<StreamInfo> {
        self.relations().values().map(|relation| relation.info()).collect()
    }

    /// Bytes that all logs on disk hold together, and may hold; `None`: there are none.
    pub fn disk_bytes(&self) -> Option<(u64, u64)> {
        self.inner.shared.logs.as_ref().map(Logs::bytes)
    }

    /// What was lost, by whom and why: what those have lost that run, and the sums of those that have ended.
    pub fn losses(&self) -> Vec<Loss> {
        losses(&self.inner.shared, self.live().values())
    }

    /// The same by reason, of all reasons. Never becomes less.
    pub fn lost(&self) -> Losses {
        self.inner.shared.ledger.rising(sums(&self.losses()))
    }

    /// Live queries, oldest first.
    pub fn queries(&self) -> Vec<QueryInfo> {
        self.live().values().map(|live| live.info()).collect()
    }

    /// Ends every job, and returns when all tasks have ended or five seconds have passed.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        let shared = &self.inner.shared;
        shared.stop();
        for live in self.live().values() {
            live.kill();
        }
        for job in self.inner.shared.registry.jobs() {
            job.cancel.cancel();
        }
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, shared.kept.wait()).await.is_err() {
            tracing::warn!("some streams have not stored what they keep in time: they go on from their last snapshots");
        }
        if let Some(logs) = &shared.logs {
            logs.close().await;
        }
        let runtime = self.inner.runtime.lock().expect("no holder of this lock panics").take();
        if let Some(runtime) = runtime {
            // Joining threads blocks; whoever joins this engine's end should not be blocked with them.
            let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(SHUTDOWN_TIMEOUT));
            if let Err(error) = ended.await {
                tracing::error!(%error, "the compute runtime did not end well");
            }
        }
    }

    fn relations(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Relation>>> {
        self.inner.relations.lock().expect("no holder of this lock panics")
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<LiveQuery>>> {
        self.inner.queries.lock().expect("no holder of this lock panics")
    }

    fn plan(&self, query: &Query) -> Result<Node, EngineError> {
        let updates = query.told(self.inner.shared.config.lossless) != Emit::OnWindowClose;
        plan_last(&query.plan, updates, &self.fields())
    }

    fn plan_final(&self, query: &Query) -> Result<Node, EngineError> {
        plan_jobs(&query.plan, false, &self.fields())
    }

    /// The visible fields of relations and of their late rows, as they are now.
    fn fields(&self) -> impl Fn(&str) -> Option<SchemaRef> {
        let relations = self.relations().clone();
        move |name: &str| {
            let relation = relations.get(base_name(name))?;
            if late_of(name).is_some() { relation.late_schema() } else { Some(relation.schema()) }
        }
    }

    /// Uses the relations that a query reads.
    async fn lease_relations(&self, query: &Query, user: &str) -> Result<Relations, EngineError> {
        self.lease_columns(query, user, false).await
    }

    /// The same; `whole`: with all columns, whether the query reads them or not.
    async fn lease_columns(&self, query: &Query, user: &str, whole: bool) -> Result<Relations, EngineError> {
        let mut leases = Relations::new();
        let shared = &self.inner.shared;
        let rows = query.plan.streams().into_iter().map(Use::Rows);
        for used in rows.chain(query.plan.tables().into_iter().map(Use::Table)) {
            let (Use::Rows(name) | Use::Table(name)) = &used;
            let relation = self.relations().get(base_name(name)).cloned();
            let relation = relation.ok_or_else(|| EngineError::UnknownRelation(name.clone()))?;
            if late_of(name).is_some() {
                let job = relation.late_job(shared)?.job().clone();
                leases.insert(used, Arc::new(Lease::new(job, user, &shared.registry)));
                continue;
            }
            relation.check_columns(&query.plan, name)?;
            let columns: BTreeSet<String> = match whole {
                true => relation.schema().fields().iter().map(|field| field.name().clone()).collect(),
                false => wanted_columns(&query.plan, name),
            };
            let lease = Arc::new(relation.lease(shared, &used, &columns, user).await?);
            leases.insert(used, lease);
        }
        Ok(leases)
    }
}

/// How long tasks may take to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

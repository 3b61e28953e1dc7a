//! Statements, carried out: one place for every client protocol and the command line.

mod alter;
mod analyze;
mod change;
mod define;
mod explain;
mod pause;
mod promote;
mod redact;
mod refusal;
mod restore;
mod script;
mod sink;
mod system;
mod table;

use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use squilla_engine::{Clock, Engine, EngineConfig, EngineError, SinkSummary};
use squilla_query::{Diagnostic, Params, Query, Statement};
use squilla_sources::{Numbered, NumberedReport, PublishReport, SourceEnv};
use tokio::sync::Semaphore;

use crate::catalog::{Names, Store};
use sink::SinkRuns;
use system::System;

pub use refusal::{PublishRefusal, Refusal};
pub(crate) use script::Checked;
pub(crate) use table::rows_as_json;

/// What a service is made with.
#[derive(Debug)]
pub struct ServiceConfig {
    /// Limits of the engine.
    pub engine: EngineConfig,
    /// Folder of the catalog and of streams that last; `None`: nothing is kept.
    pub data_dir: Option<PathBuf>,
    /// Folders under which files may be read and written.
    pub roots: Vec<PathBuf>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// A catalog, an engine and sources, put together. Shared by all clients.
pub struct Service {
    engine: Engine,
    sources: SourceEnv,
    names: RwLock<Arc<Names>>,
    store: Store,
    /// One definition at a time: whoever changes `names` has the only permit.
    turn: Semaphore,
    sinks: SinkRuns,
    system: System,
}

/// What a statement gave.
#[derive(Debug)]
pub enum Answer {
    /// It was carried out; what to tell.
    Done(String),
    /// Rows that end: of `SHOW`, `DESCRIBE`, `EXPLAIN`.
    Table(RecordBatch),
    /// A live query, planned and not started: subscribe to it.
    Live(Query),
    /// A sink that runs now, by name (`CREATE SINK … AS`, `INSERT INTO`).
    Sink(String),
}

impl Service {
    /// Opens the catalog, and starts again what it holds. What cannot be started again stays, marked broken with the
    /// reason, until it is dropped.
    ///
    /// # Errors
    /// A catalog that cannot be read or is locked by another process.
    pub async fn open(config: ServiceConfig) -> Result<Self, Refusal> {
        let engine =
            EngineConfig { log_folder: config.data_dir.as_ref().map(|folder| folder.join("streams")), ..config.engine };
        let store = match config.data_dir {
            None => Store::in_memory(),
            Some(folder) => {
                let opened = tokio::task::spawn_blocking(move || Store::open(&folder)).await;
                opened.map_err(Refusal::panicked)??
            }
        };
        let engine = Engine::new(engine, config.clock.clone()).map_err(Refusal::Engine)?;
        let sources =
            SourceEnv { roots: config.roots, publishers: Arc::default(), faults: Arc::default(), clock: config.clock };
        let service = Self {
            engine,
            sources,
            names: RwLock::default(),
            store,
            turn: Semaphore::new(1),
            sinks: SinkRuns::default(),
            system: System::default(),
        };
        service.restore().await?;
        Ok(service)
    }

    /// Ends a live query for all who read it.
    ///
    /// # Errors
    /// No such query; one of the server's own.
    pub fn kill_query(&self, id: &str) -> Result<(), Refusal> {
        self.system.check_query(id)?;
        self.engine.kill(id).map_err(Refusal::Engine)
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Where sources get what they need, `http` publishers among it.
    pub fn sources(&self) -> &SourceEnv {
        &self.sources
    }

    /// Carries out one statement.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn execute(&self, sql: &str) -> Result<Answer, Refusal> {
        self.execute_with(sql, &Params::new()).await
    }

    /// Carries out one statement with values for its parameters. What it creates is kept with the values in place.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn execute_with(&self, sql: &str, params: &Params) -> Result<Answer, Refusal> {
        let analyzed = self.analyze(sql, params).await?;
        match analyzed.statement {
            Statement::Select(query) => Ok(Answer::Live(query)),
            Statement::Explain { query, analyze: None } => self.explain(&query).map(Answer::Table),
            Statement::Explain { query, analyze: Some(time) } => {
                self.explain_analyze(&query, time).await.map(Answer::Table)
            }
            Statement::Show(show) => Ok(Answer::Table(self.show(show))),
            Statement::Describe(describe) => self.describe(&describe).map(Answer::Table),
            Statement::Kill { query } => {
                self.kill_query(&query)?;
                Ok(Answer::Done(format!("ended query \"{query}\"")))
            }
            Statement::Promote(promote) => self.promote(promote).await,
            Statement::Pause(what) => self.pause(what).await,
            Statement::Resume(resume) => self.resume(resume).await,
            Statement::CreateSource(_)
            | Statement::CreateStream(_)
            | Statement::AlterStream(_)
            | Statement::CreateView(_)
            | Statement::CreateSink(_)
            | Statement::InsertInto(_)
            | Statement::Drop(_) => {
                let _turn = self.take_turn().await;
                // The names may have changed before the turn came.
                let analyzed = self.analyze(sql, params).await?;
                let sql = squilla_query::with_params(sql, params).map_err(Refusal::Mistakes)?;
                self.define(&sql, analyzed, None).await
            }
        }
    }

    /// Reads and plans a live query, with values for its parameters.
    ///
    /// # Errors
    /// Its mistakes; a statement that is no live query is one.
    pub async fn query(&self, sql: &str, params: &Params) -> Result<Query, Refusal> {
        match self.analyze(sql, params).await?.statement {
            Statement::Select(query) => Ok(query),
            _ => Err(Refusal::Mistakes(vec![
                Diagnostic::new("not_live", "only a SELECT can be subscribed to")
                    .help("send other statements to POST /api/v1/statements"),
            ])),
        }
    }

    /// Waits until the bounded inputs of a running sink have ended and its rows are durable; `name` as in
    /// [`Answer::Sink`]. With unbounded inputs it waits for ever.
    ///
    /// # Errors
    /// What ended the sink.
    pub async fn sink_finished(&self, name: &str) -> Result<SinkSummary, Arc<EngineError>> {
        self.sinks.finished(name).await
    }

    /// Reads and plans the statements of a script without carrying them out, for an editor. A statement sees what
    /// those before it would create. Spans are in the whole text.
    ///
    /// # Errors
    /// A mistake of ours.
    pub(crate) async fn check(&self, sql: String) -> Result<Checked, Refusal> {
        let names = self.names();
        self.engine.on_planner(move || script::check(&names, &sql)).await.map_err(Refusal::Engine)
    }

    /// Publishes a body of NDJSON or a JSON array to an `http` source. The first events of a source without columns
    /// define them.
    ///
    /// # Errors
    /// [`PublishRefusal`]; nothing was taken then.
    pub async fn publish(&self, name: &str, body: Bytes) -> Result<PublishReport, PublishRefusal> {
        if self.is_pending(name) {
            self.define_by_events(name, &body).await?;
        }
        self.sources.publishers.publish(name, body).await.map_err(PublishRefusal::Publish)
    }

    /// As [`Service::publish`], of a request that its publisher numbers: sent again, it is not taken twice.
    ///
    /// # Errors
    /// [`PublishRefusal`]; the same can be sent again.
    pub async fn publish_numbered(
        &self,
        name: &str,
        body: Bytes,
        numbered: Numbered,
    ) -> Result<NumberedReport, PublishRefusal> {
        if self.is_pending(name) {
            self.define_by_events(name, &body).await?;
        }
        let published = self.sources.publishers.publish_numbered(name, body, numbered).await;
        published.map_err(PublishRefusal::Publish)
    }

    /// The visible columns of a source, stream or view; `None` when there is none of that name.
    pub(crate) fn columns(&self, name: &str) -> Option<SchemaRef> {
        use squilla_query::Catalog;
        let names = self.names();
        crate::catalog::Lookup::new(&names).relation(name).map(|relation| relation.schema)
    }

    /// All names as they are now.
    pub(crate) fn names(&self) -> Arc<Names> {
        self.names.read().expect("no holder of this lock panics").clone()
    }

    fn set_names(&self, names: Names) {
        *self.names.write().expect("no holder of this lock panics") = Arc::new(names);
    }

    async fn take_turn(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.turn.acquire().await.expect("the semaphore is never closed")
    }
}

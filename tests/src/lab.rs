//! An engine with a catalog beside it and sources that tests feed: queries in SQL without a gateway.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use squilla_engine::{
    Clock, Connector, Durability, Engine, EngineConfig, EngineError, EventTimeSpec, SourceDefinition, StreamOptions,
    WatermarkSpec,
};
use squilla_query::{
    CreateSource, Diagnostic, Params, Query, Statement, TimeAttribute, analyze, bind_watermark, timestamp_type,
};

use crate::names::Names;

/// Delay of the watermark where no clause says one.
const DEFAULT_DELAY_NS: i64 = 5_000_000_000;
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const RETENTION: Duration = Duration::from_secs(900);
const RETENTION_BYTES: usize = 64 << 20;

/// An engine, and the names that have been defined in it.
pub struct Lab {
    /// The engine.
    pub engine: Engine,
    names: Names,
}

/// Gives the connector of a source, by its name and columns.
pub type Connect<'a> = dyn FnMut(&str, &SchemaRef) -> Result<Arc<dyn Connector>, String> + 'a;

/// Why a statement was not carried out.
#[derive(Debug)]
pub enum Refusal {
    /// What the user is told.
    Told(String),
    /// The test itself does not hold together.
    Broken(String),
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        Self::Told(format!("error[{}]: {error}", error.code()))
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Told(text) | Self::Broken(text)) = self;
        f.write_str(text)
    }
}

impl Lab {
    /// A new engine, without names.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub fn new(config: EngineConfig, clock: Arc<dyn Clock>) -> Result<Self, EngineError> {
        Ok(Self { engine: Engine::new(config, clock)?, names: Names::default() })
    }

    /// Carries out a statement. `connect` gives the connector of a source; the query is given back when it is a
    /// `SELECT`.
    ///
    /// # Errors
    /// What the user is told, or what is wrong with the test.
    pub async fn execute(&self, sql: &str, connect: &mut Connect<'_>) -> Result<Option<Query>, Refusal> {
        match analyze(sql, &self.names).map_err(|found| refusal(&found, sql))? {
            Statement::CreateSource(create) => {
                let schema = create.schema.clone();
                let schema = schema.ok_or_else(|| Refusal::Broken(format!("{}: declare columns", create.name)))?;
                let connector = connect(&create.name, &schema)
                    .map_err(|error| Refusal::Broken(format!("{}: {error}", create.name)))?;
                self.create_source(&create, sql, schema, connector).await?;
            }
            Statement::CreateStream(create) => {
                self.engine.create_stream(&create.name, &create.query, StreamOptions::default()).await?;
                self.names.add_query(&create.name, create.kind(), &create.query.plan);
            }
            view @ Statement::CreateView(_) => self.names.define(&view),
            Statement::Select(query) => return Ok(Some(query)),
            other => return Err(Refusal::Broken(format!("{other:?} cannot be carried out here"))),
        }
        Ok(None)
    }

    /// Plans a statement, without carrying it out.
    ///
    /// # Errors
    /// Its mistakes.
    pub fn analyze(&self, sql: &str) -> Result<Statement, Vec<Diagnostic>> {
        analyze(sql, &self.names)
    }

    /// The same with values for its parameters.
    ///
    /// # Errors
    /// Its mistakes.
    pub fn analyze_with(&self, sql: &str, params: &Params) -> Result<Statement, Vec<Diagnostic>> {
        squilla_query::analyze_with(sql, params, &self.names)
    }

    /// Plans a `SELECT`.
    ///
    /// # Panics
    /// If it is refused, or something else.
    pub fn query(&self, sql: &str) -> Query {
        match analyze(sql, &self.names) {
            Ok(Statement::Select(query)) => query,
            Ok(other) => panic!("no SELECT: {other:?}"),
            Err(found) => panic!("{}", refusal(&found, sql)),
        }
    }

    async fn create_source(
        &self,
        create: &CreateSource,
        sql: &str,
        schema: SchemaRef,
        connector: Arc<dyn Connector>,
    ) -> Result<(), Refusal> {
        let (event_time, time) = event_time(create, &schema).map_err(|found| refusal(&found, sql))?;
        let definition = SourceDefinition {
            name: create.name.clone(),
            schema: schema.clone(),
            key: create.key.as_ref().map(|key| key.columns.clone()).unwrap_or_default(),
            event_time,
            idle_timeout: IDLE_TIMEOUT,
            retention: RETENTION,
            retention_bytes: RETENTION_BYTES,
            durability: Durability::Memory,
            resumes: false,
            connector,
        };
        self.engine.create_source(definition).await?;
        self.names.add_source(create, &schema, time);
        Ok(())
    }
}

fn refusal(found: &[Diagnostic], sql: &str) -> Refusal {
    Refusal::Told(found.iter().map(|diagnostic| diagnostic.render(sql)).collect::<Vec<_>>().join("\n"))
}

fn event_time(create: &CreateSource, schema: &SchemaRef) -> Result<(EventTimeSpec, TimeAttribute), Vec<Diagnostic>> {
    let (index, watermark) = match &create.watermark {
        Some(clause) => {
            let no_column =
                |error: arrow::error::ArrowError| vec![Diagnostic::new("unknown_column", error.to_string())];
            let index = schema.index_of(&clause.column).map_err(no_column)?;
            (index, WatermarkSpec::Expr(bind_watermark(clause, schema)?))
        }
        None if create.key.is_some() => return Ok((EventTimeSpec::Arrival, TimeAttribute::Arrival)),
        None => match schema.fields().iter().position(|field| field.data_type() == &timestamp_type()) {
            Some(index) => (index, WatermarkSpec::Delay(DEFAULT_DELAY_NS)),
            None => return Ok((EventTimeSpec::Arrival, TimeAttribute::Arrival)),
        },
    };
    let time = TimeAttribute::Column(schema.field(index).name().clone());
    Ok((EventTimeSpec::Column { index, watermark }, time))
}

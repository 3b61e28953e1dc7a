//! `CREATE`, `INSERT INTO` and `DROP`. Whoever calls this has the only permit to change the names.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::Schema;
use bytes::Bytes;
use squilla_engine::{EngineError, EventTimeSpec, SourceDefinition, StreamOptions};
use squilla_query::{
    CreateSink, CreateSource, CreateStream, CreateView, Diagnostic, DropKind, DropRelation, InsertInto, Query,
    Relation, RelationKind, Statement, TimeAttribute,
};
use squilla_sources::{PublishError, define_sink, define_source, define_stream, infer_json};

use super::analyze::{Analyzed, place_of};
use super::{Answer, PublishRefusal, Refusal, Service};
use crate::catalog::{Body, Definition, Feed, Names, Stored, StoredKind, relation_of_query};

/// Code of the diagnostic by which a source says that its columns must be inferred from events.
const NEEDS_EVENTS: &str = "needs_events";

/// How long a sink may take to end when it is dropped.
const SINK_END: Duration = Duration::from_secs(5);

/// Users that a refusal names at the most; the others are counted.
const SHOWN_USERS: usize = 20;

/// A statement that defines something, while it is carried out.
struct Task<'a> {
    /// Its text.
    sql: &'a str,
    /// Known names that it asked for.
    asked: Vec<String>,
    /// Where it is stored already; `None`: it is new.
    stored: Option<&'a Stored>,
}

impl Task<'_> {
    /// What it reads, its own name aside.
    fn reads(&self, own: &str) -> Vec<String> {
        self.asked.iter().filter(|name| *name != own).cloned().collect()
    }
}

impl Service {
    /// Carries out a statement that creates, feeds or drops something.
    pub(super) async fn define(
        &self,
        sql: &str,
        analyzed: Analyzed,
        stored: Option<&Stored>,
    ) -> Result<Answer, Refusal> {
        self.system.check_reads(&analyzed.asked, sql)?;
        let task = Task { sql, asked: analyzed.asked, stored };
        match analyzed.statement {
            Statement::CreateSource(create) => self.create_source(task, create).await,
            Statement::CreateStream(create) => self.create_stream(task, create).await,
            Statement::AlterStream(_) => self.alter_stream(sql, &task.asked).await,
            Statement::CreateView(create) => self.create_view(task, create).await,
            Statement::CreateSink(create) => self.create_sink(task, create).await,
            Statement::InsertInto(insert) => self.insert_into(task, insert).await,
            Statement::Drop(drop) => self.drop_definition(sql, &drop).await,
            other => unreachable!("{other:?} defines nothing"),
        }
    }

    async fn create_source(&self, task: Task<'_>, mut create: CreateSource) -> Result<Answer, Refusal> {
        if let Some(answer) = self.exists_already(&create.name, create.if_not_exists, task.sql)? {
            return Ok(answer);
        }
        if let Some(columns) = task.stored.and_then(|stored| stored.columns.clone()) {
            create.schema = Some(columns);
        }
        let name = create.name.clone();
        let definition = match define_source(&create, &self.sources).await {
            Ok(definition) => definition,
            Err(mistakes) if mistakes.iter().any(|mistake| mistake.code == NEEDS_EVENTS) => {
                self.record(&task, StoredKind::Source, &name, Body::Pending(Box::new(create))).await?;
                let message = format!(
                    "created source \"{name}\"; its columns are inferred from the first events that are sent to POST /api/v1/streams/{name}/events"
                );
                return Ok(Answer::Done(message));
            }
            Err(mistakes) => return Err(Refusal::Mistakes(mistakes)),
        };
        let relation = relation_of_source(&create, &definition);
        let definition = SourceDefinition { resumes: task.stored.is_some(), ..definition };
        self.engine.create_source(definition).await.map_err(Refusal::Engine)?;
        self.record_running(&task, StoredKind::Source, &name, relation).await?;
        Ok(Answer::Done(format!("created source \"{name}\"")))
    }

    async fn create_stream(&self, task: Task<'_>, create: CreateStream) -> Result<Answer, Refusal> {
        if let Some(answer) = self.exists_already(&create.name, create.if_not_exists, task.sql)? {
            return Ok(answer);
        }
        let kind = create.kind();
        let options = define_stream(&create).map_err(Refusal::Mistakes)?;
        let name = create.name;
        let relation = relation_of_query(&name, kind, &create.query.plan, &self.names());
        let (resumes, paused) = (task.stored.is_some(), task.stored.is_some_and(|stored| stored.paused));
        let generation = task.stored.map_or(0, |stored| stored.log);
        let options = StreamOptions { resumes, paused, generation, ..options };
        self.engine.create_stream(&name, &create.query, options).await.map_err(Refusal::Engine)?;
        self.record_running(&task, StoredKind::Stream, &name, relation).await?;
        Ok(Answer::Done(format!("created stream \"{name}\"")))
    }

    async fn create_view(&self, task: Task<'_>, create: CreateView) -> Result<Answer, Refusal> {
        if let Some(answer) = self.exists_already(&create.name, create.if_not_exists, task.sql)? {
            return Ok(answer);
        }
        let kind = RelationKind::View { sql: create.query.sql };
        let relation = relation_of_query(&create.name, kind, &create.query.plan, &self.names());
        self.record(&task, StoredKind::View, &create.name, Body::Readable(relation)).await?;
        Ok(Answer::Done(format!("created view \"{}\"", create.name)))
    }

    async fn create_sink(&self, task: Task<'_>, create: CreateSink) -> Result<Answer, Refusal> {
        if let Some(answer) = self.exists_already(&create.name, create.if_not_exists, task.sql)? {
            return Ok(answer);
        }
        let (name, query) = (create.name.clone(), create.query.clone());
        let relation = relation_of_sink(&name);
        let Some(query) = query else {
            // Made once to find the mistakes now; it is made again for the rows of each `INSERT INTO`.
            let nothing = Arc::new(Schema::empty());
            define_sink(&create, &nothing, &self.sources).await.map_err(Refusal::Mistakes)?;
            self.record(&task, StoredKind::Sink, &name, Body::Sink(relation, Box::new(create))).await?;
            return Ok(Answer::Done(format!("created sink \"{name}\"; feed it by INSERT INTO {name} SELECT …")));
        };
        let finished = task.stored.is_some_and(|stored| stored.finished);
        let handle = if finished { None } else { Some(self.start_sink(&create, &query).await?) };
        let body = Body::Sink(relation, Box::new(create));
        let id = match self.record(&task, StoredKind::Sink, &name, body).await {
            Ok(id) => id,
            Err(refusal) => {
                drop(handle);
                return Err(refusal);
            }
        };
        if let Some(handle) = handle {
            self.set_names(
                self.names().with_feed(&name, Feed { id, reads: task.reads(&name), sql: task.sql.to_owned() }),
            );
            self.sinks.watch(&name, id, handle, self.store.clone());
        }
        Ok(Answer::Sink(name))
    }

    async fn insert_into(&self, task: Task<'_>, insert: InsertInto) -> Result<Answer, Refusal> {
        let name = insert.sink;
        let names = self.names();
        let definition = names.get(&name).cloned();
        let Some(Body::Sink(_, create)) = definition.as_deref().map(|definition| &definition.body) else {
            let mistake = Diagnostic::new("unknown_relation", format!("no sink \"{name}\""))
                .at(place_of(&name, task.sql))
                .help(format!("create it first: CREATE SINK {name} WITH (connector = 'file', path = '…')"));
            return Err(Refusal::mistake(mistake));
        };
        if matches!(self.sinks.outcome(&name), Some(None)) {
            let mistake = Diagnostic::new("in_use", format!("sink \"{name}\" is fed by another query already"))
                .at(place_of(&name, task.sql))
                .help("feed it by one query: INSERT INTO … SELECT … UNION ALL SELECT …, or create another sink");
            return Err(Refusal::mistake(mistake));
        }
        let started = self.start_sink(create, &insert.query).await;
        // Mistakes in the sink's options have their place in another statement.
        let handle = started.map_err(|refusal| match refusal {
            Refusal::Mistakes(mistakes) => {
                Refusal::Mistakes(mistakes.into_iter().map(|mistake| Diagnostic { span: None, ..mistake }).collect())
            }
            other => other,
        })?;
        let id = match task.stored {
            Some(stored) => stored.id,
            None => self.store.insert(StoredKind::Insert, &name, task.sql).await?,
        };
        self.set_names(names.with_feed(&name, Feed { id, reads: task.reads(&name), sql: task.sql.to_owned() }));
        self.sinks.watch(&name, id, handle, self.store.clone());
        Ok(Answer::Sink(name))
    }

    async fn start_sink(&self, create: &CreateSink, query: &Query) -> Result<squilla_engine::SinkHandle, Refusal> {
        let sink = define_sink(create, query.plan.schema(), &self.sources).await.map_err(Refusal::Mistakes)?;
        self.engine.start_sink(&create.name, query, sink).await.map_err(Refusal::Engine)
    }

    async fn drop_definition(&self, sql: &str, drop: &DropRelation) -> Result<Answer, Refusal> {
        let names = self.names();
        let (name, wanted) = (&drop.name, kind_of_drop(drop.kind));
        self.system.check_drop(name, sql)?;
        let Some(definition) = names.get(name) else {
            if drop.if_exists {
                return Ok(Answer::Done(format!("there is no {} \"{name}\"", wanted.word())));
            }
            let mistake =
                Diagnostic::new("unknown_relation", format!("no {} \"{name}\"", wanted.word())).at(place_of(name, sql));
            let help = format!("SHOW {}S lists what there is", wanted.word().to_uppercase());
            return Err(Refusal::mistake(mistake.help(help)));
        };
        if definition.kind() != wanted {
            let kind = definition.kind().word();
            let mistake = Diagnostic::new("wrong_kind", format!("\"{name}\" is a {kind}, not a {}", wanted.word()))
                .at(place_of(name, sql))
                .help(format!("DROP {} {name}", kind.to_uppercase()));
            return Err(Refusal::mistake(mistake));
        }
        let users = names.all_users(name);
        let gone: Vec<&str> = users.iter().map(String::as_str).chain([name.as_str()]).collect();
        let readers = self.engine.readers(&gone);
        let used = used_by(&names, &users, &readers);
        if !used.is_empty() && !drop.cascade {
            return Err(Refusal::mistake(in_use(name, wanted, &used, sql)));
        }
        self.drop_all(&names, name, &users).await?;
        let also = if used.is_empty() { String::new() } else { format!(", and with it {}", shortened(&used)) };
        Ok(Answer::Done(format!("dropped {} \"{name}\"{also}", wanted.word())))
    }

    /// Drops users first, then what they use. A sink that is only fed from it loses its feed.
    async fn drop_all(&self, names: &Arc<Names>, name: &str, users: &[String]) -> Result<(), Refusal> {
        let gone: BTreeSet<&str> = users.iter().map(String::as_str).chain([name]).collect();
        let mut left = (**names).clone();
        let (mut ids, mut stopped, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        for each in users.iter().map(String::as_str).chain([name]) {
            let Some(definition) = names.get(each) else { continue };
            if let Some(feed) = names.feed(each) {
                ids.push(feed.id);
                stopped.push(each);
                left = left.without_feed(each);
            }
            if each == name || definition.reads.iter().any(|read| gone.contains(read.as_str())) {
                ids.push(definition.id);
                left = left.without(each);
                if matches!(&definition.body, Body::Readable(relation) if is_in_engine(relation)) {
                    dropped.push(each);
                }
            }
        }
        self.store.remove(ids).await?;
        self.set_names(left);
        for sink in stopped {
            self.stop_sink(sink).await;
        }
        for relation in dropped {
            match self.engine.drop_relation(relation) {
                Ok(()) | Err(EngineError::UnknownRelation(_)) => {}
                Err(error) => return Err(Refusal::Engine(error)),
            }
        }
        Ok(())
    }

    /// Ends a sink's query, so that what it reads is free.
    async fn stop_sink(&self, name: &str) {
        if self.engine.kill(name).is_ok() && tokio::time::timeout(SINK_END, self.sinks.finished(name)).await.is_err() {
            tracing::warn!(sink = name, "the sink has not ended in time");
        }
        self.sinks.stop(name);
    }

    /// The answer when the name is taken and that is no mistake; `None` when it is free.
    fn exists_already(&self, name: &str, if_not_exists: bool, sql: &str) -> Result<Option<Answer>, Refusal> {
        let names = self.names();
        let Some(there) = names.get(name) else { return Ok(None) };
        if if_not_exists {
            return Ok(Some(Answer::Done(format!("{} \"{name}\" exists already", there.kind().word()))));
        }
        Err(Refusal::mistake(exists(there, sql)))
    }

    /// Stores what the engine runs already; when that fails, the engine forgets it again.
    async fn record_running(
        &self,
        task: &Task<'_>,
        kind: StoredKind,
        name: &str,
        relation: Relation,
    ) -> Result<(), Refusal> {
        let recorded = self.record(task, kind, name, Body::Readable(relation)).await;
        if recorded.is_err()
            && let Err(error) = self.engine.drop_relation(name)
        {
            tracing::error!(name, %error, "what could not be stored could not be dropped");
        }
        recorded.map(drop)
    }

    /// Stores a new definition and makes its name known; its id.
    async fn record(&self, task: &Task<'_>, kind: StoredKind, name: &str, body: Body) -> Result<i64, Refusal> {
        let id = match task.stored {
            Some(stored) => stored.id,
            None => self.store.insert(kind, name, task.sql).await?,
        };
        let definition =
            Definition { id, name: name.to_owned(), reads: task.reads(name), sql: task.sql.to_owned(), body };
        self.set_names(self.names().with(definition));
        Ok(id)
    }

    /// True for an `http` source without columns.
    pub(crate) fn is_pending(&self, name: &str) -> bool {
        self.names().get(name).is_some_and(|definition| matches!(definition.body, Body::Pending(_)))
    }

    /// Infers the columns of a pending source from its first events, and starts it.
    pub(super) async fn define_by_events(&self, name: &str, body: &Bytes) -> Result<(), PublishRefusal> {
        let _turn = self.take_turn().await;
        let names = self.names();
        // Another publisher may have been first.
        let Some(definition) = names.get(name) else { return Ok(()) };
        let Body::Pending(create) = &definition.body else { return Ok(()) };
        let (events, pending) = (body.clone(), create.clone());
        let inferred = tokio::task::spawn_blocking(move || infer_json(&pending, &events)).await;
        let columns = inferred
            .map_err(|error| PublishRefusal::Define(Refusal::panicked(error)))?
            .map_err(|reason| PublishRefusal::Publish(PublishError::Malformed(reason)))?;
        let create = CreateSource { schema: Some(columns.clone()), ..(**create).clone() };
        let defined = define_source(&create, &self.sources).await.map_err(Refusal::Mistakes);
        let source = defined.map_err(PublishRefusal::Define)?;
        let relation = relation_of_source(&create, &source);
        let stored = self.store.set_columns(definition.id, &columns).await;
        stored.map_err(|error| PublishRefusal::Define(error.into()))?;
        let started = self.engine.create_source(source).await;
        started.map_err(|error| PublishRefusal::Define(Refusal::Engine(error)))?;
        let (id, reads, sql) = (definition.id, definition.reads.clone(), definition.sql.clone());
        let definition = Definition { id, name: name.to_owned(), reads, sql, body: Body::Readable(relation) };
        self.set_names(names.with(definition));
        Ok(())
    }
}

/// The name is taken.
pub(super) fn exists(there: &Definition, sql: &str) -> Diagnostic {
    let (kind, name) = (there.kind().word(), &there.name);
    Diagnostic::new("exists", format!("\"{name}\" exists already: it is a {kind}"))
        .at(place_of(name, sql))
        .help(format!("choose another name, say IF NOT EXISTS, or DROP {} {name} first", kind.to_uppercase()))
}

/// What a sink looks like to `INSERT INTO`: it takes any columns.
pub(super) fn relation_of_sink(name: &str) -> Relation {
    Relation {
        name: name.to_owned(),
        kind: RelationKind::Sink,
        schema: Arc::new(Schema::empty()),
        time: TimeAttribute::Arrival,
        windows: None,
        late: None,
        replay: false,
    }
}

/// What a source or a table is to those who read it.
pub(super) fn kind_of_source(create: &CreateSource) -> RelationKind {
    match &create.key {
        Some(key) => RelationKind::Table { key: key.columns.clone() },
        None => RelationKind::Source,
    }
}

pub(super) fn relation_of_source(create: &CreateSource, definition: &SourceDefinition) -> Relation {
    let time = match &definition.event_time {
        EventTimeSpec::Column { index, .. } => TimeAttribute::Column(definition.schema.field(*index).name().clone()),
        EventTimeSpec::Arrival => TimeAttribute::Arrival,
    };
    Relation {
        name: definition.name.clone(),
        kind: kind_of_source(create),
        schema: create.visible(&definition.schema),
        time,
        windows: None,
        late: None,
        replay: definition.connector.info().replay,
    }
}

/// Who uses what is to be dropped, in words: what was created, oldest first, then live queries.
fn used_by(names: &Names, users: &[String], readers: &[String]) -> Vec<String> {
    let created = |user: &String| {
        let word = names.get(user).map_or("sink", |definition| definition.kind().word());
        format!("{word} \"{user}\"")
    };
    let live = readers.iter().map(|query| format!("live query \"{query}\""));
    users.iter().rev().map(created).chain(live).collect()
}

fn in_use(name: &str, kind: StoredKind, used: &[String], sql: &str) -> Diagnostic {
    let word = kind.word();
    Diagnostic::new("in_use", format!("{word} \"{name}\" is used by {}", shortened(used)))
        .at(place_of(name, sql))
        .help(format!("end those first, or all together: DROP {} {name} CASCADE", word.to_uppercase()))
}

/// The first of many, and how many more there are.
fn shortened(used: &[String]) -> String {
    let shown = &used[..used.len().min(SHOWN_USERS)];
    let more = used.len() - shown.len();
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

fn is_in_engine(relation: &Relation) -> bool {
    !matches!(relation.kind, RelationKind::View { .. } | RelationKind::Sink)
}

fn kind_of_drop(kind: DropKind) -> StoredKind {
    match kind {
        DropKind::Source => StoredKind::Source,
        DropKind::Stream => StoredKind::Stream,
        DropKind::View => StoredKind::View,
        DropKind::Sink => StoredKind::Sink,
    }
}

//! Named streams that go over to another query.

use std::sync::Arc;

use squilla_query::{NamedWindows, Query, WindowSpec, late_name};

use super::{Engine, ReadBy, StreamOptions};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::{Altered, Anew, Before, HandedOver, Job, Relations, Replaced, Told, alter, replace};
use crate::operator::RESULT_LAG_NS;
use crate::relation::{Relation, base_name};
use crate::stream::Durability;
use crate::subscription::LiveQuery;

/// What became of a stream that was to go over to another query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alteration {
    /// It has gone over; its readers stay, offsets go on.
    Done(Handover),
    /// It has gone over, with another epoch: its live readers were ended with [`EngineError::Altered`]. Why they could not
    /// stay, in words.
    Replaced(Handover, String),
    /// It has not: its readers would find its rows to be of another kind, and others need what it was. What is other, and
    /// who needs what was.
    Other(String, Vec<String>),
}

/// Where a stream's new query took over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// At a place in each input: the old query told what is made of the rows before it, the new one tells the others.
    Rows,
    /// At a place in each input, where the windows of the old query that were open then are not told.
    OpenWindows,
    /// Where a new query begins: what the inputs' logs keep counts again.
    Anew,
    /// At a place in each input. What was kept of the rows before it (to join them with others, say) is forgotten.
    State,
    /// At the end of windows: the old query told the results of those that end by then, the new one tells those after.
    Windows {
        /// The end of the last window that was told; `None`: nothing had been told.
        at: Option<EventTime>,
        /// Windows of the new query that start before it may lack rows that the inputs' logs no longer hold; `None`: none
        /// does.
        complete_from: Option<EventTime>,
    },
}

impl Engine {
    /// Has a named stream go over to another query while it runs. `options`: those that it was created with. `users`: the
    /// streams and sinks that read it, at first hand or through others, and can go on with its other columns, with their
    /// queries as they are then. `decide` is called with the number of the log that it will write, and awaited, when
    /// nothing stands in the way any more; it can still refuse.
    ///
    /// # Errors
    /// [`EngineError::UnknownRelation`]; [`EngineError::NotRunning`] for what is no named stream, rests or has ended;
    /// [`EngineError::InUse`] while its late rows are read; [`EngineError::NotCarried`] when one of the users cannot go on;
    /// as [`Engine::create_stream`]; what `decide` says. The old query goes on then.
    pub async fn alter_stream<Decision>(
        &self,
        name: &str,
        query: &Query,
        options: StreamOptions,
        users: &[ReadBy],
        decide: impl FnOnce(u32) -> Decision + Send,
    ) -> Result<Alteration, EngineError>
    where
        Decision: Future<Output = Result<(), EngineError>> + Send,
    {
        let relation = self.relation(name)?;
        let job = relation.alterable()?;
        let late_users = relation.late_users();
        if !late_users.is_empty() {
            return Err(EngineError::InUse { name: late_name(name), users: late_users });
        }
        let late = self.late_schema(query);
        let relations = self.lease_columns(query, name, late.is_some()).await?;
        self.same_sources(&relations, &job)?;
        let node = self.plan_final(query)?.named();
        let told = tells(&relation, &job);
        let (windowed, windows, kept) = (relation.is_windowed(), relation.windows(), relation.has_snapshots());
        let before = Before { told, windowed, windows, kept };
        let kinds = (before, query.plan.is_windowed() && !counts_rows(&query.plan));
        let shared = &self.inner.shared;
        let reads = query.plan.relations().iter().map(|read| base_name(read).to_owned()).collect();
        let (generation, schema) = (relation.generation(), query.plan.schema());
        let mut decide = Some(decide);
        let mut decide = async |log: u32| match decide.take() {
            Some(decide) => decide(log).await,
            None => Err(EngineError::Stopped),
        };
        let other = match ends_readers(&relation, query) {
            Some(other) => other,
            None => match alter(shared, &job, &node, &relations, schema, kinds, decide(generation)).await? {
                Altered::Other(other) => other,
                Altered::Done(at, before, told) => {
                    let last = relations.values().all(|read| read.job().output.durability() == Durability::Durable);
                    let altered = relation.altered(reads, query, self.windows_of(query), late, (told, last));
                    self.relations().insert(name.to_owned(), Arc::new(altered));
                    self.begin(&relations);
                    return Ok(Alteration::Done(handover(at, before, told)));
                }
            },
        };
        let changing = query.plan.is_changing() || relation.is_changing();
        let may_go_on = !changing && other_columns(&relation.schema(), schema).is_some();
        let known = |name: &String| may_go_on && users.iter().any(|user| user.name == *name);
        let needed = self.needed_as_it_is(name, known);
        if !needed.is_empty() {
            return Ok(Alteration::Other(other, needed));
        }
        let readers = self.carried(name, &job, schema, users).await?;
        let lasting = options.durability != Durability::Memory;
        let options = StreamOptions { generation: if lasting { generation + 1 } else { 0 }, ..options };
        let was = relation.schema();
        let anew = Anew { schema, options: &options, changing, readers, was: &was };
        let decision = decide(options.generation);
        let Replaced { lease, lasts, at, told: now, anew } =
            replace(shared, &job, (&node, &relations), kinds, anew, decision).await?;
        let windows = self.windows_of(query);
        let replaced = Relation::stream(name, reads, query, windows, (lease, lasts, late));
        self.relations().insert(name.to_owned(), Arc::new(replaced));
        self.begin(&relations);
        self.end_replaced(&relation, &job, &other);
        let how = if anew { Handover::Anew } else { handover(at, told, now) };
        Ok(Alteration::Replaced(how, other))
    }

    /// Ends what another job has taken the place of, with its log and its readers.
    fn end_replaced(&self, relation: &Relation, job: &Arc<Job>, what: &str) {
        let (shared, name) = (&self.inner.shared, &relation.name);
        relation.stop();
        let own = |below: &Arc<Job>| Arc::ptr_eq(below, job);
        for job in shared.registry.jobs().iter().filter(|job| job.chain().iter().any(own)) {
            job.cancel.cancel();
        }
        // Sinks go on.
        let reads = |query: &&Arc<LiveQuery>| !query.sink && query.reads.iter().any(|read| read == name);
        let readers: Vec<String> = self.live().values().filter(reads).map(|query| query.id.clone()).collect();
        self.end_altered(&readers, name, what);
        if let Some(logs) = shared.logs.as_ref().filter(|_| job.output.durability() != Durability::Memory) {
            logs.remove(name, relation.generation());
        }
    }

    /// Ends live queries: the stream that they read was altered so that they cannot go on. `what`: what is other.
    pub fn end_altered(&self, queries: &[String], stream: &str, what: &str) {
        let live = self.live();
        for query in live.values().filter(|query| queries.contains(&query.id)) {
            query.end(EngineError::Altered { name: stream.to_owned(), what: what.to_owned() });
        }
    }

    /// Who needs a stream to go on as it is. `goes_on`: who does not, by name.
    fn needed_as_it_is(&self, name: &str, goes_on: impl Fn(&String) -> bool) -> Vec<String> {
        let streams: Vec<String> = {
            let relations = self.relations();
            let reading = relations.values().filter(|other| other.reads(name) && !goes_on(&other.name));
            reading.map(|other| format!("stream \"{}\"", other.name)).collect()
        };
        let live = self.live();
        let sinks = live
            .values()
            .filter(|query| query.sink && !goes_on(&query.id) && query.reads.iter().any(|read| read == name));
        let sinks = sinks.map(|query| format!("sink \"{}\"", query.id));
        streams.into_iter().chain(sinks).collect()
    }

    /// The grid of the windows that a query's rows are results of; `None`: there is none.
    pub(super) fn windows_of(&self, query: &Query) -> Option<WindowSpec> {
        let known = self.relations().clone();
        let of = |name: &str| {
            let spec = known.get(name)?.windows()?;
            Some(NamedWindows { spec, start: Vec::new(), end: Vec::new(), time: Vec::new() })
        };
        query.plan.named_windows(&of).map(|windows| windows.spec)
    }

    /// A source that both queries read is read by one job: another would tell its rows a second time.
    fn same_sources(&self, relations: &Relations, job: &Arc<Job>) -> Result<(), EngineError> {
        let known = job.chain();
        let read_again = relations.values().map(|lease| lease.job()).find(|new| {
            let old = known.iter().find(|old| old.source.is_some() && old.stream == new.stream);
            old.is_some_and(|old| !Arc::ptr_eq(old, new))
        });
        let Some(source) = read_again else { return Ok(()) };
        let name = source.display_name();
        Err(EngineError::Plan(format!(
            "source \"{name}\" would be read a second time from its start: the job that reads it does not read all \
             columns, or no longer keeps all rows"
        )))
    }
}

/// What a stream's rows are.
fn tells(relation: &Relation, job: &Job) -> Told {
    if job.inputs().branches.iter().all(|branch| branch.is_rows()) {
        Told::Rows
    } else if relation.is_windowed() && !relation.counts_rows() {
        Told::Windows
    } else {
        Told::State
    }
}

fn handover(at: HandedOver, before: Told, told: Told) -> Handover {
    let HandedOver { watermark, complete_from } = at;
    match (before, told) {
        (_, Told::Windows) => Handover::Windows {
            // A result's event time lies before the end of its window.
            at: Some(watermark).filter(|at| *at > EventTime::MIN).map(|at| at.plus(RESULT_LAG_NS - 1)),
            complete_from: Some(complete_from).filter(|from| *from > watermark),
        },
        (Told::Windows, _) => Handover::OpenWindows,
        (Told::Rows, Told::Rows) => Handover::Rows,
        _ => Handover::State,
    }
}

/// Whether rows make windows by their count, in the order of their arrival.
pub(crate) fn counts_rows(plan: &squilla_query::Plan) -> bool {
    use squilla_query::{GatherKind, Plan};
    matches!(plan, Plan::Gather { gather, .. } if matches!(gather.kind, GatherKind::Count { .. }))
        || plan.inputs().iter().any(|input| counts_rows(input))
}

/// Why readers of a stream cannot go on when its query becomes another; `None`: nothing tells that beforehand.
fn ends_readers(relation: &Relation, query: &Query) -> Option<String> {
    if let Some(other) = other_columns(&relation.schema(), query.plan.schema()) {
        return Some(other);
    }
    (relation.is_changing() || query.plan.is_changing()).then(|| "results that change are told anew".into())
}

/// How columns differ for those who read them; `None`: they do not.
fn other_columns(old: &arrow::datatypes::Schema, new: &arrow::datatypes::Schema) -> Option<String> {
    let gone = old.fields().iter().find(|field| new.index_of(field.name()).is_err());
    if let Some(field) = gone {
        return Some(format!("it has no column \"{}\" any more", field.name()));
    }
    let more = new.fields().iter().find(|field| old.index_of(field.name()).is_err());
    if let Some(field) = more {
        return Some(format!("it has a new column \"{}\"", field.name()));
    }
    let pairs = || old.fields().iter().zip(new.fields());
    if let Some((old, new)) = pairs().find(|(old, new)| old.name() != new.name()) {
        return Some(format!("column \"{}\" is where \"{}\" was", new.name(), old.name()));
    }
    if let Some((old, new)) = pairs().find(|(old, new)| old.data_type() != new.data_type()) {
        let sql = squilla_query::sql_name;
        return Some(format!(
            "column \"{}\" is {}, no longer {}",
            old.name(),
            sql(new.data_type()),
            sql(old.data_type())
        ));
    }
    let (old, _) = pairs().find(|(old, new)| !old.is_nullable() && new.is_nullable())?;
    Some(format!("column \"{}\" can be null, which it could not", old.name()))
}

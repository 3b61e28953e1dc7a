//! `ALTER STREAM … AS SELECT …`: the catalog has the new definition before the stream goes over, and the old one again
//! if it cannot. A process that ends in between goes on with the new one, where the old one was.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use squilla_engine::{Alteration, Engine, EngineError, EventTime, Handover, ReadBy, StreamOptions};
use squilla_query::{AlterStream, CreateStream, Diagnostic, Params, Query, Relation, RelationKind, Span, Statement};
use squilla_sources::define_stream;

use super::analyze::{analyze, place_of};
use super::{Answer, Refusal, Service};
use crate::catalog::{Body, Definition, Names, StoredKind, relation_of_query};
use crate::server::moment;

impl Service {
    /// Whoever calls this has the only permit to change the names. `sql` has its parameters' values in place; `asked` is
    /// what it reads.
    pub(super) async fn alter_stream(&self, sql: &str, asked: &[String]) -> Result<Answer, Refusal> {
        let Statement::AlterStream(alter) = self.analyze(sql, &Params::new()).await?.statement else {
            unreachable!("values do not make another statement of it")
        };
        self.refuse_in_script(alter.span, "alter")?;
        self.system.check_drop(&alter.name, sql)?;
        let names = self.names();
        let Some(definition) = names.get(&alter.name) else {
            if alter.if_exists {
                return Ok(Answer::Done(format!("there is no stream \"{}\"", alter.name)));
            }
            return Err(Refusal::mistake(no_stream(&alter.name, alter.span)));
        };
        if definition.kind() != StoredKind::Stream {
            return Err(Refusal::mistake(no_stream_but(definition, alter.span)));
        }
        let Body::Readable(_) = &definition.body else {
            let mistake = Diagnostic::new("broken", format!("stream \"{}\" does not run", alter.name)).at(alter.span);
            let help = format!("DESCRIBE {0} says why; DROP STREAM {0}, then CREATE it anew", alter.name);
            return Err(Refusal::mistake(mistake.help(help)));
        };
        refuse_cycle(&names, &alter, asked, sql)?;
        let created = self.created(definition).await?;
        let relation = relation_of_query(&alter.name, alter.kind(), &alter.query.plan, &names);
        let text = text_of(&created, &alter);
        let same = Definition {
            id: definition.id,
            name: alter.name.clone(),
            reads: asked.to_vec(),
            sql: text.clone(),
            body: Body::Readable(relation),
        };
        let after = names.with(same);
        let (after, users) = other_readers(&self.engine, names.clone(), after, alter.name.clone(), alter.span).await?;
        let options = define_stream(&created).map_err(Refusal::Mistakes)?;
        let alteration = self.go_over(definition, (&alter, &text), options, &users).await?;
        let replaced = match &alteration {
            Alteration::Replaced(_, other) => Some(other.clone()),
            Alteration::Done(_) | Alteration::Other(..) => None,
        };
        let told = match alteration {
            Alteration::Done(handover) => told(&alter.name, handover),
            Alteration::Replaced(handover, other) => {
                format!("{}; {other}, so its readers were ended, and offsets begin anew", told(&alter.name, handover))
            }
            Alteration::Other(other, needed) => return Err(Refusal::mistake(is_other(&alter, &other, &needed))),
        };
        self.set_names(after);
        if let Some(other) = replaced
            && matches!(&definition.body, Body::Readable(relation) if !matches!(relation.kind, RelationKind::Stream))
        {
            self.end_readers_of_changing(names.clone(), &alter.name, &other).await?;
        }
        Ok(Answer::Done(told))
    }

    /// Ends the live queries that read a stream whose result changed: they read what it was made of.
    async fn end_readers_of_changing(&self, names: Arc<Names>, name: &str, what: &str) -> Result<(), Refusal> {
        let live: Vec<(String, String)> = self.queries().into_iter().map(|query| (query.id, query.sql)).collect();
        let wanted = name.to_owned();
        let work = move || {
            let mut leads: Vec<String> = names.all_users(&wanted);
            leads.push(wanted.clone());
            let mentions = |sql: &str| leads.iter().any(|lead| place_of(lead, sql).is_some());
            let reads = |sql: &str| mentions(sql) && analyze(&names, sql, &Params::new()).1.contains(&wanted);
            live.into_iter().filter(|(_, sql)| reads(sql)).map(|(id, _)| id).collect::<Vec<_>>()
        };
        let readers = self.engine.on_planner(work).await.map_err(Refusal::Engine)?;
        self.engine.end_altered(&readers, name, what);
        Ok(())
    }

    /// Writes the new definition when all is ready, and the old one again if the stream stays as it was.
    async fn go_over(
        &self,
        old: &Definition,
        (alter, text): (&AlterStream, &str),
        options: StreamOptions,
        users: &[ReadBy],
    ) -> Result<Alteration, Refusal> {
        let (mut written, mut failed) = (None, None);
        let (told, refused) = (&mut written, &mut failed);
        let decide = |log: u32| async move {
            match self.store.set_sql(old.id, text, log).await {
                Ok(before) => {
                    *told = Some(before);
                    Ok(())
                }
                Err(error) => {
                    *refused = Some(error);
                    Err(EngineError::Stopped)
                }
            }
        };
        let altered = self.engine.alter_stream(&alter.name, &alter.query, options, users, decide).await;
        match (altered, failed) {
            (_, Some(failed)) => Err(failed.into()),
            (Ok(altered), None) => Ok(altered),
            (Err(error), None) => {
                if let Some(log) = written {
                    self.store.set_sql(old.id, &old.sql, log).await?;
                }
                Err(Refusal::mistake(at_name(&error, alter)))
            }
        }
    }

    /// The statement that made a stream.
    async fn created(&self, definition: &Definition) -> Result<CreateStream, Refusal> {
        match self.analyze(&definition.sql, &Params::new()).await?.statement {
            Statement::CreateStream(create) => Ok(create),
            other => unreachable!("{other:?} made no stream"),
        }
    }
}

/// What the catalog keeps of a stream that was altered: as if it had been created so.
fn text_of(created: &CreateStream, alter: &AlterStream) -> String {
    let quoted = |text: &str, quote: &str| format!("{quote}{}{quote}", text.replace(quote, &quote.repeat(2)));
    let option = |name: &str, value: &str| format!("{} = {}", quoted(name, "'"), quoted(value, "'"));
    let options: Vec<String> = created.options.iter().map(|given| option(&given.name, &given.value)).collect();
    let with = if options.is_empty() { String::new() } else { format!(" WITH ({})", options.join(", ")) };
    format!("CREATE STREAM {}{with} AS {}", quoted(&alter.name, "\""), alter.query.sql)
}

/// There is no such stream.
pub(super) fn no_stream(name: &str, span: Option<Span>) -> Diagnostic {
    Diagnostic::new("unknown_relation", format!("no stream \"{name}\""))
        .at(span)
        .help(format!("SHOW STREAMS lists what there is; CREATE STREAM {name} AS SELECT … makes it"))
}

/// The name is that of something else.
pub(super) fn no_stream_but(there: &Definition, span: Option<Span>) -> Diagnostic {
    let (name, kind) = (&there.name, there.kind());
    let help = match kind {
        StoredKind::View => format!("DROP VIEW {name}, then CREATE VIEW {name} AS SELECT …"),
        other => {
            format!("ALTER STREAM takes what CREATE STREAM made; DROP {} {name} ends it", other.word().to_uppercase())
        }
    };
    Diagnostic::new("wrong_kind", format!("\"{name}\" is a {}, not a stream", kind.word())).at(span).help(help)
}

/// A stream cannot read itself, at first hand or through others.
fn refuse_cycle(names: &Names, alter: &AlterStream, asked: &[String], sql: &str) -> Result<(), Refusal> {
    let name = &alter.name;
    let users = names.all_users(name);
    let Some(through) = asked.iter().find(|read| *read == name || users.contains(read)) else { return Ok(()) };
    let message = if through == name {
        format!("stream \"{name}\" would read itself")
    } else {
        let word = names.get(through).map_or("stream", |there| there.kind().word());
        format!("stream \"{name}\" would read itself, through {word} \"{through}\"")
    };
    // The first mention in the query.
    let query = sql.get(alter.query_at..).unwrap_or_default();
    let place = place_of(through, query);
    let place = place.map(|span| Span { start: span.start + alter.query_at, end: span.end + alter.query_at });
    let mistake = Diagnostic::new("cycle", message).at(place.or(alter.span));
    Err(Refusal::mistake(
        mistake.help(format!("read what \"{name}\" does not lead to; SHOW STREAMS tells who reads what")),
    ))
}

/// Who reads a stream must find in the new one what it has found in the old, wherever the columns lie that it reads. The
/// names as they are then, and the queries of the streams and sinks that go on.
async fn other_readers(
    engine: &Engine,
    names: Arc<Names>,
    after: Names,
    name: String,
    span: Option<Span>,
) -> Result<(Names, Vec<ReadBy>), Refusal> {
    let work = move || {
        let mut readers = Readers { in_place: with_columns_in_place(&names, &after, &name), after, users: Vec::new() };
        let mut found = Vec::new();
        // What is read by others comes first.
        for user in names.all_users(&name).into_iter().rev() {
            if let Some(why) = readers.add(&names, &user) {
                let word = names.get(&user).map_or("sink", |there| there.kind().word());
                found.push((word, user, why));
            }
        }
        (readers, found)
    };
    let (readers, found) = engine.on_planner(work).await.map_err(Refusal::Engine)?;
    let Some((word, first, _)) = found.first() else { return Ok((readers.after, readers.users)) };
    let whom: Vec<String> = found.iter().map(|(word, user, _)| format!("{word} \"{user}\"")).collect();
    let mut mistake = Diagnostic::new("in_use", format!("what would change is read by {}", whom.join(", "))).at(span);
    for (word, user, why) in &found {
        mistake = mistake.note(format!("{word} \"{user}\": {why}"));
    }
    Err(Refusal::mistake(mistake.help(format!(
        "keep the columns that they read, with their types and the windows; or DROP {} {first} first, or CREATE STREAM \
         under another name",
        word.to_uppercase()
    ))))
}

/// Who reads a stream that is to be another.
struct Readers {
    /// All names, once it is.
    after: Names,
    /// The same, the stream's columns apart, which are where they were.
    in_place: Names,
    users: Vec<ReadBy>,
}

impl Readers {
    /// Takes one to be a reader of the new stream, unless it could not be: why, in words.
    fn add(&mut self, names: &Names, user: &str) -> Option<String> {
        let definition = names.get(user)?;
        for text in std::iter::once(&definition.sql).chain(names.feed(user).map(|feed| &feed.sql)) {
            let none = Params::new();
            // Who was broken before is none the worse.
            let Ok(was) = analyze(names, text, &none).0 else { continue };
            let is = match analyze(&self.after, text, &none).0 {
                Ok(is) => is,
                Err(mistakes) => {
                    return Some(mistakes.first().map(|mistake| mistake.message.clone()).unwrap_or_default());
                }
            };
            let (Some(before), Some(query)) = (query_of(&was), query_of(&is)) else { continue };
            if matches!(is, Statement::CreateView(_)) {
                self.read_as(definition, query);
                continue;
            }
            let in_place = analyze(&self.in_place, text, &none).0.ok();
            let in_place = in_place.as_ref().and_then(query_of).map(|query| &query.plan);
            if before.plan.schema() != query.plan.schema() || in_place != Some(&before.plan) {
                return Some("it would give other rows".to_owned());
            }
            self.read_as(definition, query);
            let in_order = before.plan == query.plan;
            self.users.push(ReadBy { name: user.to_owned(), query: query.clone(), in_order });
        }
        None
    }

    /// What reads the user finds what it is then.
    fn read_as(&mut self, definition: &Definition, query: &Query) {
        let Body::Readable(relation) = &definition.body else { return };
        for names in [&mut self.after, &mut self.in_place] {
            let relation = relation_of_query(&definition.name, relation.kind.clone(), &query.plan, names);
            let Definition { id, name, reads, sql, .. } = definition;
            let (name, reads, sql) = (name.clone(), reads.clone(), sql.clone());
            *names = names.with(Definition { id: *id, name, reads, sql, body: Body::Readable(relation) });
        }
    }
}

/// All names, with the columns of one where they have been.
fn with_columns_in_place(names: &Names, after: &Names, name: &str) -> Names {
    let relation = |names: &Names| match names.get(name).map(|there| &there.body) {
        Some(Body::Readable(relation)) => Some(relation.clone()),
        _ => None,
    };
    let (Some(was), Some(is), Some(there)) = (relation(names), relation(after), after.get(name)) else {
        return after.clone();
    };
    let known = was.schema.fields().iter().filter_map(|field| is.schema.field_with_name(field.name()).ok());
    let new = is.schema.fields().iter().filter(|field| was.schema.field_with_name(field.name()).is_err());
    let fields: Vec<Field> = known.chain(new.map(AsRef::as_ref)).cloned().collect();
    let schema = Arc::new(Schema::new_with_metadata(fields, is.schema.metadata().clone()));
    let Definition { id, name, reads, sql, .. } = there.as_ref();
    let (name, reads, sql) = (name.clone(), reads.clone(), sql.clone());
    after.with(Definition { id: *id, name, reads, sql, body: Body::Readable(Relation { schema, ..is }) })
}

fn query_of(statement: &Statement) -> Option<&Query> {
    match statement {
        Statement::CreateStream(create) => Some(&create.query),
        Statement::CreateView(create) => Some(&create.query),
        Statement::CreateSink(create) => create.query.as_ref(),
        Statement::InsertInto(insert) => Some(&insert.query),
        _ => None,
    }
}

fn at_name(error: &EngineError, alter: &AlterStream) -> Diagnostic {
    Diagnostic::new(error.code(), error.to_string()).at(alter.span).help(error.help())
}

/// Its readers would be told rows of another kind.
fn is_other(alter: &AlterStream, other: &str, needed: &[String]) -> Diagnostic {
    let name = &alter.name;
    if needed.is_empty() {
        let message = format!("stream \"{name}\" cannot go over to this query: {other}");
        let help = format!(
            "windows (GROUP BY tumble('10s')) give rows that stay; or CREATE STREAM under another name, and DROP STREAM {name}"
        );
        return Diagnostic::new("unsupported", message).at(alter.span).help(help);
    }
    let message = format!(
        "stream \"{name}\" cannot go over to this query: {other}, and {} cannot go on with that",
        needed.join(", ")
    );
    let help = format!(
        "give the query the columns that \"{name}\" has; or CREATE STREAM under another name beside it, and DROP STREAM {name} \
         CASCADE when nobody needs it"
    );
    Diagnostic::new("in_use", message).at(alter.span).help(help)
}

/// What was done, in words.
fn told(name: &str, handover: Handover) -> String {
    let text = |moment: EventTime| moment::text(moment).unwrap_or_default();
    let how = match handover {
        Handover::Rows => "the new query goes on at the row at which the old one ended".to_owned(),
        Handover::OpenWindows => {
            "the new query goes on at the row at which the old one ended; windows that were open then are not told"
                .to_owned()
        }
        Handover::Anew => {
            "the new query begins as if it had been created now, with what its inputs' logs keep".to_owned()
        }
        Handover::State => {
            "the new query goes on at the row at which the old one ended, and begins with nothing kept of those before"
                .to_owned()
        }
        Handover::Windows { at: None, .. } => "no window had been told; the new query tells all".to_owned(),
        Handover::Windows { at: Some(at), complete_from } => {
            let partial = complete_from
                .map(|from| format!("; those that start before {} lack rows, which are no longer kept", text(from)));
            format!(
                "the old query told windows up to {}, the new one tells those that end later{}",
                text(at),
                partial.unwrap_or_default()
            )
        }
    };
    format!("altered stream \"{name}\": {how}")
}

//! What was created: names to definitions, and the statements that made them.

mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use arrow::datatypes::Schema;
use squilla_query::{Catalog, CreateSink, CreateSource, Plan, Relation, RelationKind, TimeAttribute};

pub(crate) use store::{Store, StoreError, Stored, StoredKind};

/// The place of what is in no store: of the server's own.
pub(crate) const NOT_STORED: i64 = -1;

/// Everything that has a name, at one moment. Never changed: a new version takes its place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    definitions: BTreeMap<String, Arc<Definition>>,
    /// What feeds sinks, by the sink's name.
    feeds: BTreeMap<String, Arc<Feed>>,
}

/// Something with a name.
#[derive(Debug)]
pub(crate) struct Definition {
    /// Its row in the store: also the order of creation.
    pub(crate) id: i64,
    /// Its name.
    pub(crate) name: String,
    /// Names that its statement reads.
    pub(crate) reads: Vec<String>,
    /// Its statement's text.
    pub(crate) sql: String,
    /// What it is.
    pub(crate) body: Body,
}

/// What a [`Definition`] is.
#[derive(Debug)]
pub(crate) enum Body {
    /// A source or named stream that the engine has, or a view.
    Readable(Relation),
    /// An `http` source whose columns will be inferred from its first events.
    Pending(Box<CreateSource>),
    /// A sink.
    Sink(Relation, Box<CreateSink>),
    /// It could not be made again when the catalog was opened.
    Broken {
        /// What it was.
        kind: StoredKind,
        /// Why.
        reason: String,
    },
}

/// A query that feeds a sink.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Its row in the store.
    pub(crate) id: i64,
    /// Names that it reads.
    pub(crate) reads: Vec<String>,
    /// Its statement's text.
    pub(crate) sql: String,
}

impl Definition {
    /// What it is, in a word.
    pub(crate) fn kind(&self) -> StoredKind {
        match &self.body {
            Body::Readable(relation) => match relation.kind {
                RelationKind::Source | RelationKind::Table { .. } => StoredKind::Source,
                RelationKind::Stream | RelationKind::Changing { .. } => StoredKind::Stream,
                RelationKind::View { .. } => StoredKind::View,
                RelationKind::Sink => StoredKind::Sink,
            },
            Body::Pending(_) => StoredKind::Source,
            Body::Sink(..) => StoredKind::Sink,
            Body::Broken { kind, .. } => *kind,
        }
    }
}

impl Definition {
    /// Names of the key's columns, of a table.
    pub(crate) fn key(&self) -> Option<&[String]> {
        match &self.body {
            Body::Readable(Relation { kind: RelationKind::Table { key }, .. }) => Some(key),
            Body::Pending(create) => create.key.as_ref().map(|key| key.columns.as_slice()),
            _ => None,
        }
    }
}

impl Names {
    /// The definition of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Definition>> {
        self.definitions.get(name)
    }

    /// All definitions by name.
    pub(crate) fn definitions(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.definitions.values()
    }

    /// What feeds a sink.
    pub(crate) fn feed(&self, sink: &str) -> Option<&Arc<Feed>> {
        self.feeds.get(sink)
    }

    /// The same with one more definition, or another one in its place.
    pub(crate) fn with(&self, definition: Definition) -> Self {
        let mut names = self.clone();
        names.definitions.insert(definition.name.clone(), Arc::new(definition));
        names
    }

    /// The same with a sink fed.
    pub(crate) fn with_feed(&self, sink: &str, feed: Feed) -> Self {
        let mut names = self.clone();
        names.feeds.insert(sink.to_owned(), Arc::new(feed));
        names
    }

    /// The same without a sink's feed.
    pub(crate) fn without_feed(&self, sink: &str) -> Self {
        let mut names = self.clone();
        names.feeds.remove(sink);
        names
    }

    /// The same without a definition and what feeds it.
    pub(crate) fn without(&self, name: &str) -> Self {
        let mut names = self.clone();
        names.definitions.remove(name);
        names.feeds.remove(name);
        names
    }

    /// Who reads a name at first hand, in the order of creation.
    pub(crate) fn users(&self, name: &str) -> Vec<String> {
        let reads = |reads: &[String]| reads.iter().any(|read| read == name);
        let mut users: Vec<(i64, String)> = self
            .definitions
            .values()
            .filter(|definition| reads(&definition.reads))
            .map(|definition| (definition.id, definition.name.clone()))
            .collect();
        let feeds =
            self.feeds.iter().filter(|(_, feed)| reads(&feed.reads)).map(|(sink, feed)| (feed.id, sink.clone()));
        users.extend(feeds);
        users.sort();
        users.dedup_by(|a, b| a.1 == b.1);
        users.into_iter().map(|(_, name)| name).collect()
    }

    /// Who reads a name at first hand or through others, each once, users before what they use.
    pub(crate) fn all_users(&self, name: &str) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut order = Vec::new();
        self.visit_users(name, &mut seen, &mut order);
        order
    }

    fn visit_users(&self, name: &str, seen: &mut BTreeSet<String>, order: &mut Vec<String>) {
        for user in self.users(name).into_iter().rev() {
            if seen.insert(user.clone()) {
                self.visit_users(&user, seen, order);
                order.push(user);
            }
        }
    }
}

/// Resolves names for [`squilla_query::analyze`] and notes which ones were asked for.
pub(crate) struct Lookup<'a> {
    names: &'a Names,
    asked: Mutex<BTreeSet<String>>,
}

impl<'a> Lookup<'a> {
    /// A look-up that has noted nothing yet.
    pub(crate) fn new(names: &'a Names) -> Self {
        Self { names, asked: Mutex::default() }
    }

    /// The names that were asked for and are known.
    pub(crate) fn asked(self) -> Vec<String> {
        let asked = self.asked.into_inner().expect("no holder of this lock panics");
        asked.into_iter().filter(|name| self.names.get(name).is_some()).collect()
    }
}

impl Catalog for Lookup<'_> {
    fn relation(&self, name: &str) -> Option<Relation> {
        let definition = self.names.get(name)?;
        self.asked.lock().expect("no holder of this lock panics").insert(name.to_owned());
        match &definition.body {
            Body::Readable(relation) | Body::Sink(relation, _) => Some(relation.clone()),
            Body::Pending(_) | Body::Broken { .. } => Some(unreadable(name)),
        }
    }

    fn names(&self) -> Vec<String> {
        // What the server runs for itself is no suggestion for what a user has meant.
        let users = self.names.definitions.values().filter(|definition| definition.id != NOT_STORED);
        users.map(|definition| definition.name.clone()).collect()
    }
}

/// Stands for a source whose columns are not known. What reads it is refused after it was analyzed.
fn unreadable(name: &str) -> Relation {
    Relation {
        name: name.to_owned(),
        kind: RelationKind::Source,
        schema: Arc::new(Schema::empty()),
        time: TimeAttribute::Arrival,
        windows: None,
        late: None,
        replay: false,
    }
}

/// What a named query looks like to those who read it.
pub(crate) fn relation_of_query(name: &str, kind: RelationKind, plan: &Plan, names: &Names) -> Relation {
    let lookup = Lookup::new(names);
    let source = |relation: &str| lookup.readable(relation);
    let time = plan.time_attribute(&|relation| source(relation).map(|relation| relation.time));
    let replay = plan.streams().iter().any(|relation| source(relation).is_some_and(|relation| relation.replay));
    let windows = plan.named_windows(&|relation| source(relation).and_then(|relation| relation.windows));
    let late = plan.late_stream(&|relation| source(relation).map(|relation| (relation.schema, relation.time)));
    let late = late.filter(|_| kind == RelationKind::Stream);
    Relation { name: name.to_owned(), kind, schema: plan.schema().clone(), time, windows, late, replay }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(definitions: &[(&str, &[&str])]) -> Names {
        let mut names = Names::default();
        for (id, (name, reads)) in definitions.iter().enumerate() {
            let reads = reads.iter().map(|read| (*read).to_owned()).collect();
            let body = Body::Readable(unreadable(name));
            names = names.with(Definition { id: id as i64, name: (*name).to_owned(), reads, sql: String::new(), body });
        }
        names
    }

    #[test]
    fn users_come_before_what_they_use() {
        let names = names(&[("bids", &[]), ("hot", &["bids"]), ("top", &["hot", "bids"]), ("other", &[])]);
        let names = names.with_feed("other", Feed { id: 9, reads: vec!["top".into()], sql: String::new() });
        assert_eq!(names.users("bids"), ["hot", "top"]);
        assert_eq!(names.all_users("bids"), ["other", "top", "hot"]);
        assert!(names.without_feed("other").all_users("top").is_empty());
        assert!(names.all_users("other").is_empty());
    }

    #[test]
    fn a_look_up_notes_what_was_asked_for_and_is_there() {
        let names = names(&[("bids", &[])]);
        let lookup = Lookup::new(&names);
        assert!(lookup.relation("bids").is_some());
        assert!(lookup.relation("asks").is_none());
        assert_eq!(lookup.asked(), ["bids"]);
    }
}

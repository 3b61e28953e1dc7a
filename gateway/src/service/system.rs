//! What the server runs for itself: there for who asks by name, and not among what users have made.

use std::collections::BTreeSet;
use std::sync::Mutex;

use squilla_engine::{JobInfo, Loser, Loss, QueryInfo, StreamInfo, SubscribeOptions, Subscription};
use squilla_query::{Diagnostic, Params, Statement};
use squilla_sources::define_source;

use super::analyze::place_of;
use super::define::{exists, relation_of_source};
use super::{Refusal, Service};
use crate::catalog::{Body, Definition, NOT_STORED};

/// Names of sources, and ids of queries.
#[derive(Debug, Default)]
pub(super) struct System(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    sources: BTreeSet<String>,
    queries: BTreeSet<String>,
}

impl System {
    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.0.lock().expect("no holder of this lock panics"));
    }

    pub(super) fn has_source(&self, name: &str) -> bool {
        self.0.lock().expect("no holder of this lock panics").sources.contains(name)
    }

    fn has_query(&self, id: &str) -> bool {
        self.0.lock().expect("no holder of this lock panics").queries.contains(id)
    }

    /// Refuses what would have to go on with a source of the server's when it starts again.
    pub(super) fn check_reads(&self, reads: &[String], sql: &str) -> Result<(), Refusal> {
        let Some(name) = reads.iter().find(|name| self.has_source(name)) else { return Ok(()) };
        let message = format!("\"{name}\" is the server's own: nothing that is kept can read it");
        let mistake = Diagnostic::new("unsupported", message).at(place_of(name, sql));
        Err(Refusal::mistake(mistake.help(format!("ask it by a query: SELECT * FROM {name}"))))
    }

    /// Refuses to drop a source of the server's.
    pub(super) fn check_drop(&self, name: &str, sql: &str) -> Result<(), Refusal> {
        if !self.has_source(name) {
            return Ok(());
        }
        let message = format!("\"{name}\" is the server's own and cannot be dropped");
        let mistake = Diagnostic::new("in_use", message).at(place_of(name, sql));
        Err(Refusal::mistake(mistake.help("it ends with the server; SHOW SOURCES lists those that can be dropped")))
    }

    /// Refuses to end or to rest a query of the server's.
    pub(super) fn check_query(&self, id: &str) -> Result<(), Refusal> {
        if !self.has_query(id) {
            return Ok(());
        }
        let mistake = Diagnostic::new("in_use", format!("query \"{id}\" is the server's own"));
        Err(Refusal::mistake(mistake.help("it ends with the server; SHOW QUERIES lists those of users")))
    }
}

impl Service {
    /// Makes a source of the server's own. It is not stored.
    pub(crate) async fn create_system_source(&self, sql: &str) -> Result<(), Refusal> {
        let _turn = self.take_turn().await;
        let Statement::CreateSource(create) = self.analyze(sql, &Params::new()).await?.statement else {
            unreachable!("\"{sql}\" creates a source");
        };
        if let Some(there) = self.names().get(&create.name) {
            return Err(Refusal::mistake(exists(there, sql)));
        }
        let definition = define_source(&create, &self.sources).await.map_err(Refusal::Mistakes)?;
        let relation = relation_of_source(&create, &definition);
        self.engine.create_source(definition).await.map_err(Refusal::Engine)?;
        let (name, body) = (create.name, Body::Readable(relation));
        self.system.change(|known| _ = known.sources.insert(name.clone()));
        self.set_names(self.names().with(Definition {
            id: NOT_STORED,
            name,
            reads: Vec::new(),
            sql: String::new(),
            body,
        }));
        Ok(())
    }

    /// Starts a query of the server's own.
    pub(crate) async fn subscribe_system(&self, sql: &str) -> Result<Subscription, Refusal> {
        let query = self.query(sql, &Params::new()).await?;
        let subscription = self.engine.subscribe(&query, SubscribeOptions::default()).await.map_err(Refusal::Engine)?;
        self.system.change(|known| _ = known.queries.insert(subscription.info().query.clone()));
        Ok(subscription)
    }

    /// Sources and named streams of users.
    pub(crate) fn streams(&self) -> Vec<StreamInfo> {
        let mut streams = self.engine.streams();
        streams.retain(|stream| !self.system.has_source(&stream.name));
        streams
    }

    /// Jobs that run for users.
    pub(crate) fn jobs(&self) -> Vec<JobInfo> {
        let mut jobs = self.engine.jobs();
        let mut hidden = BTreeSet::new();
        // Jobs come in the order of their start, not in that of their use.
        loop {
            let systems = |job: &JobInfo| {
                let writes = job.stream.as_ref().is_some_and(|stream| self.system.has_source(stream));
                let serves = |user: &String| self.system.has_query(user) || hidden.contains(user);
                writes || !job.users.is_empty() && job.users.iter().all(serves)
            };
            let found: BTreeSet<String> = jobs.iter().filter(|job| systems(job)).map(|job| job.id.clone()).collect();
            if found == hidden {
                break;
            }
            hidden = found;
        }
        jobs.retain(|job| !hidden.contains(&job.id));
        jobs
    }

    /// What was lost, but for what the server's own sources, jobs and queries have lost.
    pub(crate) fn losses(&self) -> Vec<Loss> {
        let shown: BTreeSet<String> = self.jobs().into_iter().map(|job| job.id).collect();
        let mut losses = self.engine.losses();
        losses.retain(|loss| match loss.kind {
            Loser::Source => !self.system.has_source(&loss.name),
            Loser::Query => !self.system.has_query(&loss.name),
            Loser::Job => shown.contains(&loss.name),
            Loser::Stream | Loser::Sink | Loser::Ended => true,
        });
        losses
    }

    /// Live queries of users.
    pub(crate) fn queries(&self) -> Vec<QueryInfo> {
        let mut queries = self.engine.queries();
        queries.retain(|query| !self.system.has_query(&query.id));
        queries
    }
}

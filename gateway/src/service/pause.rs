//! `PAUSE` and `RESUME`. That a stream rests is kept in the catalog.

use squilla_engine::Rested;
use squilla_query::{Diagnostic, Pausable, RelationKind, Resume, Span};

use super::{Answer, Refusal, Service};
use crate::catalog::{Body, StoredKind};

impl Service {
    pub(super) async fn pause(&self, what: Pausable) -> Result<Answer, Refusal> {
        let told = match what {
            Pausable::Stream { name, span } => self.pause_stream(&name, span).await?,
            Pausable::Query { id } => self.pause_query(&id)?,
        };
        Ok(Answer::Done(told))
    }

    pub(super) async fn resume(&self, resume: Resume) -> Result<Answer, Refusal> {
        let told = match resume.what {
            Pausable::Stream { name, span } => self.resume_stream(&name, span, resume.from_latest).await?,
            Pausable::Query { id } => self.resume_query(&id, resume.from_latest)?,
        };
        Ok(Answer::Done(told))
    }

    /// Lets a live query rest; what was done, in words.
    ///
    /// # Errors
    /// No such query; one whose rows change.
    pub fn pause_query(&self, id: &str) -> Result<String, Refusal> {
        self.system.check_query(id)?;
        let paused = self.engine.pause_query(id).map_err(Refusal::Engine)?;
        Ok(if paused { format!("paused query \"{id}\"") } else { format!("query \"{id}\" was paused already") })
    }

    /// Lets a query go on that rests; `from_latest`: with the rows that come from now on.
    ///
    /// # Errors
    /// No such query.
    pub fn resume_query(&self, id: &str, from_latest: bool) -> Result<String, Refusal> {
        let resumed = self.engine.resume_query(id, from_latest).map_err(Refusal::Engine)?;
        Ok(if resumed { format!("resumed query \"{id}\"") } else { format!("query \"{id}\" was not paused") })
    }

    /// Lets a named stream rest until it is told to go on, also over a restart; what was done, in words.
    ///
    /// # Errors
    /// A name that is no stream's, a stream whose result changes, a catalog that cannot be written.
    pub async fn pause_stream(&self, name: &str, span: Option<Span>) -> Result<String, Refusal> {
        self.refuse_in_script(span, "pause")?;
        let _turn = self.take_turn().await;
        let id = self.pausable(name, span, "PAUSE")?;
        if !self.engine.pause_stream(name).map_err(Refusal::Engine)? {
            return Ok(format!("stream \"{name}\" was paused already"));
        }
        if let Err(error) = self.store.set_paused(id, true).await {
            self.engine.resume_stream(name, false).await.map_err(Refusal::Engine)?;
            return Err(error.into());
        }
        Ok(format!("paused stream \"{name}\"; what comes waits in the logs that it reads"))
    }

    /// Lets a stream go on that rests; `from_latest`: with the rows that come from now on.
    ///
    /// # Errors
    /// As [`Service::pause_stream`].
    pub async fn resume_stream(&self, name: &str, span: Option<Span>, from_latest: bool) -> Result<String, Refusal> {
        let _turn = self.take_turn().await;
        let id = self.pausable(name, span, "RESUME")?;
        self.store.set_paused(id, false).await?;
        let rested = self.engine.resume_stream(name, from_latest).await.map_err(Refusal::Engine)?;
        let Some(Rested { waiting_rows, lost_rows }) = rested else {
            return Ok(format!("stream \"{name}\" was not paused"));
        };
        let lost = match (from_latest, lost_rows) {
            (_, 0) => String::new(),
            (true, rows) => format!("; {rows} rows were skipped, as SHOW LOSSES tells"),
            (false, rows) => format!("; {rows} rows are gone by retention, and are counted as dropped"),
        };
        Ok(format!("resumed stream \"{name}\": {waiting_rows} rows had waited{lost}"))
    }

    /// The catalog's row of a stream that can rest.
    fn pausable(&self, name: &str, span: Option<Span>, verb: &str) -> Result<i64, Refusal> {
        let names = self.names();
        let refuse = |code, message: String, help: String| {
            Err(Refusal::mistake(Diagnostic::new(code, message).at(span).help(help)))
        };
        let Some(definition) = names.get(name) else {
            let message = format!("no stream \"{name}\"");
            return refuse("unknown_relation", message, "SHOW STREAMS lists what there is".to_owned());
        };
        match &definition.body {
            Body::Readable(relation) if relation.kind == RelationKind::Stream => Ok(definition.id),
            Body::Readable(relation) if matches!(relation.kind, RelationKind::Changing { .. }) => {
                let message = format!("{verb} takes no stream whose rows change, as those of \"{name}\" do");
                let help = "its readers share its result as it changes; DROP STREAM ends it, and windows \
                            (GROUP BY tumble('10s')) make a stream that can rest";
                refuse("unsupported", message, help.to_owned())
            }
            Body::Broken { kind: StoredKind::Stream, .. } => {
                let message = format!("stream \"{name}\" does not run");
                refuse("broken", message, format!("DESCRIBE {name} says why"))
            }
            _ => {
                let kind = definition.kind().word();
                let message = format!("\"{name}\" is a {kind}, not a stream");
                refuse("wrong_kind", message, format!("{verb} STREAM takes what CREATE STREAM made"))
            }
        }
    }

    /// A script ends with its inputs: what rests would never.
    pub(super) fn refuse_in_script(&self, span: Option<Span>, verb: &str) -> Result<(), Refusal> {
        if !self.engine.config().lossless {
            return Ok(());
        }
        let message = format!("a script that runs to its end cannot {verb} a stream");
        let help = format!("leave {} out, or start a server: squilla serve", verb.to_uppercase());
        Err(Refusal::mistake(Diagnostic::new("unsupported", message).at(span).help(help)))
    }
}

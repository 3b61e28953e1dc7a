//! `CREATE STREAM … FROM QUERY`: a live query becomes a named stream while it runs. The catalog keeps it as what it then
//! is, `CREATE STREAM … AS` and the query's text, so that it is there again after a restart.

use squilla_query::{Diagnostic, Params, Promote, Statement};

use super::{Answer, Refusal, Service};

impl Service {
    /// Makes a stream of a live query; what was done, in words.
    ///
    /// # Errors
    /// No such query, one whose state is its own; a name that is taken or cannot be one.
    pub async fn promote_query(&self, query: &str, name: &str) -> Result<String, Refusal> {
        let quoted = |text: &str, quote: &str| text.replace(quote, &quote.repeat(2));
        let sql = format!("CREATE STREAM \"{}\" FROM QUERY '{}'", quoted(name, "\""), quoted(query, "'"));
        match self.execute(&sql).await? {
            Answer::Done(told) => Ok(told),
            other => unreachable!("a promotion is done, not {other:?}"),
        }
    }

    /// Makes a stream of a live query. Its jobs run already: the stream goes on with what they hold.
    pub(super) async fn promote(&self, promote: Promote) -> Result<Answer, Refusal> {
        let _turn = self.take_turn().await;
        let at_id = |mistake: Diagnostic| Refusal::mistake(mistake.at(promote.span));
        let (sql, jobs) = self
            .engine
            .promotable(&promote.query)
            .map_err(|error| at_id(Diagnostic::new(error.code(), error.to_string()).help(error.help())))?;
        let sql = squilla_query::without_reader(&sql).map_err(|mistake| Refusal::mistake(without_place(mistake)))?;
        let sql = format!("{} AS {sql}", promote.head);
        let analyzed = self.analyze(&sql, &Params::new()).await.map_err(|refusal| match refusal {
            // They have their places in a text that the user has not written.
            Refusal::Mistakes(mistakes) => {
                let placed = |mistake: Diagnostic| without_place(mistake).at(promote.span);
                Refusal::Mistakes(mistakes.into_iter().map(placed).collect())
            }
            other => other,
        })?;
        let exists = matches!(&analyzed.statement, Statement::CreateStream(create) if create.if_not_exists)
            && self.names().get(&promote.name).is_some();
        let answer = self.define(&sql, analyzed, None).await?;
        if exists {
            return Ok(answer);
        }
        // A source that is read again from its start is read by another job.
        let used = self.engine.jobs_of(&promote.name);
        let jobs: Vec<String> = jobs.into_iter().filter(|job| used.contains(job)).collect();
        let state = if jobs.is_empty() { String::new() } else { format!(", with what {} hold", jobs.join(", ")) };
        let (name, query) = (&promote.name, &promote.query);
        Ok(Answer::Done(format!("created stream \"{name}\" from query \"{query}\"{state}")))
    }
}

fn without_place(mistake: Diagnostic) -> Diagnostic {
    Diagnostic { span: None, ..mistake }
}

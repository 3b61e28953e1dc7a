//! `squilla sql`: statements, given or typed, against a server.

use std::io::{IsTerminal, Write};
use std::path::Path;

use serde_json::value::RawValue;
use squilla_query::StatementText;

use super::live::{Subject, follow, format_of};
use super::prompt::{Line, Prompt};
use super::wire::{ResultKind, StatementResult};
use super::{Server, runtime};
use crate::cli::Outcome;
use crate::cli::args::{RowsArgs, SqlArgs};
use crate::cli::failure::Failure;
use crate::cli::output::{JsonRowWriter, Output};
use crate::cli::script::Script;

/// Carries out the command.
pub(crate) fn sql(args: &SqlArgs) -> Result<Outcome, Failure> {
    if args.rows.step && args.execute.is_none() {
        let failure = Failure::new("--step reads what you type, and so do statements");
        return Err(failure.help("give the statement: squilla sql -e \"SELECT … FROM … SINCE EARLIEST\" --step"));
    }
    let server = Server::new(&args.server)?;
    let runtime = runtime()?;
    let mut output = Output::stdout()?;
    let script = match &args.execute {
        Some(text) => Script::of_text(text),
        None if !std::io::stdin().is_terminal() => Script::read(Path::new("-"))?,
        None => return converse(&runtime, &server, args, &mut output),
    };
    if let Some(failure) = args.params.unused(&script.statements()?) {
        return Err(failure);
    }
    runtime.block_on(carry_out(&server, &script, args, &mut output))
}

/// Reads statements from the terminal until the user has enough.
fn converse(
    runtime: &tokio::runtime::Runtime,
    server: &Server,
    args: &SqlArgs,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let mut prompt = Prompt::new()?;
    println!("{} · end statements with ; · \\? for help, \\q to leave", server.base);
    loop {
        let statements = match prompt.read()? {
            Line::End => return Ok(Outcome::Done),
            Line::Nothing => continue,
            Line::Statements(text) => text,
        };
        let script = Script::of_text(&statements);
        // A mistake, or a server that is away for a moment, does not end the conversation.
        match runtime.block_on(carry_out(server, &script, args, output)) {
            Ok(_) => {}
            Err(failure) if failure.is_broken_pipe() => return Err(failure),
            Err(failure) => eprintln!("{failure}"),
        }
        std::io::stdout().flush()?;
    }
}

/// Carries out the statements in their order; an interrupt ends all of them.
async fn carry_out(server: &Server, script: &Script, args: &SqlArgs, output: &mut Output) -> Result<Outcome, Failure> {
    for statement in script.statements()? {
        if carry_out_one(server, &statement, args, output).await? == Outcome::Interrupted {
            return Ok(Outcome::Interrupted);
        }
    }
    Ok(Outcome::Done)
}

async fn carry_out_one(
    server: &Server,
    statement: &StatementText,
    args: &SqlArgs,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let results = server.statement(&statement.sql, &args.params.of(&statement.sql)).await?;
    let results = results.map_err(|error| Failure::Rendered(error.render(&statement.sql)))?;
    for result in results {
        match result.kind {
            ResultKind::Done => eprintln!("{}", result.message),
            ResultKind::Sink => eprintln!("sink {} runs", result.name),
            ResultKind::Table => write_table(&result, &args.rows, output)?,
            ResultKind::Live => return follow(server, Subject::Sql(&result.sql), &args.rows, output).await,
        }
    }
    Ok(Outcome::Done)
}

fn write_table(table: &StatementResult, args: &RowsArgs, output: &mut Output) -> Result<(), Failure> {
    let mut writer = JsonRowWriter::new(format_of(args), &table.columns, false);
    for row in &table.rows {
        let values: Vec<&RawValue> = row.iter().map(|value| &**value).collect();
        writer.write(None, &values, output)?;
    }
    writer.end(output)?;
    Ok(())
}

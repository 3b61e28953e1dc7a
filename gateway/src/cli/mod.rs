//! The command line: arguments in; a server, a script's rows or a client's rows out.
//!
//! One file a command. Statements are carried out by [`squilla_gateway::Service`] (`demo`, `serve`, `run`) or by a
//! server (`sql`, `tail`, `push`); what they mean never lives here.

mod args;
mod client;
mod duration;
mod failure;
mod output;
mod run;
mod script;
mod serve;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command, DemoArgs};

/// Exit code when an interrupt ended the command before it was done: 128 + SIGINT, as shells have it.
const EXIT_INTERRUPTED: u8 = 130;

/// How a command ended, when nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It did all there was to do.
    Done,
    /// The user stopped it.
    Interrupted,
}

/// Reads the arguments and carries out the command.
pub(crate) fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Sql(args)) => client::sql(&args),
        Some(Command::Tail(args)) => client::tail(&args),
        Some(Command::Push(args)) => client::push(&args),
        Some(Command::Serve(args)) => serve::serve(&args),
        Some(Command::Demo(args)) => serve::demo(&args),
        None => serve::demo(&DemoArgs::default()),
    };
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => ExitCode::from(EXIT_INTERRUPTED),
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

//! `squilla tail`: a stream, as it comes.

use super::live::{Subject, follow};
use super::{Server, runtime};
use crate::cli::Outcome;
use crate::cli::args::TailArgs;
use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// Carries out the command.
pub(crate) fn tail(args: &TailArgs) -> Result<Outcome, Failure> {
    let server = Server::new(&args.server)?;
    let mut output = Output::stdout()?;
    let subject = Subject::Stream { name: &args.stream, from: args.from.as_deref() };
    runtime()?.block_on(follow(&server, subject, &args.rows, &mut output))
}

//! Where queries' rows go: one file a sink.

mod file;

use arrow::datatypes::SchemaRef;
use squilla_engine::Sink;
use squilla_query::{CreateSink, Diagnostic};

use crate::SourceEnv;
use crate::options::{Options, suggest};

/// The names of all sinks.
const SINKS: [&str; 1] = ["file"];

/// See [`crate::define_sink`].
pub(crate) fn define(
    create: &CreateSink,
    _schema: &SchemaRef,
    env: &SourceEnv,
) -> Result<Box<dyn Sink>, Vec<Diagnostic>> {
    let mut options = Options::new(&create.options);
    let Some(kind) = options.required("connector", "write WITH (connector = 'file', path = '…')") else {
        return Err(options.finish("a sink"));
    };
    if !kind.eq_ignore_ascii_case("file") {
        options.bad_value("connector", format!("there is no sink \"{kind}\""), suggest(kind, &SINKS));
        return Err(options.finish_without_names());
    }
    let path = file::define(&mut options, &env.roots);
    let mistakes = options.finish("sink \"file\"");
    match path {
        Some((path, append)) if mistakes.is_empty() => Ok(file::sink(path, append)),
        _ => Err(mistakes),
    }
}

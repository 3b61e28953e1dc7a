//! Sources as the service has them, without a service.

use std::sync::Arc;

use squilla_engine::{Connector, SystemClock};
use squilla_query::{Statement, analyze};
use squilla_sources::{SourceEnv, define_source};

use crate::names::Names;

/// The connector of a source by its statement, which may read any file.
///
/// # Panics
/// When the statement is wrong or its files are not there.
pub async fn connector(sql: &str) -> Arc<dyn Connector> {
    let Ok(Statement::CreateSource(create)) = analyze(sql, &Names::default()) else { panic!("{sql} is right") };
    let env = SourceEnv {
        roots: vec!["/".into()],
        publishers: Arc::default(),
        faults: Arc::default(),
        clock: Arc::new(SystemClock),
    };
    define_source(&create, &env).await.expect("the source is right").connector
}

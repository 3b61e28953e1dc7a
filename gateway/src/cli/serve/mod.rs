//! `squilla demo` and `squilla serve`: a server in this process, until it is told to stop.

mod config;
mod demo;

use std::future::Future;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use squilla_engine::{EngineConfig, SystemClock};
use squilla_gateway::{ServeConfig, ServeError, Service, ServiceConfig};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::Outcome;
use super::args::{DemoArgs, ServeArgs};
use super::failure::Failure;
use super::script::Script;
use config::Settings;

/// Variable that says what is logged: `debug`, `squilla_engine=trace` and so on.
const LOG_VARIABLE: &str = "SQUILLA_LOG";
/// What is suggested when an address is taken.
const OTHER_LISTEN: &str = "127.0.0.1:7979";

/// Carries out `squilla demo`.
pub(crate) fn demo(args: &DemoArgs) -> Result<Outcome, Failure> {
    log_from("warn");
    let config = ServiceConfig {
        engine: EngineConfig::default(),
        data_dir: None,
        roots: roots(Vec::new())?,
        clock: Arc::new(SystemClock),
    };
    let serve = ServeConfig { listen: args.listen, insecure: args.insecure, canary: true, ..ServeConfig::default() };
    run(config, &demo::STATEMENTS, serve, &format!("squilla demo --listen {OTHER_LISTEN}"))
}

/// Carries out `squilla serve`.
pub(crate) fn serve(args: &ServeArgs) -> Result<Outcome, Failure> {
    log_from("info");
    let settings = Settings::of(args)?;
    let config = ServiceConfig {
        engine: EngineConfig::default(),
        data_dir: Some(settings.data_dir),
        roots: roots(settings.roots)?,
        clock: Arc::new(SystemClock),
    };
    let serve = ServeConfig {
        listen: settings.listen,
        insecure: settings.insecure,
        hosts: settings.hosts,
        canary: true,
        ..ServeConfig::default()
    };
    run(config, &[], serve, &format!("squilla serve --listen {OTHER_LISTEN}"))
}

fn log_from(default: &str) {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// The folders named, or the current one.
fn roots(named: Vec<PathBuf>) -> Result<Vec<PathBuf>, Failure> {
    let named = if named.is_empty() { vec![PathBuf::from(".")] } else { named };
    let canonical = |path: PathBuf| {
        path.canonicalize()
            .map_err(|error| Failure::new(format!("cannot use the folder \"{}\": {error}", path.display())))
    };
    named.into_iter().map(canonical).collect()
}

/// Carries out the statements, serves, prints the URL, and drains when it is told to stop. `elsewhere`: the command
/// that listens on another port.
fn run(config: ServiceConfig, statements: &[&str], serve: ServeConfig, elsewhere: &str) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("squilla-gateway")
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let stop = stop_signal()?;
        let service = Service::open(config).await.map_err(|refusal| Script::of_text("").refused_whole(refusal))?;
        for statement in statements {
            let created = service.execute(statement).await;
            created.map_err(|refusal| Script::of_text(statement).refused_whole(refusal))?;
        }
        let service = Arc::new(service);
        let served = squilla_gateway::serve(service.clone(), serve, |address| println!("http://{address}"), stop).await;
        service.engine().shutdown().await;
        served.map(|()| Outcome::Done).map_err(|error| not_served(&error, elsewhere))
    })
}

/// Completes at SIGTERM or Ctrl-C.
fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::new(format!("cannot listen to signals: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Why there is no server, and what to do.
fn not_served(error: &ServeError, elsewhere: &str) -> Failure {
    let failure = Failure::because(error);
    match error {
        ServeError::Bind { source, .. } if source.kind() == ErrorKind::AddrInUse => failure
            .help(format!("another program, perhaps another squilla, listens there: stop it, or say {elsewhere}")),
        _ => failure,
    }
}

//! The server: HTTP and WebSocket on one address. What clients send is checked here; what statements mean is not.

mod canary;
mod console;
mod error;
mod frame;
mod guard;
mod http;
mod limits;
pub(crate) mod moment;
mod rest;
mod socket;
mod start;
mod stream_query;
mod traffic;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::service::Service;
use canary::Canary;
use frame::Frames;
use guard::Hosts;
use socket::Running;
use traffic::Traffic;

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Where to listen. Port 0: any free one.
    pub listen: SocketAddr,
    /// An address that other machines can reach is allowed, though there is no authentication yet.
    pub insecure: bool,
    /// Names by which browsers may call this server, beside `localhost` and addresses.
    pub hosts: Vec<String>,
    /// How often sockets are pinged; one that has missed two is closed.
    pub heartbeat: Duration,
    /// A row a second goes through all of it, to measure how long that takes.
    pub canary: bool,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7878)),
            insecure: false,
            hosts: Vec::new(),
            heartbeat: Duration::from_secs(15),
            canary: false,
        }
    }
}

/// Why there is no server.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Other machines could reach the address, and there is no authentication.
    #[error(
        "{0} can be reached from other machines, and there is no authentication yet: listen on 127.0.0.1, or say --insecure"
    )]
    Insecure(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// What every request finds.
pub(crate) struct App {
    pub(crate) service: Arc<Service>,
    pub(crate) hosts: Hosts,
    pub(crate) frames: Frames,
    pub(crate) traffic: Traffic,
    pub(crate) canary: Canary,
    /// Who reads what over sockets.
    pub(crate) running: Arc<Running>,
    pub(crate) heartbeat: Duration,
    /// Cancelled when sockets and streams are to say good-bye.
    pub(crate) drain: CancellationToken,
    /// Cancelled when they have had the time for it.
    pub(crate) abandon: CancellationToken,
}

/// Serves until `shutdown` is ready; then says good-bye to clients and returns within [`limits::DRAIN`]. `ready` is
/// told the address once clients can connect.
///
/// # Errors
/// [`ServeError`]; nothing was served then.
pub async fn serve(
    service: Arc<Service>,
    config: ServeConfig,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let address = config.listen;
    if !address.ip().is_loopback() && !config.insecure {
        return Err(ServeError::Insecure(address));
    }
    let bind = |source| ServeError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    let app = Arc::new(App {
        service,
        hosts: Hosts::new(config.hosts),
        frames: Frames::default(),
        traffic: Traffic::default(),
        canary: Canary::default(),
        running: Arc::default(),
        heartbeat: config.heartbeat,
        drain: CancellationToken::new(),
        abandon: CancellationToken::new(),
    });
    let _canary = if config.canary { canary::start(&app).await } else { None };
    ready(address);
    http::run(listener, rest::router(app.clone()), &app, shutdown).await;
    Ok(())
}

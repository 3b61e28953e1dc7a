//! Squilla, as `squilla serve` has it, with a stream that rows are published to.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use squilla_engine::{EngineConfig, SystemClock};
use squilla_gateway::{ServeConfig, Service, ServiceConfig, serve};
use tokio::sync::oneshot;

use crate::Publish;
use crate::rows::{MESSAGE_ROWS, message_rows};

/// The stream that all read.
const CREATE_STREAM: &str =
    "CREATE SOURCE readings (number BIGINT, due BIGINT, note VARCHAR) WITH (connector = 'http')";
/// What clients ask.
pub(crate) const QUERY: &str = "SELECT number, due, note FROM readings WHERE number >= 0";
/// What those ask who get nothing.
pub(crate) const IDLE_QUERY: &str = "SELECT number, due, note FROM readings WHERE number < 0";

/// The server.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    service: Arc<Service>,
}

/// Starts it on a free port.
pub(crate) async fn start() -> Served {
    let config = ServiceConfig {
        engine: EngineConfig::default(),
        data_dir: None,
        roots: Vec::new(),
        clock: Arc::new(SystemClock),
    };
    let service = Arc::new(Service::open(config).await.expect("nothing is kept"));
    service.execute(CREATE_STREAM).await.expect("the statement is right");
    let listen = ServeConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..ServeConfig::default() };
    let (ready, address) = oneshot::channel();
    let tell = move |address| ready.send(address).expect("it is waited for below");
    let serving = serve(service.clone(), listen, tell, std::future::pending());
    tokio::spawn(async move { serving.await.expect("a free port") });
    Served { address: address.await.expect("the server starts"), service }
}

impl Publish for Served {
    async fn publish(&self, first: u64, due: u64) {
        let mut body = String::new();
        for (number, note) in message_rows(first) {
            writeln!(body, "{{\"number\":{number},\"due\":{due},\"note\":\"{note}\"}}").expect("text grows");
        }
        let report = self.service.publish("readings", body.into()).await.expect("its queue has room");
        assert_eq!(report.accepted, MESSAGE_ROWS);
    }
}

//! A server to test, and clients of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use squilla_engine::{EngineConfig, SystemClock};
use squilla_gateway::{ServeConfig, ServeError, Service, ServiceConfig, serve};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Longest wait for anything in these tests: far above what a loaded machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a free port, which stops when it is told to.
pub(crate) struct TestServer {
    pub(crate) service: Arc<Service>,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), ServeError>>,
}

/// An engine for tests: two compute threads, short lingering.
pub(crate) fn engine_config() -> EngineConfig {
    EngineConfig { compute_threads: 2, ..EngineConfig::default() }
}

/// A service that keeps its catalog in `data_dir`.
pub(crate) async fn open(data_dir: Option<PathBuf>, engine: EngineConfig, roots: Vec<PathBuf>) -> Arc<Service> {
    let config = ServiceConfig { engine, data_dir, roots, clock: Arc::new(SystemClock) };
    Arc::new(Service::open(config).await.expect("the service opens"))
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::with(engine_config(), Vec::new(), ServeConfig::default()).await
    }

    pub(crate) async fn with(engine: EngineConfig, roots: Vec<PathBuf>, config: ServeConfig) -> Self {
        Self::of(open(None, engine, roots).await, config).await
    }

    pub(crate) async fn of(service: Arc<Service>, config: ServeConfig) -> Self {
        let config = ServeConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..config };
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let serving = service.clone();
        let ended = tokio::spawn(async move {
            let ready = |address| tell.send(address).expect("the test waits for the address");
            // A sender that is dropped stops the server too.
            serve(serving, config, ready, async { drop(stopped.await) }).await
        });
        let address = told.await.expect("the server starts");
        Self { service, address, stop: Some(stop), ended }
    }

    /// Carries out a statement that must succeed.
    pub(crate) async fn execute(&self, sql: &str) {
        if let Err(refusal) = self.service.execute(sql).await {
            panic!("{sql}: {refusal}");
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Tells the server to stop.
    pub(crate) fn stop(&mut self) {
        self.stop.take().expect("it is stopped once").send(()).expect("the server runs");
    }

    /// Waits until the server has stopped.
    pub(crate) async fn ended(self) {
        let ended = tokio::time::timeout(PATIENCE, self.ended).await.expect("the server ends in time");
        ended.expect("the server does not panic").expect("the server has served");
    }
}

/// What a socket gave.
#[derive(Debug)]
pub(crate) enum Received {
    Message(Value),
    /// A close with its code, or none.
    Closed(Option<u16>),
}

/// A WebSocket client.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
}

impl Client {
    /// A client that has said hello.
    pub(crate) async fn hello(server: &TestServer) -> Self {
        let mut client = Self::connect(server, Some("squilla.v1.json"), None).await;
        client.send(&serde_json::json!({"type": "hello"})).await;
        assert_eq!(client.message().await["type"], "welcome");
        client
    }

    pub(crate) async fn connect(server: &TestServer, protocol: Option<&str>, origin: Option<&str>) -> Self {
        let stream = TcpStream::connect(server.address).await.expect("connects");
        Self::over(stream, server, protocol, origin).await
    }

    pub(crate) async fn over(
        stream: TcpStream,
        server: &TestServer,
        protocol: Option<&str>,
        origin: Option<&str>,
    ) -> Self {
        let mut request = format!("ws://{}/api/v1/ws", server.address).into_client_request().expect("a request");
        let headers = request.headers_mut();
        if let Some(protocol) = protocol {
            headers.insert("sec-websocket-protocol", HeaderValue::from_str(protocol).expect("a value"));
        }
        if let Some(origin) = origin {
            headers.insert("origin", HeaderValue::from_str(origin).expect("a value"));
        }
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config))
            .await
            .expect("the handshake succeeds");
        Self { socket }
    }

    pub(crate) async fn send(&mut self, message: &Value) {
        self.send_text(message.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.expect("sends");
    }

    /// The next thing but for pings, and progress unless `progress`.
    pub(crate) async fn receive(&mut self, progress: bool) -> Received {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        let message: Value = serde_json::from_str(text.as_str()).expect("messages are JSON");
                        if progress || message["type"] != "progress" {
                            return Received::Message(message);
                        }
                    }
                    Some(Ok(Message::Close(frame))) => return Received::Closed(frame.map(|frame| frame.code.into())),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Received::Closed(None),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("something comes in time")
    }

    /// The next message but progress.
    pub(crate) async fn message(&mut self) -> Value {
        match self.receive(false).await {
            Received::Message(message) => message,
            Received::Closed(code) => panic!("closed with {code:?}"),
        }
    }

    /// Subscribes, and gives the `subscribed` message.
    pub(crate) async fn subscribe(&mut self, mut subscribe: Value) -> Value {
        subscribe["type"] = "subscribe".into();
        self.send(&subscribe).await;
        let message = self.message().await;
        assert_eq!(message["type"], "subscribed", "{message}");
        message
    }
}

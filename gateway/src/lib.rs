//! Clients in; REST, WebSocket, SSE, the command line and the catalog on disk out. The binary is `squilla`.
//!
//! The semantics of queries and windows never live here.

mod service;

pub use service::{Answer, Refusal, Service, ServiceConfig};

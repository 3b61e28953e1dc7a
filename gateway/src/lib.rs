//! Clients in; REST, WebSocket, SSE, the command line and the catalog on disk out. The binary is `squilla`.
//!
//! The semantics of queries and windows never live here.

mod catalog;
mod server;
mod service;

pub use server::{ServeConfig, ServeError, serve};
pub use service::{Answer, PublishRefusal, Refusal, Service, ServiceConfig};

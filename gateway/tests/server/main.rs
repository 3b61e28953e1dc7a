//! The server from outside: real sockets on the loopback, a real engine behind them.

mod alter;
mod anew;
mod canary;
mod carry;
mod carry_more;
mod catalog;
mod client;
mod explain;
mod http;
mod late;
mod lifecycle;
mod limit;
mod limits;
mod live;
mod losses;
mod model;
mod params;
mod resume;
mod skip;
mod slow;
mod step;
mod tables;
mod time;
mod wire;

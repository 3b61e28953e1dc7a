//! A server's address that is in the way: it hands requests on, and cuts some connections before their answer.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// Starts one in front of a server; its URL. `cuts`: whether the answer to a request is lost, by its number from zero.
pub(crate) fn start(server: &str, cuts: impl Fn(usize) -> bool + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let server = server.trim_start_matches("http://").trim_end_matches('/').to_owned();
    // It ends with the test's process.
    std::thread::spawn(move || {
        let mut number = 0;
        for client in listener.incoming() {
            let client = client.expect("a connection");
            let upstream = TcpStream::connect(&server).expect("the server is there");
            serve(client, upstream, &mut number, &cuts);
        }
    });
    url
}

/// Hands on the requests of a connection until one is cut or the client goes.
fn serve(mut client: TcpStream, mut upstream: TcpStream, number: &mut usize, cuts: &impl Fn(usize) -> bool) {
    let mut requests = BufReader::new(client.try_clone().expect("a socket"));
    let mut answers = BufReader::new(upstream.try_clone().expect("a socket"));
    while let Some(request) = message(&mut requests) {
        upstream.write_all(&request).expect("the server takes it");
        let answer = message(&mut answers).expect("the server answers");
        let cut = cuts(*number);
        *number += 1;
        if cut || client.write_all(&answer).is_err() {
            return;
        }
    }
}

/// Head and body of a request or an answer; `None`: the sender has gone.
fn message(from: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut length = 0;
    loop {
        let start = bytes.len();
        if from.read_until(b'\n', &mut bytes).ok()? == 0 {
            return None;
        }
        let line = String::from_utf8_lossy(&bytes[start..]).to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let head = bytes.len();
    bytes.resize(head + length, 0);
    from.read_exact(&mut bytes[head..]).ok()?;
    Some(bytes)
}

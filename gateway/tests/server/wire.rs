//! Recorded conversations: `tests/cases/wire/*.json`. They specify every field of every message.
//!
//! A case has `about`, `statements` to set up, `files` to write first, and `steps`: `client` (a message to send, or
//! `text` as it is), `publish` (`stream`, `events`), `server` (the next message, all of its fields; messages of type
//! `progress` are passed over unless one is expected) and `closes` (with a code). In place of a value that differs from run to run stands `<number>`,
//! `<moment>`, `<text>`, `<any>` or `<position>`; `<position:NAME>` keeps it, and `<NAME>` in a client's message puts it
//! back. `${DIR}` in a statement is the folder of the files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use squilla_gateway::ServeConfig;

use crate::client::{Client, Received, TestServer, engine_config};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/wire");
    let files = std::fs::read_dir(folder).expect("the cases are there");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversations() {
    let paths = cases();
    assert!(!paths.is_empty());
    for path in paths {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let case: Value = serde_json::from_str(&std::fs::read_to_string(&path).expect("a case")).expect("JSON");
        converse(&name, &case).await;
    }
}

async fn converse(name: &str, case: &Value) {
    let folder = tempfile::tempdir().expect("a folder");
    for (file, text) in case["files"].as_object().into_iter().flatten() {
        std::fs::write(folder.path().join(file), text.as_str().expect("text")).expect("written");
    }
    let server = TestServer::with(engine_config(), vec![folder.path().to_owned()], ServeConfig::default()).await;
    for statement in case["statements"].as_array().into_iter().flatten() {
        let statement = statement.as_str().expect("text");
        server.execute(&statement.replace("${DIR}", &folder.path().display().to_string())).await;
    }
    let mut client = Client::connect(&server, Some("squilla.v1.json"), None).await;
    let mut kept = HashMap::new();
    for (at, step) in case["steps"].as_array().expect("steps").iter().enumerate() {
        let place = format!("{name}, step {at}");
        let (what, value) = step.as_object().and_then(|step| step.iter().next()).expect("a step is one thing");
        // Shown when the case fails.
        println!("{place}: {what}");
        match what.as_str() {
            "client" => client.send_text(put_back(&value.to_string(), &kept)).await,
            "text" => client.send_text(value.as_str().expect("text").to_owned()).await,
            "publish" => publish(&server, value).await,
            "execute" => server.execute(value.as_str().expect("text")).await,
            "server" => match client.receive(value["type"] == "progress").await {
                Received::Message(message) => expect(&place, value, &message, &mut kept),
                Received::Closed(code) => panic!("{place}: closed with {code:?}, not {value}"),
            },
            "closes" => match client.receive(false).await {
                Received::Closed(code) => assert_eq!(code.map(Value::from).as_ref(), Some(value), "{place}"),
                Received::Message(message) => panic!("{place}: {message}, not a close"),
            },
            other => panic!("{place}: a step cannot be \"{other}\""),
        }
    }
}

async fn publish(server: &TestServer, step: &Value) {
    let stream = step["stream"].as_str().expect("a stream");
    let report = server.service.publish(stream, step["events"].to_string().into()).await.expect("is taken");
    assert_eq!(report.rejected, 0, "{report:?}");
}

fn put_back(text: &str, kept: &HashMap<String, Value>) -> String {
    let mut text = text.to_owned();
    for (name, value) in kept {
        text = text.replace(&format!("<{name}>"), value.as_str().expect("positions are kept"));
    }
    text
}

fn expect(place: &str, wanted: &Value, got: &Value, kept: &mut HashMap<String, Value>) {
    match (wanted, got) {
        (Value::String(pattern), _) if pattern.starts_with('<') && pattern.ends_with('>') => {
            let (kind, name) =
                pattern[1..pattern.len() - 1].split_once(':').unwrap_or((&pattern[1..pattern.len() - 1], ""));
            let fits = match kind {
                "number" => got.is_number(),
                "text" => got.is_string(),
                "any" => true,
                "moment" => got.as_str().is_some_and(|text| text.ends_with('Z') && text.contains('T')),
                "position" => got.as_str().is_some_and(|text| text.contains(':')),
                other => panic!("{place}: no placeholder \"{other}\""),
            };
            assert!(fits, "{place}: {got} is no {kind}");
            if !name.is_empty() {
                kept.insert(name.to_owned(), got.clone());
            }
        }
        (Value::Object(wanted), Value::Object(got)) => {
            let mut names: Vec<&String> = wanted.keys().collect();
            let mut got_names: Vec<&String> = got.keys().collect();
            names.sort();
            got_names.sort();
            assert_eq!(names, got_names, "{place}: the fields of {}", Value::Object(got.clone()));
            for (name, value) in wanted {
                expect(&format!("{place}, {name}"), value, &got[name], kept);
            }
        }
        (Value::Array(wanted), Value::Array(got)) => {
            assert_eq!(wanted.len(), got.len(), "{place}: {got:?}");
            for (at, (wanted, got)) in wanted.iter().zip(got).enumerate() {
                expect(&format!("{place}[{at}]"), wanted, got, kept);
            }
        }
        _ => assert_eq!(wanted, got, "{place}"),
    }
}

//! What was created is there again after a restart.

use serde_json::json;
use squilla_gateway::{Answer, Service};

use crate::client::{engine_config, open};

async fn names(service: &Service) -> Vec<String> {
    service.engine().streams().into_iter().map(|stream| stream.name).collect()
}

async fn done(service: &Service, sql: &str) {
    if let Err(refusal) = service.execute(sql).await {
        panic!("{sql}: {refusal}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_come_back_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = Some(folder.path().join("data"));
    let input = folder.path().join("in.ndjson");
    std::fs::write(&input, "{\"n\":1}\n").expect("written");
    {
        let service = open(data.clone(), engine_config(), vec![folder.path().to_owned()]).await;
        done(&service, "CREATE SOURCE clicks WITH (connector = 'http')").await;
        done(&service, "CREATE SOURCE later WITH (connector = 'http')").await;
        let events = json!([{"who": "ann", "tags": ["a"]}]).to_string();
        service.publish("clicks", events.into()).await.expect("is taken");
        done(&service, "CREATE VIEW people AS SELECT who FROM clicks").await;
        done(&service, "CREATE STREAM named AS SELECT who FROM people WHERE who IS NOT NULL").await;
        done(&service, "CREATE STREAM gone AS SELECT who FROM people").await;
        done(&service, "DROP STREAM gone").await;
        let file = format!("CREATE SOURCE old (n BIGINT) WITH (connector = 'file', path = '{}')", input.display());
        done(&service, &file).await;
        done(&service, "CREATE STREAM of_old AS SELECT n FROM old").await;
        service.engine().shutdown().await;
    }
    std::fs::remove_file(&input).expect("removed");
    let service = open(data, engine_config(), vec![folder.path().to_owned()]).await;
    assert_eq!(names(&service).await, ["clicks", "named"], "what cannot run does not");
    assert!(matches!(service.execute("SELECT who, tags FROM clicks").await, Ok(Answer::Live(_))));
    let broken = service.execute("SELECT * FROM of_old").await.expect_err("its file is gone").to_string();
    assert!(broken.contains("could not be started again"), "{broken}");
    let pending = service.execute("SELECT * FROM later").await.expect_err("it has no columns").to_string();
    assert!(pending.contains("first events"), "{pending}");
    assert!(service.execute("DROP SOURCE clicks").await.is_err(), "it is used");
    done(&service, "DROP STREAM of_old").await;
    done(&service, "DROP SOURCE old").await;
    done(&service, "DROP SOURCE clicks CASCADE").await;
    assert!(names(&service).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_has_finished_is_not_started_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = Some(folder.path().join("data"));
    let roots = vec![folder.path().to_owned()];
    std::fs::write(folder.path().join("in.ndjson"), "{\"n\":1}\n{\"n\":2}\n").expect("written");
    let output = folder.path().join("out.ndjson");
    {
        let service = open(data.clone(), engine_config(), roots.clone()).await;
        done(&service, "CREATE SOURCE numbers (n BIGINT) WITH (connector = 'file', path = 'in.ndjson', mode = 'once')")
            .await;
        done(&service, "CREATE SINK copy WITH (connector = 'file', path = 'out.ndjson') AS SELECT n FROM numbers")
            .await;
        assert_eq!(service.sink_finished("copy").await.expect("it finishes").rows, 2);
        service.engine().shutdown().await;
    }
    let written = std::fs::read_to_string(&output).expect("written");
    assert_eq!(written, "{\"n\":1}\n{\"n\":2}\n");
    let service = open(data, engine_config(), roots).await;
    assert!(service.sink_finished("copy").await.is_err(), "it does not run");
    done(&service, "DROP SINK copy").await;
    assert_eq!(std::fs::read_to_string(&output).expect("written"), written);
}

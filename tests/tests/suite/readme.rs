//! What the README teaches is right: every statement of its page on the language can be planned.

use std::fs;
use std::sync::Arc;

use squilla_engine::{EngineConfig, EventTime, ManualClock};
use squilla_query::{ParamValue, Params, Statement, parameters, split_statements};
use squilla_tests::case::replay::Live;
use squilla_tests::lab::Lab;
use squilla_tests::workspace_root;

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_of_the_readme_is_planned() {
    let text = fs::read_to_string(workspace_root().join("README.md")).expect("the README is there");
    let pages: Vec<&str> = text.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let lab = Lab::new(EngineConfig::default(), Arc::new(ManualClock::new(EventTime(0)))).expect("an engine starts");
    let (mut count, mut wrong) = (0, Vec::new());
    for page in pages {
        for statement in split_statements(page).expect("it is SQL") {
            count += 1;
            let names = parameters(&statement.sql).into_iter();
            let params: Params = names.map(|name| (name, ParamValue::typed("7"))).collect();
            match lab.analyze_with(&statement.sql, &params) {
                Ok(Statement::CreateSource(_) | Statement::CreateStream(_) | Statement::CreateView(_)) => {
                    let created = lab.execute(&statement.sql, &mut |_, _| Ok(Arc::new(Live::new(1).0))).await;
                    wrong.extend(created.err().map(|error| format!("{}\n{error}", statement.sql)));
                }
                Ok(_) => {}
                Err(mistakes) => {
                    wrong.extend(mistakes.iter().map(|mistake| mistake.render(&statement.sql)));
                }
            }
        }
    }
    assert!(count > 40, "{count} statements");
    assert!(wrong.is_empty(), "{} of {count} statements are wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
    lab.engine.shutdown().await;
}

//! Every case file of `tests/cases/rows`, with every batch size and on one, two and four threads.

use std::path::PathBuf;

use squilla_tests::{case, workspace_root};

/// Cases that run at the same time: each has an engine with up to four threads of its own.
const AT_ONCE: usize = 4;

#[test]
fn rows() {
    let folder = workspace_root().join("tests/cases/rows");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder of cases is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    files.sort();
    if let Ok(wanted) = std::env::var("CASE") {
        files.retain(|path| path.to_string_lossy().contains(&wanted));
    }
    assert!(!files.is_empty(), "no case in {}", folder.display());
    let count = files.len();
    let queue = std::sync::Mutex::new(files.into_iter());
    let next = || queue.lock().expect("no holder of this lock panics").next();
    let run = || std::iter::from_fn(next).filter_map(|path| case::check(&path).err()).collect::<Vec<String>>();
    let mut failed: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(run)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a case does not panic")).collect()
    });
    failed.sort();
    assert!(failed.is_empty(), "{} of {count} cases failed:\n\n{}", failed.len(), failed.join("\n"));
}

//! What the suites share: case files, a source that replays rows, a run of the real binary.
//!
//! Unit tests never live here: they stand beside the code that they test.

use std::path::{Path, PathBuf};

pub mod case;
pub mod compare;
pub mod files;
pub mod fuzz;
pub mod generated;
pub mod held;
pub mod install;
pub mod lab;
pub mod measure;
pub mod names;
pub mod nexmark;
pub mod program;
pub mod random;
pub mod statements;

/// The folder that holds all crates.
///
/// # Panics
/// Never: this crate lies in that folder.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the crate's folder lies in the workspace's").to_path_buf()
}

//! What the suites share: the place of the sources.
//!
//! Unit tests never live here: they stand beside the code that they test.

use std::path::{Path, PathBuf};

/// The folder that holds all crates.
///
/// # Panics
/// Never: this crate lies in that folder.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the crate's folder lies in the workspace's").to_path_buf()
}

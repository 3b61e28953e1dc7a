//! What `squilla serve` is told: flags, over a TOML file with the same keys, over defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cli::args::{ServeArgs, default_listen};
use crate::cli::failure::Failure;

/// Folder of the catalog unless another is named. In the current folder: visible, and two projects have two.
const DEFAULT_DATA_DIR: &str = "squilla-data";

/// What the server does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) listen: SocketAddr,
    pub(super) data_dir: PathBuf,
    /// Empty: the current folder.
    pub(super) roots: Vec<PathBuf>,
    /// Names by which browsers may call the server, beside localhost and addresses.
    pub(super) hosts: Vec<String>,
    pub(super) insecure: bool,
}

/// The file. Relative folders start at the current one, as those of the flags.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ConfigFile {
    listen: Option<SocketAddr>,
    data_dir: Option<PathBuf>,
    #[serde(default)]
    root: Vec<PathBuf>,
    #[serde(default)]
    host: Vec<String>,
    #[serde(default)]
    insecure: bool,
}

impl Settings {
    /// Puts flags, file and defaults together.
    pub(super) fn of(args: &ServeArgs) -> Result<Self, Failure> {
        let file = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
        Ok(Self {
            listen: args.listen.or(file.listen).unwrap_or_else(default_listen),
            data_dir: args.data_dir.clone().or(file.data_dir).unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR)),
            roots: if args.root.is_empty() { file.root } else { args.root.clone() },
            hosts: if args.host.is_empty() { file.host } else { args.host.clone() },
            insecure: args.insecure || file.insecure,
        })
    }
}

fn read(path: &Path) -> Result<ConfigFile, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read the configuration \"{}\": {error}", path.display())))?;
    toml::from_str(&text).map_err(|error| {
        Failure::new(format!("the configuration \"{}\" is wrong: {}", path.display(), error.to_string().trim_end()))
            .help("the keys are listen, data-dir, root and host (lists) and insecure: see 'squilla serve --help'")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str, args: ServeArgs) -> Result<Settings, Failure> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("squilla.toml");
        std::fs::write(&path, text).expect("a file");
        Settings::of(&ServeArgs { config: Some(path), ..args })
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let args = ServeArgs { data_dir: Some("elsewhere".into()), ..ServeArgs::default() };
        let text = "listen = \"127.0.0.1:1\"\ndata-dir = \"here\"\nroot = [\"/srv\"]";
        let expected = Settings {
            listen: "127.0.0.1:1".parse().expect("an address"),
            data_dir: "elsewhere".into(),
            roots: vec!["/srv".into()],
            hosts: Vec::new(),
            insecure: false,
        };
        assert_eq!(settings(text, args).expect("settings"), expected);
        let defaults = Settings::of(&ServeArgs::default()).expect("settings");
        assert_eq!((defaults.listen, defaults.data_dir), (default_listen(), DEFAULT_DATA_DIR.into()));
    }

    #[test]
    fn unknown_and_malformed_keys_are_told_with_the_right_ones() {
        for text in ["lisen = \"127.0.0.1:1\"", "listen = 7878", "data_dir = \"x\""] {
            let error = settings(text, ServeArgs::default()).expect_err(text).to_string();
            assert!(error.contains("data-dir, root"), "{error}");
        }
    }
}

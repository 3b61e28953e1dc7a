//! Files by path, folder or pattern, under the folders that may be read and written.

use std::io;
use std::path::{Component, Path, PathBuf};

use squilla_query::Diagnostic;

use crate::options::Options;

/// Files that one source reads at the most.
const MAX_FILES: usize = 1_024;

/// What a `path` option names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSet {
    /// The folder, or the file itself; absolute, symbolic links resolved.
    base: PathBuf,
    /// A pattern of names in the folder; `None`: the base is a file, or all of a folder's files.
    pattern: Option<String>,
}

impl FileSet {
    /// Reads the option, and checks that the files are there and allowed. `None` adds a mistake.
    pub(crate) fn from_option(options: &mut Options<'_>, roots: &[PathBuf]) -> Option<Self> {
        let path =
            options.required("path", "write path = 'events.ndjson', a folder, or a pattern like 'logs/*.json'")?;
        match Self::resolve(path, roots) {
            Ok(files) => Some(files),
            Err(mistake) => {
                options.bad_value("path", mistake.message, mistake.help);
                None
            }
        }
    }

    fn resolve(path: &str, roots: &[PathBuf]) -> Result<Self, Diagnostic> {
        let path = Path::new(path);
        let pattern = path.file_name().and_then(|name| name.to_str()).filter(|name| name.contains(['*', '?']));
        let base = if pattern.is_some() { path.parent().unwrap_or(Path::new("")) } else { path };
        if base.to_string_lossy().contains(['*', '?']) {
            let message = format!("path \"{}\" has a pattern in a folder's name", path.display());
            return Err(Diagnostic::new("bad_option", message).help("patterns are for the last part of a path"));
        }
        let base = existing(base, roots)?;
        Ok(Self { base, pattern: pattern.map(str::to_owned) })
    }

    /// The files there are now, by name; symbolic links that lead out of the roots are refused.
    pub(crate) fn list(&self, roots: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
        if self.base.is_file() {
            return Ok(vec![self.base.clone()]);
        }
        let unreadable = |error: io::Error| format!("cannot read folder \"{}\": {error}", self.base.display());
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.base).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let wanted = match &self.pattern {
                Some(pattern) => matches(pattern.as_bytes(), name.as_bytes()),
                None => !name.starts_with('.'),
            };
            let path = entry.path();
            if !wanted || !path.is_file() {
                continue;
            }
            let resolved = path.canonicalize().map_err(unreadable)?;
            check_allowed(&resolved, roots).map_err(|mistake| mistake.message)?;
            files.push(path);
            if files.len() > MAX_FILES {
                return Err(format!("more than {MAX_FILES} files match \"{}\"", self.shown()));
            }
        }
        if files.is_empty() {
            return Err(format!("no file matches \"{}\"", self.shown()));
        }
        files.sort();
        Ok(files)
    }

    /// The path and pattern as text.
    pub(crate) fn shown(&self) -> String {
        match &self.pattern {
            Some(pattern) => self.base.join(pattern).display().to_string(),
            None => self.base.display().to_string(),
        }
    }
}

fn absolute(path: &Path, roots: &[PathBuf]) -> Result<PathBuf, Diagnostic> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let root = roots.first().ok_or_else(|| {
        Diagnostic::new("bad_option", "files cannot be read or written here: no folder is allowed")
            .help("name a folder with --root")
    })?;
    Ok(root.join(path))
}

/// An existing file or folder, resolved and under the roots.
fn existing(path: &Path, roots: &[PathBuf]) -> Result<PathBuf, Diagnostic> {
    let full = absolute(path, roots)?;
    let resolved = full.canonicalize().map_err(|error| {
        // Of what lies elsewhere, nobody learns whether it is there.
        if let Err(mistake) = check_allowed(&lexical(&full), roots) {
            return mistake;
        }
        let why = if error.kind() == io::ErrorKind::NotFound { "is not there".to_owned() } else { error.to_string() };
        Diagnostic::new("bad_option", format!("\"{}\" {why}", full.display()))
            .help("write the path of a file or a folder that is there, or a pattern like 'logs/*.json'")
    })?;
    check_allowed(&resolved, roots)?;
    Ok(resolved)
}

/// What to write for a file that is not there yet.
const IN_A_FOLDER: &str = "write the path of a file in a folder that is there";

/// Where a file may be written: its folder is there and under the roots, and the file is no symbolic link.
pub(crate) fn writable(path: &str, roots: &[PathBuf]) -> Result<PathBuf, Diagnostic> {
    let path = Path::new(path);
    let Some(name) = path.file_name() else {
        return Err(
            Diagnostic::new("bad_option", format!("\"{}\" is no path of a file", path.display())).help(IN_A_FOLDER)
        );
    };
    let folder = existing(path.parent().unwrap_or(Path::new("")), roots).map_err(|mistake| match mistake.code {
        "bad_option" => mistake.help(IN_A_FOLDER),
        _ => mistake,
    })?;
    let file = folder.join(name);
    match file.symlink_metadata() {
        Ok(found) if !found.is_file() => {
            Err(Diagnostic::new("bad_option", format!("\"{}\" is there and not a plain file", file.display()))
                .help(IN_A_FOLDER))
        }
        _ => Ok(file),
    }
}

fn check_allowed(resolved: &Path, roots: &[PathBuf]) -> Result<(), Diagnostic> {
    let allowed =
        |root: &PathBuf| resolved.starts_with(root) || root.canonicalize().is_ok_and(|r| resolved.starts_with(r));
    if roots.iter().any(allowed) {
        return Ok(());
    }
    let roots: Vec<String> = roots.iter().map(|root| format!("\"{}\"", root.display())).collect();
    let message = format!("\"{}\" is outside of the folders that may be used", resolved.display());
    Err(Diagnostic::new("not_allowed", message).help(format!("allowed: {}", roots.join(", "))))
}

/// The path with `..` taken away, for a file that is not there.
fn lexical(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut out, component| {
        match component {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
        out
    })
}

/// `*` stands for any bytes, `?` for one.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut star) = ((0, 0), None);
    while at.1 < name.len() {
        match pattern.get(at.0) {
            Some(b'*') => {
                star = Some(at);
                at.0 += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[at.1] => at = (at.0 + 1, at.1 + 1),
            _ => {
                // The last star takes one more byte.
                let Some((before, taken)) = star else { return false };
                star = Some((before, taken + 1));
                at = (before + 1, taken + 1);
            }
        }
    }
    pattern[at.0..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, right) in [
            ("*.json", "a.json", true),
            ("*.json", "a.json.gz", false),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxbyyb", false),
            ("?.csv", "a.csv", true),
            ("?.csv", "ab.csv", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), right, "{pattern} {name}");
        }
    }

    #[test]
    fn nothing_leads_out_of_the_roots() {
        let outside = tempfile::tempdir().expect("a folder");
        let root = tempfile::tempdir().expect("a folder");
        std::fs::write(outside.path().join("secret.json"), "{}").expect("written");
        std::fs::create_dir(root.path().join("in")).expect("made");
        std::fs::write(root.path().join("in/a.json"), "{}").expect("written");
        std::os::unix::fs::symlink(outside.path(), root.path().join("out")).expect("linked");
        std::os::unix::fs::symlink(outside.path().join("secret.json"), root.path().join("in/b.json")).expect("linked");
        let roots = vec![root.path().canonicalize().expect("there")];

        assert!(FileSet::resolve("in/a.json", &roots).is_ok());
        let code = |path: &str| FileSet::resolve(path, &roots).expect_err("refused").code;
        assert_eq!(code("in/b.json"), "not_allowed");
        assert_eq!(code("out"), "not_allowed");
        assert_eq!(code("../x.json"), "not_allowed");
        assert_eq!(code("/etc/passwd"), "not_allowed");
        assert_eq!(code("in/none.json"), "bad_option");
        let folder = FileSet::resolve("in", &roots).expect("a folder");
        assert!(folder.list(&roots).expect_err("a link leads out").contains("outside"));
        assert_eq!(writable("out/new.json", &roots).expect_err("refused").code, "not_allowed");
        assert_eq!(writable("in/b.json", &roots).expect_err("refused").code, "bad_option");
        assert!(writable("in/new.json", &roots).is_ok());
    }
}

//! Puts what Squilla is compared with into folders of their own. What is there already is left as it is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::workspace_root;

const DUCKDB: &[&str] = &["duckdb==2.0.0", "pyarrow==26.0.1"];
/// Its libraries, without the Python beside them.
const FLINK: &[&str] = &["--no-deps", "apache-flink-libraries==2.3.0"];

/// What Flink needs to run.
#[derive(Debug)]
pub struct Flink {
    /// Its libraries, and the class that runs statements.
    pub class_path: String,
}

/// Where this build's programs are installed to: `peers` in the target folder.
///
/// # Errors
/// When it is not known where this program lies.
pub fn home() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok(own.ancestors().nth(2).ok_or("the program lies in no folder")?.join("peers"))
}

/// A Python with DuckDB and what hands its rows over as batches.
///
/// # Errors
/// What pip or Python say.
pub fn duckdb(home: &Path) -> Result<PathBuf, String> {
    venv(&home.join("duckdb"), DUCKDB)
}

/// Flink's libraries.
///
/// # Errors
/// What pip or the compiler say, or that there is no compiler.
pub fn flink(home: &Path) -> Result<Flink, String> {
    for tool in ["java", "javac"] {
        let mut asked = Command::new(tool);
        asked.arg("-version").stdout(Stdio::null()).stderr(Stdio::null());
        if !asked.status().is_ok_and(|status| status.success()) {
            return Err(format!(
                "--flink needs a JDK of version 17, and there is no {tool}: apt-get install openjdk-17-jdk-headless"
            ));
        }
    }
    let folder = home.join("flink");
    let python = venv(&folder, FLINK)?;
    let found = Command::new(python).args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).output();
    let packages = found.map_err(|error| error.to_string())?.stdout;
    let libraries = PathBuf::from(String::from_utf8_lossy(&packages).trim()).join("pyflink/lib");
    let classes = folder.join("classes");
    let libraries = format!("{}/*", libraries.display());
    carry_out(
        Command::new("javac")
            .args(["-cp", &libraries, "-d"])
            .arg(&classes)
            .arg(workspace_root().join("tests/benches/peers/RunFlink.java")),
    )?;
    Ok(Flink { class_path: format!("{}:{libraries}", classes.display()) })
}

/// The Python of an environment with these packages.
fn venv(folder: &Path, packages: &[&str]) -> Result<PathBuf, String> {
    let python = folder.join("bin/python");
    let whole = folder.join("installed");
    if !whole.is_file() {
        eprintln!("installing {} below {}", packages.join(" "), folder.display());
        carry_out(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
        carry_out(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))?;
        std::fs::write(&whole, packages.join("\n")).map_err(|error| error.to_string())?;
    }
    Ok(python)
}

fn carry_out(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}:\n{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

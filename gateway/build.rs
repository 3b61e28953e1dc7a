//! Makes the console that the binary carries, and a table of its files.
//!
//! With npm on the machine it is the console of `web/`, built on a copy under `OUT_DIR`; otherwise, and in debug
//! builds, the small one of `fallback/`, which needs no tools. `SQUILLA_CONSOLE=npm` or `=fallback` chooses.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the console is built from, in `web/`. What tests and editors need is left out.
const SOURCES: [&str; 7] =
    ["index.html", "package.json", "package-lock.json", "public", "src", "tsconfig.json", "vite.config.ts"];

/// First lines of a failing tool's output that are shown.
const SHOWN_LINES: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let web = here.join("../web");
    let fallback = here.join("fallback");
    println!("cargo::rerun-if-env-changed=SQUILLA_CONSOLE");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", fallback.display());

    let chosen = env::var("SQUILLA_CONSOLE").unwrap_or_default();
    let folder = match chosen.as_str() {
        "fallback" => fallback,
        "" if env::var("PROFILE")? == "debug" => fallback,
        "" | "npm" => {
            for source in SOURCES {
                println!("cargo::rerun-if-changed={}", web.join(source).display());
            }
            match build(&web, &out) {
                Ok(folder) => folder,
                Err(reason) if chosen == "npm" => return Err(format!("SQUILLA_CONSOLE=npm: {reason}").into()),
                Err(reason) => {
                    println!("cargo::warning=the small fallback console is built in, since {reason}");
                    fallback
                }
            }
        }
        other => return Err(format!("SQUILLA_CONSOLE is \"{other}\": use \"npm\" or \"fallback\"").into()),
    };
    fs::write(out.join("console_assets.rs"), table(&folder)?)?;
    Ok(())
}

/// Builds the console of `web/` and returns the folder with its files, or says why it could not be built.
fn build(web: &Path, out: &Path) -> Result<PathBuf, String> {
    let (copy, dist) = (out.join("web"), out.join("console"));
    if !web.join("package-lock.json").is_file() {
        return Err(format!("{} has no package-lock.json", web.display()));
    }
    let installed = install(web, &copy)?;
    for source in SOURCES {
        let from = web.join(source);
        let to = copy.join(source);
        if to.is_dir() {
            fs::remove_dir_all(&to).map_err(|error| format!("{}: {error}", to.display()))?;
        }
        copy_all(&from, &to).map_err(|error| format!("{}: {error}", from.display()))?;
    }
    let vite = Path::new("node_modules/vite/bin/vite.js");
    run(Command::new("node").arg(vite).args(["build", "--emptyOutDir", "--outDir"]).arg(&dist), &copy)?;
    // Only a whole installation is worth keeping: the mark is set last.
    fs::write(copy.join("installed"), installed).map_err(|error| error.to_string())?;
    Ok(dist)
}

/// Installs the packages of the lock file, unless that very set is there; returns the lock file's text.
fn install(web: &Path, copy: &Path) -> Result<String, String> {
    let lock = fs::read_to_string(web.join("package-lock.json")).map_err(|error| error.to_string())?;
    if fs::read_to_string(copy.join("installed")).is_ok_and(|installed| installed == lock) {
        return Ok(lock);
    }
    fs::create_dir_all(copy).map_err(|error| error.to_string())?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(web.join(file), copy.join(file)).map_err(|error| format!("{file}: {error}"))?;
    }
    // A machine without network must not wait for minutes.
    let patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"];
    run(Command::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).args(patience), copy)?;
    Ok(lock)
}

fn run(command: &mut Command, folder: &Path) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.current_dir(folder).output().map_err(|error| format!("{name} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown = lines[..lines.len().min(SHOWN_LINES)].join(" | ");
    Err(format!("{name} failed ({}): {shown}", output.status))
}

fn copy_all(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy_all(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Rust text of the table that `server/console.rs` includes.
fn table(folder: &Path) -> Result<String, Box<dyn Error>> {
    let mut files = Vec::new();
    list(folder, folder, &mut files)?;
    files.sort();
    let mut text = String::from("&[\n");
    for (name, path) in files {
        let mut hasher = DefaultHasher::new();
        fs::read(&path)?.hash(&mut hasher);
        let etag = format!("W/\"{:016x}\"", hasher.finish());
        let kind = content_type(&name)?;
        writeln!(
            text,
            "    Asset {{ name: {name:?}, content_type: {kind:?}, etag: {etag:?}, bytes: include_bytes!({:?}) }},",
            path.display().to_string()
        )?;
    }
    text.push_str("]\n");
    Ok(text)
}

fn list(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(root, &path, files)?;
        } else {
            let name = path.strip_prefix(root)?.to_str().ok_or("a file's name is not UTF-8")?;
            files.push((name.replace('\\', "/"), path));
        }
    }
    Ok(())
}

fn content_type(name: &str) -> Result<&'static str, String> {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => Ok("text/html; charset=utf-8"),
        Some("js") => Ok("text/javascript; charset=utf-8"),
        Some("css") => Ok("text/css; charset=utf-8"),
        Some("svg") => Ok("image/svg+xml"),
        Some("woff2") => Ok("font/woff2"),
        _ => Err(format!("no content type is known for {name}")),
    }
}

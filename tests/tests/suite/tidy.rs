//! The shape of the code: which way crates depend, how long files grow, what operators document, what must not be
//! written.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use squilla_tests::workspace_root;

/// The crates' folders, lowest first: each may depend on those before it. `tests` may use all.
const CRATES: [&str; 5] = ["query", "engine", "sources", "gateway", "tests"];

/// What the top level holds beside dot-files.
const TOP_LEVEL: [&str; 10] =
    ["query", "engine", "sources", "gateway", "web", "tests", "Cargo.toml", "Cargo.lock", "README.md", "LICENSE"];

/// Lines of a source file, its tests at the end not counted.
const MAX_LINES: usize = 500;
/// Lines of a source file with its tests.
const MAX_LINES_WITH_TESTS: usize = 700;
/// Lines of a function, from `fn` to the closing brace.
const MAX_FUNCTION_LINES: usize = 70;

/// What the docs of an operator's type hold, in this order, each at the start of a line: `/// - Schema: …`. Before them
/// stands one sentence that says what it does, and behind them, where there is state, a paragraph that names the paper or
/// section it follows.
const OPERATOR_DOCS: [(&str, &str); 5] = [
    ("- Schema:", "input and output schema and ordering"),
    ("- Watermark:", "what it does with a watermark"),
    ("- State:", "the state it keeps and its bound"),
    ("- Errors:", "its errors"),
    ("- Example:", "a running example"),
];

/// What an operator says that follows no paper.
const STATELESS: &str = "- State: none.";

/// What is written nowhere in Rust. In two parts, so that this file does not name them.
const BANNED: [(&str, &str, &str); 10] = [
    ("todo", "!(", "finish it, or leave it out and refuse it"),
    ("unimpl", "emented!(", "finish it, or leave it out and refuse it"),
    ("unreachable!(\"in ", "work\")", "finish it, or leave it out and refuse it"),
    ("TO", "DO", "finish it, or file an issue"),
    ("FIX", "ME", "finish it, or file an issue"),
    ("dbg", "!(", "remove it"),
    ("#[ign", "ore", "assert today's behaviour and name the issue"),
    ("unbounded_", "channel", "give the queue a named limit"),
    ("mpsc::unb", "ounded", "give the queue a named limit"),
    ("#[allow", "(", "use #[expect(…, reason = \"…\")]"),
];

/// What tests must not do beside that.
const BANNED_IN_TESTS: [(&str, &str, &str); 2] =
    [("sle", "ep(", "inject the clock, or wait for what is to happen"), ("sle", "ep_ms(", "inject the clock")];

/// Names of modules that say nothing.
const EMPTY_NAMES: [&str; 5] = ["utils", "util", "common", "helpers", "misc"];

/// A Rust file of the workspace.
struct Source {
    /// From the workspace's folder.
    path: PathBuf,
    text: String,
}

impl Source {
    /// All of it is tests: a suite from outside, or a module of unit tests that has outgrown its neighbour's file.
    fn is_test(&self) -> bool {
        let stem = self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        stem == "tests"
            || stem.ends_with("_tests")
            || self.path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "benches")))
    }

    /// Lines before the tests at the end.
    fn code_lines(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        (1..lines.len())
            .find(|at| lines[at - 1].trim() == "#[cfg(test)]" && lines[*at].trim().ends_with('{'))
            .map_or(lines.len(), |at| at - 1)
    }
}

fn sources() -> Vec<Source> {
    let root = workspace_root();
    let mut sources = Vec::new();
    for folder in CRATES {
        collect(&root.join(folder), &root, &mut sources);
    }
    assert!(sources.len() > 20, "only {} sources found", sources.len());
    sources
}

fn collect(folder: &Path, root: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a crate's folder can be read") {
        let path = entry.expect("a folder's entry can be read").path();
        if path.is_dir() {
            collect(&path, root, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source is UTF-8");
            let path = path.strip_prefix(root).expect("the source lies below the root").to_path_buf();
            sources.push(Source { path, text });
        }
    }
}

/// Fails with all that was found, not with the first of it.
fn report(found: &[String]) {
    assert!(found.is_empty(), "{} found:\n  {}", found.len(), found.join("\n  "));
}

#[test]
fn crates_depend_one_way() {
    let mut found = Vec::new();
    for (level, folder) in CRATES.iter().enumerate() {
        let manifest = fs::read_to_string(workspace_root().join(folder).join("Cargo.toml")).expect("a manifest");
        let wanted: BTreeSet<String> = manifest
            .lines()
            .filter_map(|line| line.trim().strip_prefix("squilla-")?.split(['.', ' ', '=']).next().map(str::to_owned))
            .collect();
        for other in wanted {
            let lower = CRATES[..level].contains(&other.as_str()) && other != "tests";
            if !lower {
                found.push(format!("{folder} must not depend on {other}"));
            }
        }
    }
    report(&found);
}

#[test]
fn the_top_level_holds_what_the_design_says_and_nothing_else() {
    let root = workspace_root();
    let listed = Command::new("git").args(["-c", "safe.directory=*", "ls-files"]).current_dir(&root).output();
    let names: BTreeSet<String> = match listed {
        Ok(listed) if listed.status.success() => String::from_utf8_lossy(&listed.stdout)
            .lines()
            .filter_map(|path| path.split('/').next().map(str::to_owned))
            .collect(),
        // An unpacked archive: then there is no more than the repository has, but for what was built.
        _ => fs::read_dir(&root)
            .expect("the workspace can be read")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| name != "target")
            .collect(),
    };
    let found: Vec<String> = names
        .into_iter()
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()))
        .map(|name| format!("{name} does not belong on the top level"))
        .collect();
    report(&found);
}

#[test]
fn files_stay_within_their_bounds() {
    let mut found = Vec::new();
    for source in sources() {
        let all = source.text.lines().count();
        let code = if source.is_test() { 0 } else { source.code_lines() };
        if code > MAX_LINES {
            found.push(format!("{} has {code} lines, the limit is {MAX_LINES}: split it", source.path.display()));
        } else if all > MAX_LINES_WITH_TESTS {
            found.push(format!(
                "{} has {all} lines with its tests, the limit is {MAX_LINES_WITH_TESTS}: move tests to a file",
                source.path.display()
            ));
        }
    }
    report(&found);
}

#[test]
fn functions_fit_a_screen() {
    let mut found = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(name) = function_name(line) else { continue };
            let indent = line.len() - line.trim_start().len();
            // The code is formatted: the brace that closes a function stands where the function starts.
            let length = lines[at..]
                .iter()
                .position(|line| line.trim() == "}" && line.len() - 1 == indent)
                .map_or(1, |end| end + 1);
            let is_declaration =
                lines[at..].iter().find(|line| line.ends_with(['{', ';', '}'])).is_some_and(|line| line.ends_with(';'));
            if length > MAX_FUNCTION_LINES && !is_declaration && !line.ends_with('}') {
                found.push(format!(
                    "{}:{}: {name} has {length} lines, the limit is {MAX_FUNCTION_LINES}",
                    source.path.display(),
                    at + 1
                ));
            }
        }
    }
    report(&found);
}

/// The name of the function whose declaration starts on this line.
fn function_name(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let is_qualifier = |word: &str| {
        word.starts_with("pub") || matches!(word, "async" | "const" | "unsafe" | "extern" | "\"C\"" | "in")
    };
    let first = words.find(|word| !is_qualifier(word))?;
    if first != "fn" {
        return None;
    }
    words.next()?.split(['(', '<']).next()
}

#[test]
fn operators_say_what_they_do() {
    let mut found = Vec::new();
    let mut operators = 0;
    for source in sources() {
        if !source.path.starts_with("engine/src/operator") {
            continue;
        }
        for name in source.text.lines().take(source.code_lines()).filter_map(operator_name) {
            operators += 1;
            let missing = missing_operator_docs(&type_docs(&source.text, name));
            found.extend(missing.iter().map(|missing| format!("{}: {name}: {missing}", source.path.display())));
        }
    }
    assert!(operators >= 4, "only {operators} operators found");
    report(&found);
}

/// The type for which this line implements `Operator`; not of wrappers, which are generic.
fn operator_name(line: &str) -> Option<&str> {
    line.strip_prefix("impl Operator for ")?.strip_suffix(" {").filter(|name| !name.contains('<'))
}

/// The lines of the docs above a type.
fn type_docs<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let lines: Vec<&str> = text.lines().collect();
    let starts = |line: &str| {
        ["pub struct ", "pub(crate) struct ", "pub(super) struct "].iter().any(|start| {
            line.strip_prefix(start).is_some_and(|rest| rest.split([' ', '{', ';', '<', '(']).next() == Some(name))
        })
    };
    let Some(at) = lines.iter().position(|line| starts(line)) else { return Vec::new() };
    let above = lines[..at].iter().rev().skip_while(|line| line.starts_with("#["));
    let mut docs: Vec<&str> = above.map_while(|line| line.strip_prefix("///")).map(str::trim).collect();
    docs.reverse();
    docs
}

fn missing_operator_docs(docs: &[&str]) -> Vec<String> {
    let mut missing = Vec::new();
    let first = docs.iter().position(|line| line.is_empty()).unwrap_or(docs.len());
    if first == 0 || docs[0].starts_with('-') {
        missing.push("open with one sentence that says what it does".to_owned());
    }
    let mut after = first;
    for (heading, what) in OPERATOR_DOCS {
        match docs[after..].iter().position(|line| line.starts_with(heading)) {
            Some(at) => after += at + 1,
            None => missing.push(format!("add \"/// {heading} …\": {what}")),
        }
    }
    let reference = docs[after..].iter().position(|line| line.is_empty());
    let stateless = docs.contains(&STATELESS);
    if !stateless && !reference.is_some_and(|at| docs[after + at..].iter().any(|line| !line.is_empty())) {
        missing.push("end with a paragraph that names the paper or section it follows".to_owned());
    }
    missing
}

#[test]
fn libraries_and_modules_open_with_docs() {
    let mut found = Vec::new();
    for source in sources() {
        if !source.is_test() && !source.text.trim_start().starts_with("//!") {
            found.push(format!("{}: open with //! docs that say what it is for", source.path.display()));
        }
    }
    for folder in CRATES {
        let lib = fs::read_to_string(workspace_root().join(folder).join("src/lib.rs")).expect("a library");
        if !lib.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains("ever live")) {
            found.push(format!("{folder}/src/lib.rs: say what must \"never live here\""));
        }
    }
    report(&found);
}

#[test]
fn nothing_is_left_undone_or_unbounded() {
    let mut found = Vec::new();
    for source in sources() {
        let tests_start = if source.is_test() { 0 } else { source.code_lines() };
        for (at, line) in source.text.lines().enumerate() {
            let in_tests = at >= tests_start;
            let banned = BANNED.iter().chain(BANNED_IN_TESTS.iter().filter(|_| in_tests));
            for (start, end, instead) in banned {
                if line.contains(&format!("{start}{end}")) {
                    found.push(format!("{}:{}: {start}{end}: {instead}", source.path.display(), at + 1));
                }
            }
        }
    }
    report(&found);
}

#[test]
fn modules_have_names_that_say_something() {
    let mut found = Vec::new();
    for source in sources() {
        let stem = source.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let folder = source.path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        if EMPTY_NAMES.contains(&stem) || EMPTY_NAMES.contains(&folder) {
            found.push(format!("{}: name it for what it holds", source.path.display()));
        }
    }
    report(&found);
}

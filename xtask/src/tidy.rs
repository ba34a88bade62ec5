//! The shape of the repository: what a compiler does not check.

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use trunnion_tests::workspace::root;

/// The parts, and the files that a tool or a newcomer looks for beside them.
const TOP_LEVEL: [&str; 6] = ["agent", "collector", "common", "firmware", "tests", "xtask"];
const BESIDE: [&str; 16] = [
    ".cargo",
    ".ci",
    ".git",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
    "target",
];

/// Crates inside a part.
const NESTED: [&str; 1] = ["common/diagnosis"];

/// A longer source file has outgrown one idea.
const LINES_MAX: usize = 1_200;

/// What is left over from writing; in two halves, so that this file has none.
const LEFTOVERS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// The compatibility promise: removing one of these breaks it without any test that fails.
const GOLDEN: [&str; 7] = [
    "agent/tests/golden/spool_3",
    "agent/tests/golden/spool_4",
    "collector/tests/golden/journal-1-1.seg",
    "collector/tests/golden/journal-1-2.seg",
    "collector/tests/golden/journal-1-3.seg",
    "collector/tests/golden/journal-1-kind-10.seg",
    "common/tests/golden/wire_v1.txt",
];

/// Finds everything that is out of shape, and says it all at once.
pub(crate) fn check() -> Result<()> {
    let mut problems = top_level(root())?;
    for golden in GOLDEN {
        if !root().join(golden).exists() {
            problems.push(format!("{golden} is missing: golden files are never removed"));
        }
    }
    let mut sources = Vec::new();
    for part in TOP_LEVEL {
        find_sources(&root().join(part), &mut sources)?;
    }
    for part in TOP_LEVEL.iter().chain(&NESTED) {
        problems.extend(manifest(part)?);
    }
    for source in sources {
        let text = read(&source)?;
        for leftover in LEFTOVERS {
            if let Some(line) = text.lines().position(|line| line.contains(leftover)) {
                problems.push(format!("{}:{}: {leftover}", source.display(), line + 1));
            }
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            problems.push(format!(
                "{} has {lines} lines, more than {LINES_MAX}: split it by its ideas",
                source.display()
            ));
        }
    }
    let readme = read(&root().join("README.md"))?;
    for command in ["cargo xtask demo", "cargo xtask test"] {
        if !readme.lines().any(|line| line == command) {
            problems.push(format!(
                "README.md does not give `{command}` on a line of its own"
            ));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("the repository is out of shape:\n  {}", problems.join("\n  "))
}

fn top_level(root: &Path) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))? {
        found.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    let missing = TOP_LEVEL.iter().filter(|part| !found.contains(**part));
    let missing = missing.map(|part| format!("{part} is missing at the top level"));
    let strange = found
        .iter()
        .filter(|name| !TOP_LEVEL.contains(&name.as_str()) && !BESIDE.contains(&name.as_str()));
    let strange = strange.map(|name| format!("{name} has no place at the top level: it belongs into a part"));
    Ok(missing.chain(strange).collect())
}

/// Every part inherits licence, lints and the rule that it is not published by accident.
fn manifest(part: &str) -> Result<Vec<String>> {
    let path = root().join(part).join("Cargo.toml");
    let manifest: toml::Table = read(&path)?.parse().with_context(|| path.display().to_string())?;
    let inherits = |table: &str, key: Option<&str>| {
        let value = manifest.get(table);
        let value = key.map_or(value, |key| value.and_then(|table| table.get(key)));
        value
            .and_then(|value| value.get("workspace"))
            .and_then(toml::Value::as_bool)
            == Some(true)
    };
    let wanted = [
        ("license", inherits("package", Some("license"))),
        ("publish", inherits("package", Some("publish"))),
        ("lints", inherits("lints", None)),
    ];
    let missing = wanted.into_iter().filter(|(_, is_there)| !is_there);
    let problem = |(what, _)| format!("{part}/Cargo.toml does not inherit `{what}` from the workspace");
    Ok(missing.map(problem).collect())
}

fn find_sources(dir: &Path, sources: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find_sources(&path, sources)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            sources.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_in_shape() {
        check().unwrap();
    }

    #[test]
    fn what_has_no_place_is_named_and_so_is_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        for part in &TOP_LEVEL[1..] {
            fs::create_dir(dir.path().join(part)).unwrap();
        }
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        let problems = top_level(dir.path()).unwrap();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("agent is missing") && problems[1].starts_with("notes.txt"));
    }
}

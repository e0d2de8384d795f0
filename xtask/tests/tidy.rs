//! What a rule can check, this checks: module docs, lengths, who may depend on what, licences, words that do not belong here.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crates without effects: no runtime, socket, clock, file or process is in their reach.
const PURE: [&str; 7] = ["xdr", "rpc", "domxml", "qmp", "qemu", "migration", "domain"];

/// Crates that a pure one must not reach, however far down.
const IMPURE_CRATES: [&str; 7] =
    ["tokio", "mio", "socket2", "rusqlite", "libsqlite3-sys", "rustix", "tempfile"];

/// What a pure crate's own code must not say. An `Instant` that comes in as an argument is fine, and so is an `IpAddr`.
const IMPURE_WORDS: [&str; 15] = [
    "std::fs",
    "std::process",
    "std::env",
    "std::thread",
    "std::os",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "ToSocketAddrs",
    "SystemTime::now",
    "Instant::now",
    "println!",
    "std::io::std",
];

/// Lines that a source file may have.
const LINES_MAX: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every file of the repository, but what is built or comes from elsewhere.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if entry.file_type().unwrap().is_dir() {
                if !["target", ".git", "corpus", "artifacts"].iter().any(|skipped| name == *skipped) {
                    open.push(path);
                }
            // A worktree's .git is a file, and says where it lies.
            } else if name != "Cargo.lock" && name != ".git" {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    let rust = files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| (path.strip_prefix(root()).unwrap().to_path_buf(), fs::read_to_string(&path).unwrap()))
        .collect()
}

fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_source_file_says_first_what_it_is_for() {
    let silent = sources().into_iter().filter(|(_, text)| !text.starts_with("//! "));
    assert_none(silent.map(|(path, _)| format!("{}: does not begin with `//! `", path.display())).collect());
}

#[test]
fn no_source_file_grows_too_long() {
    let long = sources().into_iter().map(|(path, text)| (path, text.lines().count()));
    let long = long.filter(|(_, lines)| *lines > LINES_MAX);
    assert_none(long.map(|(path, lines)| format!("{}: {lines} lines", path.display())).collect());
}

#[test]
fn pure_crates_say_nothing_impure() {
    let mut complaints = Vec::new();
    for (path, text) in sources() {
        let pure = PURE.iter().any(|name| path.starts_with(format!("crates/{name}/src")));
        let test =
            path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
        if !pure || test {
            continue;
        }
        for (number, line) in own_code(&text) {
            for word in IMPURE_WORDS.iter().filter(|word| line.contains(*word)) {
                complaints.push(format!("{}:{number}: {word}", path.display()));
            }
        }
    }
    assert_none(complaints);
}

/// The lines before the tests, which come last in a file, without comments.
fn own_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().zip(1..).map(|(line, number)| (number, line));
    lines
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn pure_crates_reach_no_crate_with_effects() {
    let metadata = metadata();
    let names: BTreeMap<&str, &str> =
        list(&metadata["packages"]).map(|package| (text(&package["id"]), text(&package["name"]))).collect();
    let needs: BTreeMap<&str, Vec<&str>> = list(&metadata["resolve"]["nodes"])
        .map(|node| {
            (
                text(&node["id"]),
                list(&node["deps"]).filter(|dep| is_normal(dep)).map(|dep| text(&dep["pkg"])).collect(),
            )
        })
        .collect();
    let mut complaints = Vec::new();
    for pure in PURE {
        let name = format!("ferry-{pure}");
        let (start, _) = names.iter().find(|(_, known)| **known == name).unwrap();
        let mut seen = BTreeSet::new();
        let mut open = vec![*start];
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(&needs[id]);
            }
        }
        let reached = seen.iter().map(|id| names[id]).filter(|name| IMPURE_CRATES.contains(name));
        complaints.extend(reached.map(|impure| format!("{name} reaches {impure}")));
    }
    assert_none(complaints);
}

/// Needed at run time: not by a build script, not by tests.
fn is_normal(dependency: &Value) -> bool {
    list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null())
}

#[test]
fn every_dependency_has_a_licence_that_we_allow() {
    let deny = fs::read_to_string(root().join("deny.toml")).unwrap();
    let allowed = deny.split_once("allow = [").unwrap().1.split_once(']').unwrap().0;
    let allowed: BTreeSet<&str> = allowed.split('"').skip(1).step_by(2).collect();
    assert!(allowed.contains("MIT"), "{allowed:?}");
    let metadata = metadata();
    let refused = list(&metadata["packages"])
        .filter(|package| !fits(package["license"].as_str().unwrap_or(""), &allowed));
    assert_none(refused.map(|package| format!("{}: {}", package["name"], package["license"])).collect());
}

/// Whether one side of each OR, and both sides of each AND, are allowed. OR binds weaker, parentheses only group ORs.
fn fits(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let plain = expression.replace('/', " OR ");
    if let Some((choice, rest)) = plain.split_once(") AND ") {
        return fits(choice.trim_start_matches('('), allowed) && fits(rest, allowed);
    }
    plain.trim_matches(['(', ')']).split(" OR ").any(|side| {
        side.trim_matches(['(', ')', ' ']).split(" AND ").all(|licence| allowed.contains(licence.trim()))
    })
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0", "Unicode-3.0"]);
    for good in
        ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "(MIT OR GPL-3.0) AND Unicode-3.0", "MIT AND Apache-2.0"]
    {
        assert!(fits(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND GPL-3.0"] {
        assert!(!fits(bad, &allowed), "{bad}");
    }
}

#[test]
fn nothing_here_names_registries_or_the_place_where_it_was_written() {
    // Put together here, so that this file does not name them either.
    let registries =
        [["crates", "io"], ["deb.debian", "org"], ["pypi", "org"], ["npmjs", "org"], ["docs", "rs"]];
    let mut words: Vec<String> = registries.iter().map(|parts| parts.join(".")).collect();
    words.extend(
        [["/wo", "rk/"], ["Clau", "de"], ["Chat", "GPT"], ["TO", "DO:"], ["FIX", "ME"]]
            .map(|parts| parts.concat()),
    );
    let mut complaints = Vec::new();
    for path in files() {
        // What is not text has no words.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (line, number) in text.lines().zip(1..) {
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                complaints.push(format!("{}:{number}: {word}", path.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert_none(complaints);
}

/// The packages that are built: those that only other systems need are not even downloaded.
fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &platform])
        .current_dir(root())
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

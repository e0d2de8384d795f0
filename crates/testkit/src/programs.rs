//! The project's own programs, as tests run them: found beside the test itself, and built first when they may be stale.
//!
//! `cargo test -p ferry-tests` does not build another package's binaries, so this asks cargo to, once per process.
//! `FERRY_BIN_DIR` names a folder that has them all; then nothing is built.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use crate::{Error, Result, command};

/// How long a build may take: the first one brings SQLite.
const BUILD_LIMIT: Duration = Duration::from_secs(900);

/// The target that the guest is built for: named, so that the flags for it do not reach build scripts.
const GUEST_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds that were done in this process.
static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

/// The path of binary `name` of package `package`, built like the test that asks.
///
/// # Errors
/// [`Error::Command`] with the compiler's words.
pub fn program(package: &str, name: &str) -> Result<PathBuf> {
    program_with(package, name, &[])
}

fn program_with(package: &str, name: &str, features: &[&str]) -> Result<PathBuf> {
    if let Some(folder) = env::var_os("FERRY_BIN_DIR") {
        let path = Path::new(&folder).join(name);
        if path.exists() {
            return Ok(path);
        }
    }
    once(name, || {
        let (target, profile) = target_folder()?;
        let mut cargo = cargo(&target);
        cargo.args(["build", "--quiet", "--package", package, "--bin", name]);
        for feature in features {
            cargo.args(["--features", feature]);
        }
        if profile == "release" {
            cargo.arg("--release");
        }
        command::run(&mut cargo, BUILD_LIMIT)?.ok()?;
        Ok(target.join(profile).join(name))
    })
}

/// The daemon.
///
/// # Errors
/// As [`program`].
pub fn ferryd() -> Result<PathBuf> {
    program("ferryd", "ferryd")
}

/// The daemon with fault points, where a test can hold a migration.
///
/// # Errors
/// As [`program`].
pub fn ferryd_with_fault_points() -> Result<PathBuf> {
    program_with("ferryd", "ferryd-fault-points", &["fault-points"])
}

/// The operator's tool.
///
/// # Errors
/// As [`program`].
pub fn ferry() -> Result<PathBuf> {
    program("ferry", "ferry")
}

/// The test guest's init, linked statically.
///
/// # Errors
/// As [`program`].
pub fn guest_init() -> Result<PathBuf> {
    once("ferry-guest", || {
        let (target, _) = target_folder()?;
        // A folder of its own: its flags are not those of the rest.
        let target = target.join("guest");
        let mut cargo = cargo(&target);
        cargo.args(["build", "--quiet", "--package", "ferry-guest", "--release", "--target", GUEST_TARGET]);
        cargo
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols");
        command::run(&mut cargo, BUILD_LIMIT)?.ok()?;
        Ok(target.join(GUEST_TARGET).join("release/ferry-guest"))
    })
}

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn once(name: &str, build: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(path) = built.get(name) {
        return Ok(path.clone());
    }
    let path = build()?;
    built.insert(name.to_owned(), path.clone());
    Ok(path)
}

fn cargo(target: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).env("CARGO_TARGET_DIR", target);
    cargo
}

/// The target folder and the profile's folder in it, from where this very program lies.
fn target_folder() -> Result<(PathBuf, String)> {
    let own = env::current_exe().map_err(Error::io("where this program lies"))?;
    // target/PROFILE/deps/test-HASH, or target/PROFILE/program
    let mut folder = own.parent().map(Path::to_path_buf).unwrap_or_default();
    if folder.ends_with("deps") || folder.ends_with("examples") {
        folder.pop();
    }
    let profile = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match folder.parent() {
        Some(target) if profile == "debug" || profile == "release" => Ok((target.to_path_buf(), profile)),
        _ => Err(Error::Missing {
            what: format!("a target folder above {own:?}"),
            needed_for: "building the programs under test; FERRY_BIN_DIR names them otherwise".into(),
        }),
    }
}

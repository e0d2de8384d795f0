//! A stock Debian cloud kernel, taken out of its package: the image, and the modules that the test guest needs, in an
//! order in which they can be loaded.
//!
//! The package brings no list of dependencies (that is made when it is installed), so they are read from the modules
//! themselves, where the kernel's build wrote them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cache::Cache;
use crate::{Error, Result, command, packages};

/// The metapackage whose dependency is the kernel.
const META: &str = "linux-image-cloud-amd64";

/// What a guest of ours may meet: the power button, and the disks and cards of the tests' domains. Which is there is
/// probed when the module loads.
const WANTED: [&str; 11] = [
    "evdev",
    "button",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "sd_mod",
    "virtio_scsi",
    "ata_piix",
    "virtio_balloon",
    "virtio_console",
    "sr_mod",
];

/// A kernel that can be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The compressed image (`vmlinuz-…`).
    pub image: PathBuf,
    /// Modules, each after those that it depends on. `.ko`, or compressed.
    pub modules: Vec<PathBuf>,
}

/// The distribution's cloud kernel.
///
/// # Errors
/// What [`packages::unpack_dependency`] gives, and [`Error::Missing`] when the package is not built as expected.
pub fn stock(cache: &Cache) -> Result<Kernel> {
    let unpacked = packages::unpack_dependency(cache, META, "linux-image-")?;
    let image = fs::read_dir(unpacked.root.join("boot"))
        .map_err(Error::io("the kernel package's /boot"))?
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"))
        .ok_or_else(|| missing("vmlinuz"))?
        .path();
    let mut found = BTreeMap::new();
    for root in ["usr/lib/modules", "lib/modules"] {
        collect_modules(&unpacked.root.join(root), &mut found);
    }
    let mut modules = Vec::new();
    for name in WANTED {
        add_after_needs(name, &found, &mut modules)?;
    }
    Ok(Kernel { image, modules })
}

/// The module's bytes, decompressed.
///
/// # Errors
/// [`Error::Io`], or [`Error::Command`] of the program that decompresses.
pub fn read_module(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(path).map_err(Error::io(format!("{path:?}"))),
    };
    let scratch = tempfile::tempdir().map_err(Error::io("a temporary folder"))?;
    let plain = scratch.path().join("module.ko");
    let script = "exec \"$1\" -dc \"$2\" > \"$3\"";
    let mut decompress = Command::new("sh");
    decompress.args(["-c", script, "sh", program]).arg(path).arg(&plain);
    command::run(&mut decompress, Duration::from_secs(60))?.ok()?;
    fs::read(&plain).map_err(Error::io(format!("{plain:?}")))
}

/// Appends `name` to `order` unless it is there, and before it what it depends on.
fn add_after_needs(name: &str, found: &BTreeMap<String, PathBuf>, order: &mut Vec<PathBuf>) -> Result<()> {
    let path = found.get(name).ok_or_else(|| missing(name))?;
    if order.contains(path) {
        return Ok(());
    }
    for need in depends(&read_module(path)?) {
        add_after_needs(&need, found, order)?;
    }
    order.push(path.clone());
    Ok(())
}

/// The names that stand in the module's `depends=` line; the kernel's build forbids circles among them.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = &module[at + KEY.len()..];
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    let names = String::from_utf8_lossy(&value[..end]).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(canonical).collect()
}

fn collect_modules(folder: &Path, found: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect_modules(&path, found);
        } else if let Some((stem, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            found.insert(canonical(stem), path);
        }
    }
}

/// A file may be called `virtio-rng.ko`; the kernel calls it `virtio_rng`.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn missing(what: &str) -> Error {
    Error::Missing { what: format!("{what} in {META}"), needed_for: "the Linux test guest".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_out_of_a_module() {
        assert_eq!(
            depends(b"\x7fELF...\0license=GPL\0depends=virtio-ring,virtio\0name=x\0"),
            ["virtio_ring", "virtio"]
        );
        assert_eq!(depends(b"\x7fELF...\0depends=\0name=x\0"), Vec::<String>::new());
        assert_eq!(depends(b"\x7fELF"), Vec::<String>::new());
    }

    #[test]
    fn needs_come_first_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut found = BTreeMap::new();
        for (name, needs) in [("card", "bus,ring"), ("bus", "ring"), ("ring", "")] {
            let path = folder.path().join(format!("{name}.ko"));
            fs::write(&path, format!("\0depends={needs}\0")).unwrap();
            found.insert(name.to_owned(), path);
        }
        let mut order = Vec::new();
        add_after_needs("card", &found, &mut order).unwrap();
        add_after_needs("bus", &found, &mut order).unwrap();
        let names: Vec<_> = order.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["ring", "bus", "card"]);
        assert!(add_after_needs("disk", &found, &mut order).is_err());
    }
}

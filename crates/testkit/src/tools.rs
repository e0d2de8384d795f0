//! The foreign programs that tests drive: QEMU, virsh, libvirtd, unmodified, in two generations.
//!
//! The distribution's own are taken as installed; what of them is not installed is unpacked. The newer ones come from
//! backports and are always unpacked. On a host with namespaces ([`crate::lab`]) what was unpacked is laid over `/usr`, so
//! each program lies where its package puts it, and so do its data files. Without namespaces a small script stands in
//! for each program and points it to its files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::cache::{Cache, digest};
use crate::packages::{Suite, unpack};
use crate::{Error, Result};

const QEMU: [&str; 2] = ["qemu-system-x86", "qemu-utils"];
const LIBVIRT: [&str; 3] = ["libvirt-clients", "libvirt-daemon", "libvirt-daemon-driver-qemu"];

/// Where Debian puts libraries.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// One generation of the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// Unpacked packages to lay over `/usr`, topmost first. Empty when the machine's own are meant.
    pub overlays: Vec<PathBuf>,
    /// Scripts that stand in for the programs where nothing can be laid over `/usr`.
    stand_ins: Option<PathBuf>,
}

impl Tools {
    /// Debian 12's own: QEMU 7.2, libvirt 9.0.
    ///
    /// # Errors
    /// What [`unpack`] gives, when something is not installed.
    pub fn distribution(cache: &Cache) -> Result<Self> {
        Self::from(cache, Suite::Own)
    }

    /// Backports': QEMU 10.0, libvirt 11.3.
    ///
    /// # Errors
    /// What [`unpack`] gives.
    pub fn newer(cache: &Cache) -> Result<Self> {
        Self::from(cache, Suite::Backports)
    }

    /// The path of `program` (such as `qemu-system-x86_64` or `virsh`) on a host that has nothing laid over `/usr`.
    pub fn path(&self, program: &str) -> PathBuf {
        match &self.stand_ins {
            Some(folder) if folder.join(program).exists() => folder.join(program),
            _ => Path::new("/usr/bin").join(program),
        }
    }

    /// Unpacked folders of plugins, and where each belongs, from `/`.
    pub(crate) fn plugin_folders(&self) -> Vec<(PathBuf, String)> {
        let places = ["libvirt/connection-driver", "libvirt/storage-backend", "libvirt/storage-file", "qemu"];
        let places = places.map(|place| format!("{LIBRARIES}/{place}"));
        let all = self
            .overlays
            .iter()
            .flat_map(|root| places.iter().map(move |place| (root.join(place), place.clone())));
        all.filter(|(folder, _)| folder.is_dir()).collect()
    }

    fn from(cache: &Cache, suite: Suite) -> Result<Self> {
        let mut overlays = Vec::new();
        for wanted in [&QEMU[..], &LIBVIRT[..]] {
            let unpacked = unpack(cache, wanted, suite)?;
            if !unpacked.packages.is_empty() {
                overlays.push(unpacked.root);
            }
        }
        let stand_ins = if overlays.is_empty() { None } else { Some(write_stand_ins(cache, &overlays)?) };
        Ok(Self { overlays, stand_ins })
    }
}

/// One script for each program of the packages.
fn write_stand_ins(cache: &Cache, overlays: &[PathBuf]) -> Result<PathBuf> {
    cache.entry(&format!("stand-ins-{}", digest(&overlays)), |draft| {
        for root in overlays {
            let programs = fs::read_dir(root.join("usr/bin")).into_iter().flatten().flatten();
            for program in programs {
                let path = draft.join(program.file_name());
                fs::write(&path, stand_in(overlays, &program.path()))
                    .map_err(Error::io("writing a script"))?;
                let permissions = fs::Permissions::from_mode(0o755);
                fs::set_permissions(&path, permissions).map_err(Error::io("writing a script"))?;
            }
        }
        Ok(())
    })
}

fn stand_in(overlays: &[PathBuf], program: &Path) -> String {
    let joined = |below: &str| {
        let paths: Vec<String> = overlays.iter().map(|root| root.join(below).display().to_string()).collect();
        paths.join(":")
    };
    let modules = format!("{LIBRARIES}/qemu");
    let modules = overlays.iter().map(|root| root.join(&modules)).find(|path| path.exists());
    let modules =
        modules.map(|path| format!("export QEMU_MODULE_DIR='{}'\n", path.display())).unwrap_or_default();
    let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let data = if name.starts_with("qemu-system") {
        let folders = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];
        let own = overlays
            .iter()
            .flat_map(|root| folders.map(|folder| root.join(folder)))
            .filter(|path| path.exists());
        let machine = folders.map(|folder| Path::new("/").join(folder));
        own.chain(machine).map(|path| format!(" -L '{}'", path.display())).collect()
    } else {
        String::new()
    };
    format!(
        "#!/bin/sh\n# {name} out of its unpacked package.\nexport LD_LIBRARY_PATH='{}'\n{modules}exec '{}'{data} \"$@\"\n",
        joined(LIBRARIES),
        program.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_points_qemu_to_its_own_files_first() {
        let folder = tempfile::tempdir().unwrap();
        for below in ["usr/lib/x86_64-linux-gnu/qemu", "usr/share/qemu"] {
            fs::create_dir_all(folder.path().join(below)).unwrap();
        }
        let root = folder.path().to_path_buf();
        let script = stand_in(std::slice::from_ref(&root), &root.join("usr/bin/qemu-system-x86_64"));
        let own = format!(" -L '{}/usr/share/qemu' -L '/usr/share/qemu'", root.display());
        assert!(script.contains(&own), "{script}");
        assert!(
            script.contains(&format!("QEMU_MODULE_DIR='{}/{LIBRARIES}/qemu'", root.display())),
            "{script}"
        );
        assert!(!stand_in(std::slice::from_ref(&root), &root.join("usr/bin/virsh")).contains(" -L "));
    }
}

//! The foreign programs that tests drive: QEMU, virsh, libvirtd, unmodified, in two generations.
//!
//! The distribution's own are taken as installed; what of them is not installed is unpacked. The newer ones come from
//! backports and are always unpacked. On a host with namespaces ([`crate::lab`]) what was unpacked is laid over `/usr`, so
//! each program lies where its package puts it, and so do its data files. Without namespaces a small script stands in
//! for each program and points it to its files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cache::{Cache, digest};
use crate::command::run;
use crate::packages::{Suite, unpack};
use crate::{Error, Result};

/// The QEMU that guests are started with.
pub const EMULATOR: &str = "qemu-system-x86_64";

/// The first QEMU whose emulated CPUs migrate without losing what they write; see [`Tools::emulator`].
const SOUND_QEMU: u32 = 9;

const QEMU: [&str; 2] = ["qemu-system-x86", "qemu-utils"];
const LIBVIRT: [&str; 3] = ["libvirt-clients", "libvirt-daemon", "libvirt-daemon-driver-qemu"];

/// What people and programs use besides virsh: libvirt's Python binding, and the tools written with it.
const CLIENTS: [&str; 2] = ["python3-libvirt", "virtinst"];

/// What plays a guest's TPM, and makes new ones.
const TPM: [&str; 2] = ["swtpm", "swtpm-tools"];

/// Where Debian puts libraries.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// One generation of the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// Unpacked packages to lay over `/usr`, topmost first. Empty when the machine's own are meant.
    pub overlays: Vec<PathBuf>,
    /// Those of them whose configuration is to be laid over `/etc` too.
    pub configured: Vec<PathBuf>,
    /// Scripts that stand in for the programs where nothing can be laid over `/usr`.
    stand_ins: Option<PathBuf>,
    odd_ram: Option<PathBuf>,
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

    /// Debian 12's own, and libvirt's Python binding, virt-install and virt-xml beside. Only hosts with namespaces have
    /// these in their places.
    ///
    /// # Errors
    /// What [`unpack`] gives.
    pub fn with_clients(cache: &Cache) -> Result<Self> {
        let mut tools = Self::distribution(cache)?;
        let unpacked = unpack(cache, &CLIENTS, Suite::Own)?;
        if !unpacked.packages.is_empty() {
            tools.overlays.push(unpacked.root);
        }
        Ok(tools)
    }

    /// These, and swtpm beside. Only hosts with namespaces have it in its place.
    ///
    /// # Errors
    /// What [`unpack`] gives.
    pub fn with_tpm(mut self, cache: &Cache) -> Result<Self> {
        let unpacked = unpack(cache, &TPM, Suite::Own)?;
        if !unpacked.packages.is_empty() {
            self.overlays.push(unpacked.root.clone());
            self.configured.push(unpacked.root);
        }
        Ok(self)
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

    /// The QEMU to name in a domain that is to be migrated, when it is not the plain one.
    ///
    /// QEMU before 9.0 loses track of pages that an *emulated* CPU writes during a migration: when it collects the dirty
    /// bits of a RAM block in words of 64 pages, it does not tell the CPU's TLB. Guests then wake up with stale pages, whoever
    /// manages the migration: two bare QEMUs 7.2 break a busy Linux guest in one migration of two. The word-wise path is taken
    /// for blocks that are a multiple of 64 pages, so for these QEMUs a script adds 8 KiB to the RAM, which takes the other
    /// path, and nothing is lost (60 migrations of 60). KVM is not concerned, and QEMU 10.0 passes without.
    pub fn emulator(&self) -> Option<&Path> {
        self.odd_ram.as_deref()
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
        let mut tools = Self { overlays, configured: Vec::new(), stand_ins, odd_ram: None };
        tools.odd_ram = odd_ram_for(cache, &tools.path(EMULATOR))?;
        Ok(tools)
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

/// What [`Tools::emulator`] would say of the QEMU at `plain`.
///
/// # Errors
/// [`Error::Command`] when it does not tell its version.
pub fn odd_ram_for(cache: &Cache, plain: &Path) -> Result<Option<PathBuf>> {
    let version = run(Command::new(plain).arg("--version"), Duration::from_secs(20))?.ok()?;
    let old = major(&version).is_some_and(|major| major < SOUND_QEMU);
    old.then(|| write_odd_ram(cache)).transpose()
}

/// `10` of `QEMU emulator version 10.0.2 (Debian …)`.
fn major(version: &str) -> Option<u32> {
    version.split_once("version ")?.1.split('.').next()?.parse().ok()
}

/// A script that starts the installed QEMU with 8 KiB more RAM than it is told.
fn write_odd_ram(cache: &Cache) -> Result<PathBuf> {
    let entry = cache.entry(&format!("odd-ram-{}", digest(&ODD_RAM)), |draft| {
        let path = draft.join(EMULATOR);
        fs::write(&path, ODD_RAM).map_err(Error::io("writing a script"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(Error::io("writing a script"))
    })?;
    Ok(entry.join(EMULATOR))
}

const ODD_RAM: &str = r#"#!/bin/sh
# QEMU with 8 KiB more RAM than it is told: see the documentation of Tools::emulator in the testkit.
option=
for word; do
    shift
    case "$option $word" in
        "-m size="*k*) # KiB
            head=size= rest=${word#size=} more=8 ;;
        "-m "[0-9]*) # MiB
            head=size= rest="$((word * 1024))k" more=8 ;;
        '-object {'*'"memory-backend-ram"'*'"size":'*) # bytes, JSON
            head="${word%%'"size":'*}\"size\":" rest=${word#*'"size":'} more=8192 ;;
        "-object memory-backend-ram,"*size=*) # bytes
            head="${word%%size=*}size=" rest=${word#*size=} more=8192 ;;
        *) more= ;;
    esac
    option=$word
    if [ "$more" ]; then
        number=${rest%%[!0-9]*}
        word="$head$((number + more))${rest#"$number"}"
    fi
    set -- "$@" "$word"
done
exec "${FERRY_TEST_QEMU:-/usr/bin/qemu-system-x86_64}" "$@"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_makes_ram_odd_and_leaves_the_rest_alone() {
        let folder = tempfile::tempdir().unwrap();
        let script = write_odd_ram(&Cache::at(folder.path()).unwrap()).unwrap();
        let words = [
            "-name",
            "a b",
            "-m",
            "size=262144k",
            "-m",
            "64",
            "-object",
            r#"{"qom-type":"memory-backend-ram","id":"pc.ram","size":268435456}"#,
            "-object",
            "memory-backend-ram,id=pc.ram,size=268435456,share=off",
            "-blockdev",
            r#"{"driver":"raw","size":4096}"#,
        ];
        let mut command = Command::new(script);
        command.args(["%s\n"]).args(words).env("FERRY_TEST_QEMU", "printf");
        let told = run(&mut command, Duration::from_secs(10)).unwrap().ok().unwrap();
        let mut expected = words;
        expected[3] = "size=262152k";
        expected[5] = "size=65544k";
        expected[7] = r#"{"qom-type":"memory-backend-ram","id":"pc.ram","size":268443648}"#;
        expected[9] = "memory-backend-ram,id=pc.ram,size=268443648,share=off";
        assert_eq!(told.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_version_is_read() {
        assert_eq!(major("QEMU emulator version 7.2.22 (Debian 1:7.2)"), Some(7));
        assert_eq!(major("QEMU emulator version 10.0.2"), Some(10));
        assert_eq!(major("something else"), None);
    }

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

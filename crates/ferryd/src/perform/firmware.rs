//! The host's firmware: the descriptors that the distribution and the operator installed, and the files in which guests
//! keep their firmware's variables.
//!
//! Read anew each time they are asked for, so that a firmware that is installed meanwhile is found.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ferry_domxml::Domain;
use ferry_qemu::firmware::{Descriptor, template};
use ferry_rpc::error::{Error, ErrorCode, Origin};

use super::discard;
use super::ownership::Account;
use crate::refuse;

/// Where descriptors are, the distribution's first; a file of the same name further down replaces it, and an empty one hides
/// it.
const FOLDERS: [&str; 2] = ["/usr/share/qemu/firmware", "/etc/qemu/firmware"];

/// Every usable descriptor, in the order of the files' names.
pub(crate) fn descriptors() -> Vec<Descriptor> {
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if let Ok(name) = entry.file_name().into_string()
                && name.ends_with(".json")
            {
                files.insert(name, entry.path());
            }
        }
    }
    files.values().filter_map(|path| read(path)).collect()
}

fn read(path: &Path) -> Option<Descriptor> {
    let text = fs::read_to_string(path).ok().filter(|text| !text.is_empty())?;
    match Descriptor::parse(&text) {
        Ok(descriptor) => Some(descriptor),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a firmware's description is not understood");
            None
        }
    }
}

/// Where the guest's variables will be made, when they are not there yet.
pub(crate) fn new_variables(domain: &Domain) -> Option<PathBuf> {
    let path = Path::new(domain.os.nvram.as_ref().and_then(|nvram| nvram.path.as_deref())?);
    if let Err(error) = discard::put_back(path) {
        tracing::warn!(path = %path.display(), %error, "cannot put back what a former daemon set aside");
    }
    (domain.os.has_variables() && !path.exists()).then(|| path.to_owned())
}

/// Removes the variables of a guest that has not come to be.
pub(crate) fn forget_variables(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove the variables of a guest that failed");
        }
        _ => {}
    }
}

/// Sees to it that the guest's variables are there: a new guest's are copied from the template.
pub(crate) fn variables(domain: &Domain, account: &Account) -> Result<(), Error> {
    let path = domain.os.nvram.as_ref().and_then(|nvram| nvram.path.as_deref());
    let Some(path) = path.map(Path::new).filter(|_| domain.os.has_variables()) else { return Ok(()) };
    if !path.exists() {
        let descriptors = descriptors();
        let Some(template) = template(domain, &descriptors) else {
            let loader =
                domain.os.loader.as_ref().and_then(|loader| loader.path.as_deref()).unwrap_or_default();
            let text = format!("unable to find any master var store for loader: {loader}");
            return Err(Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, text));
        };
        copy(Path::new(template), path).map_err(|error| {
            refuse::system(&format!("cannot copy '{template}' to '{}'", path.display()), &error)
        })?;
    }
    account.own(path).map_err(|error| refuse::system(&format!("cannot own '{}'", path.display()), &error))
}

/// The copy has its name when it is whole and on the disk, and not before: half a store is none.
fn copy(template: &Path, path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let made = File::create(&new).and_then(|mut file| {
        io::copy(&mut File::open(template)?, &mut file)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        super::sync_folder_of(path)
    });
    if made.is_err() {
        let _ = fs::remove_file(&new);
    }
    made
}

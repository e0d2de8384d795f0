//! Values of secrets on their way to QEMU: encrypted with a key that only QEMU and this daemon can read.
//!
//! The key lies in a file of the guest's run folder, made when its first secret is needed, owned by QEMU's account. Used by
//! [`super::launch`] and by whoever plugs in a disk.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use aes::Aes256;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockEncryptMut as _, KeyIvInit as _};
use ferry_domxml::disk::Disk;
use ferry_qemu::blockgraph::{self, NeededSecret, SecretSource};
use ferry_qemu::command_line::SealedSecret;
use ferry_rpc::error::Error;

use super::ownership::Account;
use super::rundir::RunDir;
use crate::host::Host;
use crate::secrets::Which;

const KEY_BYTES: usize = 32;
const IV_BYTES: usize = 16;

/// A value that a disk refers to.
pub(crate) struct Value {
    /// The object's name in QEMU.
    pub(crate) object: String,
    value: Vec<u8>,
}

/// The values that disks refer to. Node numbers must have been given out. May block: for a thread that can.
///
/// # Errors
/// A secret is not defined here, has no value, or is for something else.
pub(crate) fn values(host: &Host, disks: &[Disk]) -> Result<Vec<Value>, Error> {
    let mut found = Vec::new();
    for NeededSecret { object, source } in disks.iter().flat_map(blockgraph::needed) {
        let value = match source {
            SecretSource::Value(value) => value.into_bytes(),
            SecretSource::Defined { usage, uuid, usage_id } => {
                let which = uuid.map_or(Which::Usage(usage, usage_id), Which::Uuid);
                host.secrets.value_for_guest(&which, usage)?.0
            }
        };
        found.push(Value { object, value });
    }
    Ok(found)
}

/// The key of one guest.
pub(crate) struct MasterKey {
    bytes: [u8; KEY_BYTES],
    /// The file that QEMU reads it from.
    pub(crate) path: PathBuf,
    /// It was made just now, and QEMU does not have it yet.
    pub(crate) is_new: bool,
}

impl MasterKey {
    /// The key of the guest with this run folder.
    ///
    /// # Errors
    /// It can neither be read nor made.
    pub(crate) fn of(run_dir: &RunDir, account: &Account) -> io::Result<Self> {
        let path = run_dir.path().join("master-key.aes");
        match fs::read(&path) {
            Ok(bytes) => {
                let bytes = bytes.try_into().map_err(|_| io::Error::other("the key's file is damaged"))?;
                return Ok(Self { bytes, path, is_new: false });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let bytes = random()?;
        let made =
            File::options().write(true).create_new(true).mode(0o600).open(&path).and_then(|mut file| {
                file.write_all(&bytes)?;
                account.own(&path)
            });
        match made {
            Ok(()) => Ok(Self { bytes, path, is_new: true }),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Encrypts a value, each time differently.
    ///
    /// # Errors
    /// The host has no random numbers.
    pub(crate) fn seal(&self, value: &Value) -> io::Result<SealedSecret> {
        let iv: [u8; IV_BYTES] = random()?;
        let cipher = cbc::Encryptor::<Aes256>::new(&self.bytes.into(), &iv.into());
        let data = cipher.encrypt_padded_vec_mut::<Pkcs7>(&value.value);
        Ok(SealedSecret { data: BASE64_STANDARD.encode(data), iv: BASE64_STANDARD.encode(iv) })
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cbc::cipher::BlockDecryptMut as _;

    #[test]
    fn what_is_sealed_can_be_read_with_the_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let run_dir = RunDir::existing(folder.path().to_owned());
        let account = Account { uid: None, gid: None };
        let key = MasterKey::of(&run_dir, &account).unwrap();
        assert!(key.is_new);
        let value = Value { object: "a".to_owned(), value: b"open sesame".to_vec() };
        let (one, two) = (key.seal(&value).unwrap(), key.seal(&value).unwrap());
        assert_ne!(one, two, "each time with a vector of its own");
        let again = MasterKey::of(&run_dir, &account).unwrap();
        assert!(!again.is_new);
        let iv: [u8; IV_BYTES] = BASE64_STANDARD.decode(one.iv).unwrap().try_into().unwrap();
        let data = BASE64_STANDARD.decode(one.data).unwrap();
        let cipher = cbc::Decryptor::<Aes256>::new(&again.bytes.into(), &iv.into());
        assert_eq!(cipher.decrypt_padded_vec_mut::<Pkcs7>(&data).unwrap(), value.value);
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(fs::metadata(&key.path).unwrap().mode() & 0o777, 0o600);
    }
}

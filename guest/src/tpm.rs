//! A few commands of the TPM 2.0 library specification (part 3), spoken to the kernel's device: enough to put something
//! into the guest's TPM and to see whether it is still there.
//!
//! A platform configuration register is lost when the machine is reset, an NV index never: the one shows that a TPM's
//! running state was carried, the other that what it keeps was.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};

const DEVICE: &str = "/dev/tpm0";

/// The register that the PC Client specification leaves to debugging.
const REGISTER: u32 = 16;
/// An index in the range that the owner gives out.
const INDEX: u32 = 0x0150_0010;
/// What is kept in the index, bytes.
const KEPT: u16 = 32;

const SHA256: u16 = 0x000b;
const OWNER: u32 = 0x4000_0001;
/// A session of no password, in the form in which it stands in a command: handle, nonce, attributes, no bytes of HMAC.
const NO_PASSWORD: [u8; 9] = [0x40, 0, 0, 9, 0, 0, 0, 0, 0];

const PCR_EXTEND: u32 = 0x182;
const PCR_READ: u32 = 0x17e;
const NV_DEFINE_SPACE: u32 = 0x12a;
const NV_WRITE: u32 = 0x137;
const NV_READ: u32 = 0x14e;

/// The owner and whoever knows the index's (empty) password may write and read, and wrong guesses do not count.
const ATTRIBUTES: u32 = 0x0206_0006;
/// What is defined is there already.
const NV_DEFINED: u32 = 0x14c;

/// Extends the register by a digest of 32 times `byte`, and gives its new value in hexadecimal digits.
pub(crate) fn extend(byte: u8) -> io::Result<String> {
    let mut body = REGISTER.to_be_bytes().to_vec();
    body.extend(9_u32.to_be_bytes());
    body.extend(NO_PASSWORD);
    body.extend(1_u32.to_be_bytes());
    body.extend(SHA256.to_be_bytes());
    body.extend([byte; 32]);
    done(ask(true, PCR_EXTEND, &body)?)?;
    register()
}

/// The register's value in hexadecimal digits.
pub(crate) fn register() -> io::Result<String> {
    let mut body = 1_u32.to_be_bytes().to_vec();
    body.extend(SHA256.to_be_bytes());
    body.extend([3, 0, 0, 1]);
    let answer = done(ask(false, PCR_READ, &body)?)?;
    // A counter, the selection over again, one digest with its length.
    let digest = answer.get(20..52).ok_or(io::ErrorKind::InvalidData)?;
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Keeps a word for good, at most 32 bytes.
pub(crate) fn keep(word: &str) -> io::Result<()> {
    let mut data = word.as_bytes().to_vec();
    data.resize(KEPT.into(), 0);

    let mut define = OWNER.to_be_bytes().to_vec();
    define.extend(9_u32.to_be_bytes());
    define.extend(NO_PASSWORD);
    define.extend(0_u16.to_be_bytes());
    define.extend(14_u16.to_be_bytes());
    define.extend(INDEX.to_be_bytes());
    define.extend(SHA256.to_be_bytes());
    define.extend(ATTRIBUTES.to_be_bytes());
    define.extend(0_u16.to_be_bytes());
    define.extend(KEPT.to_be_bytes());
    match ask(true, NV_DEFINE_SPACE, &define)? {
        (NV_DEFINED, _) => {}
        answer => drop(done(answer)?),
    }

    let mut write = [OWNER.to_be_bytes(), INDEX.to_be_bytes(), 9_u32.to_be_bytes()].concat();
    write.extend(NO_PASSWORD);
    write.extend(KEPT.to_be_bytes());
    write.extend(data);
    write.extend(0_u16.to_be_bytes());
    done(ask(true, NV_WRITE, &write)?).map(drop)
}

/// The word that is kept.
pub(crate) fn kept() -> io::Result<String> {
    let mut read = [OWNER.to_be_bytes(), INDEX.to_be_bytes(), 9_u32.to_be_bytes()].concat();
    read.extend(NO_PASSWORD);
    read.extend(KEPT.to_be_bytes());
    read.extend(0_u16.to_be_bytes());
    let answer = done(ask(true, NV_READ, &read)?)?;
    // How long the parameters are, and how long the data.
    let data = answer.get(6..6 + usize::from(KEPT)).ok_or(io::ErrorKind::InvalidData)?;
    let word = data.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(word).into_owned())
}

/// Puts a command to the TPM: its response code, and what stands behind it.
fn ask(with_session: bool, code: u32, body: &[u8]) -> io::Result<(u32, Vec<u8>)> {
    let mut device: File = OpenOptions::new().read(true).write(true).open(DEVICE)?;
    device.write_all(&command(with_session, code, body))?;
    let mut answer = vec![0; 4096];
    let length = device.read(&mut answer)?;
    answer.truncate(length);
    parse(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn command(with_session: bool, code: u32, body: &[u8]) -> Vec<u8> {
    let tag: u16 = if with_session { 0x8002 } else { 0x8001 };
    let mut bytes = tag.to_be_bytes().to_vec();
    bytes.extend((10 + body.len() as u32).to_be_bytes());
    bytes.extend(code.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn parse(answer: &[u8]) -> Option<(u32, Vec<u8>)> {
    let code = answer.get(6..10)?.try_into().ok()?;
    Some((u32::from_be_bytes(code), answer[10..].to_vec()))
}

fn done((code, rest): (u32, Vec<u8>)) -> io::Result<Vec<u8>> {
    if code == 0 { Ok(rest) } else { Err(io::Error::other(format!("TPM error {code:#x}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_its_length_and_an_answer_its_code() {
        let bytes = command(false, PCR_READ, &[1, 2]);
        assert_eq!(bytes, [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7e, 1, 2]);
        assert_eq!(parse(&[0x80, 1, 0, 0, 0, 11, 0, 0, 1, 0x4c, 9]), Some((NV_DEFINED, vec![9])));
        assert_eq!(parse(&[0x80, 1]), None);
        assert!(done((0x101, Vec::new())).unwrap_err().to_string().contains("0x101"));
    }
}

//! An initial ramdisk: a cpio archive in the "newc" format, as the kernel's own documentation describes it
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Each entry is a header of `070701` and thirteen numbers of eight hexadecimal digits, the name with its zero byte, and
//! the data; name and data are filled up to a multiple of four.

/// Type bits of a mode, and the modes in use.
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive in the making.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory. Its parents must be there.
    pub fn directory(mut self, name: &str) -> Self {
        self.entry(name, DIRECTORY, (0, 0), &[]);
        self
    }

    /// Adds a file with `permissions` such as `0o755`.
    pub fn file(mut self, name: &str, permissions: u32, data: &[u8]) -> Self {
        self.entry(name, REGULAR | permissions, (0, 0), data);
        self
    }

    /// Adds a character device.
    pub fn character_device(mut self, name: &str, major: u32, minor: u32) -> Self {
        self.entry(name, CHARACTER_DEVICE, (major, minor), &[]);
        self
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.entries += 1;
        let (inode, links, owner, time, file_device, check) = (self.entries, 1, 0, 0, 0, 0);
        let numbers = [
            inode,
            mode,
            owner,
            owner,
            links,
            time,
            data.len() as u32,
            file_device,
            file_device,
            device.0,
            device.1,
            name.len() as u32 + 1,
            check,
        ];
        self.bytes.extend(b"070701");
        for number in numbers {
            self.bytes.extend(format!("{number:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_documented_layout() {
        let bytes = Archive::new().file("init", 0o755, b"hello").finish();
        let header = b"070701000000010000\
                       81ed0000000000000000000000010000000000000005000000000000000000000000000000000000000500000000";
        assert_eq!(&bytes[..110], &header[..110]);
        // 110 + "init\0" = 115, filled up to 116.
        assert_eq!(&bytes[110..116], b"init\0\0");
        assert_eq!(&bytes[116..124], b"hello\0\0\0");
        assert_eq!(&bytes[124 + 110..124 + 121], b"TRAILER!!!\0");
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn a_device_carries_its_numbers() {
        let bytes = Archive::new().character_device("dev/console", 5, 1).finish();
        assert_eq!(&bytes[14..22], b"00002180");
        assert_eq!(&bytes[78..94], b"0000000500000001");
    }
}

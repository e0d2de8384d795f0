//! The guest of the demonstration: its domain XML. Pure.

use std::path::Path;

/// Its name on both hosts.
pub(crate) const NAME: &str = "ferry-demo";

/// Beats each second.
pub(crate) const BEATS_PER_S: u32 = 200;

/// Memory that it dirties and verifies, MiB, and how fast, MiB/s.
const MEMORY: (u32, u32) = (64, 16);

/// Disk that it writes and verifies, MiB, and how fast, MiB/s.
const DISK: (u32, u32) = (16, 2);

/// Size of the disk image, bytes. It is sparse.
pub(crate) const DISK_SIZE: u64 = 64 << 20;

/// What the domain is made of.
pub(crate) struct Parts<'a> {
    /// The kernel.
    pub(crate) kernel: &'a Path,
    /// The initial ramdisk with the test guest's init.
    pub(crate) initrd: &'a Path,
    /// QEMU.
    pub(crate) emulator: &'a Path,
    /// The raw disk image.
    pub(crate) disk: &'a Path,
    /// What the serial port says is appended here.
    pub(crate) log: &'a Path,
}

/// The XML, as an operator would write it. The guest is emulated: that works on any machine.
pub(crate) fn xml(parts: &Parts<'_>) -> String {
    let path = |path: &Path| escape(&path.to_string_lossy());
    format!(
        "<domain type='qemu'>
  <name>{NAME}</name>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>{cmdline}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <clock offset='utc'/>
  <devices>
    <emulator>{emulator}</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <serial type='pty'>
      <log file='{log}' append='on'/>
      <target port='0'/>
    </serial>
    <memballoon model='virtio'/>
  </devices>
</domain>
",
        kernel = path(parts.kernel),
        initrd = path(parts.initrd),
        cmdline = command_line(),
        emulator = path(parts.emulator),
        disk = path(parts.disk),
        log = path(parts.log),
    )
}

/// Quiet, on the serial port, and with the work that the guest is to do; its own documentation has the words.
fn command_line() -> String {
    let ((memory, memory_rate), (disk, disk_rate)) = (MEMORY, DISK);
    format!(
        "console=ttyS0 quiet loglevel=1 panic=-1 tsc=reliable no_timer_check ferry.beat_us={} ferry.mem={memory} \
         ferry.rate={memory_rate} ferry.disk={disk} ferry.disk_rate={disk_rate}",
        1_000_000 / BEATS_PER_S
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped() {
        let odd = Path::new("/a<b/'c'&d");
        let parts = Parts { kernel: odd, initrd: odd, emulator: odd, disk: odd, log: odd };
        let xml = xml(&parts);
        assert_eq!(xml.matches("/a&lt;b/&apos;c&apos;&amp;d").count(), 5, "{xml}");
        assert!(xml.contains("ferry.beat_us=5000 "), "{xml}");
    }
}

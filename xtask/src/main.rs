//! Chores that are not worth a shell script: `cargo run -p xtask -- prepare demo|test`.
//!
//! `./dev` calls it. It makes what cannot be built by cargo alone (the guest's ramdisk, unpacked packages), and prints shell
//! assignments that tell where it is.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use ferry_testkit::Result;
use ferry_testkit::cache::Cache;
use ferry_testkit::guest::LinuxImage;
use ferry_testkit::tools::{EMULATOR, Tools, odd_ram_for};
use ferry_testkit::uml::Uml;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["prepare", "demo"] => prepare(false),
        ["prepare", "test"] => prepare(true),
        _ => {
            eprintln!("usage: xtask prepare demo|test");
            return ExitCode::from(2);
        }
    };
    match done.and_then(|assignments| {
        std::io::stdout()
            .write_all(assignments.as_bytes())
            .map_err(ferry_testkit::Error::io("standard output"))
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The guest for the demo; for the tests all generations of the foreign programs too.
fn prepare(tests: bool) -> Result<String> {
    let cache = Cache::open()?;
    let guest = LinuxImage::ready(&cache)?;
    if tests {
        Tools::with_clients(&cache)?.with_tpm(&cache)?;
        Tools::newer(&cache)?;
        Uml::ready(&cache)?;
    }
    let plain = Path::new("/usr/bin").join(EMULATOR);
    let emulator = odd_ram_for(&cache, &plain)?.unwrap_or(plain);
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "'\\''"));
    Ok(format!(
        "FERRY_GUEST_KERNEL={}\nFERRY_GUEST_INITRD={}\nFERRY_GUEST_EMULATOR={}\n",
        quoted(&guest.kernel),
        quoted(&guest.initrd),
        quoted(&emulator)
    ))
}

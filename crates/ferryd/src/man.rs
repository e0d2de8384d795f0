//! The manual page, ferryd(8), made from the same definition as the help.
//!
//! Called when packages are built (`ferryd --man DIR`). It adds what `--help` has no room for: files, signals, and where
//! to read on.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::Cli;

/// What the daemon reads and makes, of a host without `--root`.
const FILES: [(&str, &str); 5] = [
    (
        "/etc/ferry/ferryd.toml",
        "the configuration; an example with every key and its default comes with Ferry",
    ),
    ("/var/lib/ferry", "definitions, the journal of migrations and their history, the guests' own variables"),
    ("/var/log/ferry", "what each guest's QEMU says"),
    ("/run/ferry/sock", "the socket for clients; sock-ro beside it is for those who may only look"),
    ("/run/ferry/channel", "a folder for each guest that runs: its monitor and its channels"),
];

/// Writes `ferryd.8` into `dir`, which is made when it is not there.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut page = Vec::new();
    Man::new(Cli::command()).section("8").render(&mut page)?;
    rest().to_writer(&mut page)?;
    fs::write(dir.join("ferryd.8"), page)
}

fn rest() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["FILES"]);
    for (path, what) in FILES {
        roff.control("TP", []).text([bold(path)]).text([roman(what)]);
    }
    roff.control("SH", ["SIGNALS"]).control("TP", []).text([bold("SIGTERM, SIGINT")]).text([roman(
        "The daemon stops. Guests go on without it, and it finds them again at its next start; a migration under way \
         peer to peer goes on too.",
    )]);
    roff.control("SH", ["SEE ALSO"]).text([roman("ferry(1), virsh(1)")]);
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_option_and_what_help_has_no_room_for() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("man")).unwrap();
        let page = fs::read_to_string(folder.path().join("man/ferryd.8")).unwrap().replace("\\-", "-");
        for option in Cli::command().get_arguments().filter(|option| !option.is_hide_set()) {
            let long = option.get_long().unwrap();
            assert!(page.contains(&format!("--{long}")), "{long}: {page}");
        }
        for heading in ["EXAMPLES", "FILES", "SIGNALS", "SEE ALSO"] {
            assert!(page.contains(heading), "{heading}: {page}");
        }
    }
}

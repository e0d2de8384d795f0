//! The manual pages, made from the same definition as the help.
//!
//! Called when packages are built (`ferry man DIR`).

use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::failure::Failure;

/// Writes a page for the tool and one for each command into `dir`.
pub(crate) fn write(dir: &Path) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| {
        Failure::refused(format!("cannot write manual pages to '{}'", dir.display()), error.to_string())
    };
    std::fs::create_dir_all(dir).map_err(cannot)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_that_is_shown_has_a_page_with_its_examples() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let page = folder.path().join(format!("ferry-{}.1", command.get_name()));
            let text = std::fs::read_to_string(&page).unwrap();
            assert!(text.contains("EXAMPLES"), "{page:?}");
        }
        assert!(folder.path().join("ferry.1").exists());
    }
}

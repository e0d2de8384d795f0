//! `ferry demo`.
use crate::cli::Demo;
use crate::failure::Failure;
pub(crate) async fn demo(_options: Demo) -> Result<(), Failure> {
    Err(Failure::refused("cannot show a migration", "this build has no demonstration"))
}

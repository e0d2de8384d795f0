//! The operator's tool.
//!
//! `cli` says what can be asked; one module for each command does it over a `ferry_client::Connection`; `failure` is
//! what the operator is told when it does not work. The tool keeps no state of its own: all it knows, it asks the hosts.

mod cli;
mod demo;
mod failure;
mod guests;
mod history;
mod host;
mod interrupt;
mod man;
mod migrate;
mod place;
mod plan;
mod resolve;
mod stop;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};
use failure::{Exit, Failure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("cannot start: {error}"));
            return Exit::Refused.into();
        }
    };
    let result = runtime.block_on(run(cli));
    // A read of standard input that nobody waits for any more does not hold the end up.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            failure.exit.into()
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let source = || place::source(cli.connect.as_deref()).map_err(|error| no_host(&error));
    match cli.command {
        Command::List { all } => guests::list(&source()?, all).await,
        Command::Define { file } => guests::define(&source()?, &file).await,
        Command::Start { guest } => guests::start(&source()?, &guest).await,
        Command::Stop { guest, now, timeout } => {
            let how = if now { stop::How::Now } else { stop::How::Ask(timeout) };
            stop::stop(&source()?, &guest, how).await
        }
        Command::Migrate(options) => migrate::migrate(source()?, &options).await,
        Command::Plan(options) => plan::plan(&source()?, &options).await,
        Command::History(options) => history::history(&source()?, &options).await,
        Command::Resolve(options) => resolve::resolve(&source()?, &options).await,
        Command::Demo(options) => demo::demo(options).await,
        Command::Man { dir } => man::write(&dir),
    }
}

fn no_host(error: &place::PlaceError) -> Failure {
    Failure::refused("cannot tell the host", error.to_string())
        .next("name one with -c URI|DIR or FERRY_URI; `ferry --help` shows the forms")
}

/// A line for the operator. When nobody listens any more there is nobody to tell.
fn say(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A line about something that did not work.
fn complain(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "ferry: {text}");
}

//! `ferry resolve`: the operator says where a guest is, when no program can know.
//!
//! What may be said, and what follows from it, is the host's to decide; here the question is put so that nobody answers
//! it by accident.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use ferry_client::Uri;
use ferry_rpc::proto::Resolve;

use crate::cli::{self, GuestIs};
use crate::failure::Failure;
use crate::guests::close;
use crate::host::{self, Standing};
use crate::say;

/// Settles a doubt by the operator's word.
pub(crate) async fn resolve(uri: &Uri, options: &cli::Resolve) -> Result<(), Failure> {
    let connection = host::open(uri).await?;
    let domain = host::find(&connection, &options.guest).await?;
    let cannot = || format!("cannot settle '{}'", domain.name);
    if !options.yes {
        let standing = Standing::ask(&connection, &domain).await;
        let standing = standing.map_err(|error| Failure::failed(cannot(), error))?;
        let stands = standing.map_or_else(|| "unknown".to_owned(), |standing| standing.to_string());
        ask(&question(&domain.name, &stands, options.guest_is))
            .map_err(|why| Failure::refused(cannot(), why))?;
    }
    let call = Resolve { domain: domain.clone(), guest_is_here: options.guest_is == GuestIs::Here };
    connection.call(&call).await.map_err(|error| Failure::failed(cannot(), error))?;
    match Standing::ask(&connection, &domain).await {
        Ok(Some(standing)) => say(format_args!("'{}' is {standing} here", domain.name)),
        // It was not defined here, and has gone with its QEMU.
        Ok(None) => say(format_args!("'{}' is not on this host any more", domain.name)),
        Err(error) => return Err(Failure::failed(format!("cannot see how '{}' stands", domain.name), error)),
    }
    close(connection).await;
    Ok(())
}

/// What is asked before it is done.
fn question(name: &str, stands: &str, guest_is: GuestIs) -> String {
    let meaning = match guest_is {
        GuestIs::Here => {
            "You say that it is HERE. It goes on here at once. If it runs on the other host too, there are two of it, and \
             both write to its disks."
        }
        GuestIs::There => {
            "You say that it is on the OTHER host. What this host holds of it is ended. If the other host never started \
             it, what it had in memory is lost."
        }
    };
    format!("'{name}' is {stands} on this host.\n{meaning}\nIs that so? Type yes: ")
}

/// Puts the question to whoever sits at the terminal; says why it was not answered with yes.
fn ask(question: &str) -> Result<(), &'static str> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err("nobody is there to be asked; say --yes if you know where it is");
    }
    let mut output = std::io::stderr();
    let put = output.write_all(question.as_bytes()).and_then(|()| output.flush());
    let mut answer = String::new();
    match put.and_then(|()| input.lock().read_line(&mut answer)) {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        Ok(_) => Err("the answer was not yes; nothing was changed"),
        Err(_) => Err("the question could not be put; say --yes if you know where it is"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_says_what_the_answer_risks() {
        let here = question("vm", "paused (in doubt: no word)", GuestIs::Here);
        assert!(here.starts_with("'vm' is paused (in doubt: no word) on this host."), "{here}");
        assert!(here.contains("there are two of it"), "{here}");
        assert!(question("vm", "paused", GuestIs::There).contains("in memory is lost"));
    }
}

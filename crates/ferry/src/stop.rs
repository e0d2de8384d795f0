//! `ferry stop`: presses the power button and waits for the end; or pulls the plug.

use std::time::Duration;

use ferry_client::{CallError, Connection, Missed, Uri};
use ferry_rpc::ErrorCode;
use ferry_rpc::flags::{DestroyFlags, ShutdownFlags};
use ferry_rpc::proto::DomainRef;
use ferry_rpc::values::EventId;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::guests::close;
use crate::host::{self, Standing};
use crate::say;

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// At once.
    Now,
    /// By the power button, with this long to wait for the end.
    Ask(Duration),
}

/// Stops a guest.
pub(crate) async fn stop(uri: &Uri, guest: &str, how: How) -> Result<(), Failure> {
    let connection = host::open(uri).await?;
    let domain = host::find(&connection, guest).await?;
    let cannot = |error| Failure::failed(format!("cannot stop '{}'", domain.name), error);
    match how {
        How::Now => connection.destroy(&domain, DestroyFlags::NONE).await.map_err(cannot)?,
        How::Ask(limit) => match timeout(limit, shut_down(&connection, &domain)).await {
            Ok(result) => result.map_err(cannot)?,
            Err(_) => return Err(not_ended(&domain, limit)),
        },
    }
    say(format_args!("'{}' has ended", domain.name));
    close(connection).await;
    Ok(())
}

/// Asks the guest to shut down, and comes back when it has ended.
async fn shut_down(connection: &Connection, domain: &DomainRef) -> Result<(), CallError> {
    // Before the button is pressed, so that no event is missed.
    let mut events = connection.subscribe();
    connection.register_event(EventId::LIFECYCLE, Some(domain)).await?;
    connection.shutdown(domain, ShutdownFlags::NONE).await?;
    loop {
        match Standing::ask(connection, domain).await {
            Ok(Some(standing)) if standing.is_active() => {}
            Ok(Some(_) | None) => return Ok(()),
            Err(error) => return Err(error),
        }
        match events.next().await {
            Ok(_) | Err(Missed::Overflow(_)) => {}
            Err(Missed::Lost(lost)) => return Err(lost.into()),
        }
    }
}

fn not_ended(domain: &DomainRef, limit: Duration) -> Failure {
    let text = format!("it has not ended within {} s", limit.as_secs());
    let error = ferry_rpc::Error::of(ErrorCode::OPERATION_TIMEOUT, ferry_rpc::Origin::NONE, text);
    Failure::failed(format!("cannot stop '{}'", domain.name), error)
        .guest("was asked to shut down, and may still be at it")
        .next(format!(
            "give it more time with --timeout, or end it with `ferry stop {} --now`: it then loses what it has not \
             written",
            domain.name
        ))
}

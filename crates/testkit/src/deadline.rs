//! Waiting on a condition, with a deadline. The only place of the crate that lets time pass.

use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// The shortest and the longest pause between two looks at a condition.
const PAUSE_MIN: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Looks at `condition` until it gives something.
///
/// # Errors
/// [`Error::Late`] with `what` when `limit` has passed; the condition is looked at once more before that.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let began = Instant::now();
    let deadline = began + limit;
    loop {
        let last_look = Instant::now() >= deadline;
        if let Some(found) = condition() {
            return Ok(found);
        }
        if last_look {
            return Err(Error::Late { what: what.to_owned(), limit, detail: String::new() });
        }
        // Late by a thirty-second part of the wait at most: what is measured with this is not made of its pauses.
        thread::sleep((began.elapsed() / 32).clamp(PAUSE_MIN, PAUSE_MAX));
    }
}

/// As [`wait_for`], for a condition that is true or not.
///
/// # Errors
/// [`Error::Late`] with `what` when `limit` has passed.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, limit, || condition().then_some(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_is_found_and_one_that_does_not_is_named() {
        let mut looks = 0;
        let found = wait_for("three looks", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found.unwrap(), 3);
        let error = wait_until("the moon", Duration::ZERO, || false).unwrap_err();
        assert!(error.to_string().contains("the moon"), "{error}");
    }
}

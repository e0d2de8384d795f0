//! Points of a migration at which a test can hold this daemon, to kill somebody or cut a cable exactly there.
//!
//! Called by the hands of a migration (`driver/migrate`), by one line at each point: before and after every record of
//! the journal, and where no record is near. Without the feature `fault-points` that line is nothing at all.
//!
//! The environment's `FERRYD_FAULT_POINTS` names a folder. A test arms a point by a file of its name in there; a
//! migration that comes to it renames the file to `NAME.reached` and waits until that is gone. So a point holds once
//! for each time that it was armed, and the daemon's other tasks go on meanwhile.

/// `fault::point!("before-{}", kind)`: holds here if a test wants it.
#[cfg(not(feature = "fault-points"))]
macro_rules! point {
    ($($name:tt)+) => {};
}

/// `fault::point!("before-{}", kind)`: holds here if a test wants it.
#[cfg(feature = "fault-points")]
macro_rules! point {
    ($($name:tt)+) => {
        $crate::fault::reach(&format!($($name)+)).await
    };
}

pub(crate) use point;

/// Holds the calling task at an armed point.
#[cfg(feature = "fault-points")]
pub(crate) async fn reach(name: &str) {
    use std::time::Duration;

    /// Between two looks whether the test lets go.
    const PAUSE: Duration = Duration::from_millis(2);

    let Some(folder) = std::env::var_os("FERRYD_FAULT_POINTS").map(std::path::PathBuf::from) else { return };
    let reached = folder.join(format!("{name}.reached"));
    if std::fs::rename(folder.join(name), &reached).is_err() {
        return;
    }
    tracing::warn!(name, "held at a fault point");
    while reached.exists() {
        tokio::time::sleep(PAUSE).await;
    }
}

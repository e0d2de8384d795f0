//! Effects on the world: processes, monitors, images, interfaces. Called by drivers, `probe` and `restart`.

pub(crate) mod activate;
pub(crate) mod agent;
pub(crate) mod firmware;
pub(crate) mod hook;
pub(crate) mod images;
pub(crate) mod launch;
pub(crate) mod memory;
pub(crate) mod monitor;
pub(crate) mod network;
pub(crate) mod ownership;
pub(crate) mod rundir;
pub(crate) mod seal;
pub(crate) mod settings;
pub(crate) mod storage;
pub(crate) mod throttle;
pub(crate) mod virtiofs;
pub(crate) mod vnc;
pub(crate) mod words;

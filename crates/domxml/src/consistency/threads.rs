//! Threads for disks: how many, and which disk has which.

use super::{contradiction, repeated, unsupported, zero};
use crate::{DiskIoThreads, Domain, ParseError};

/// More threads than any host has processors.
const IOTHREADS_MAX: u32 = 4096;

pub(super) fn check(domain: &Domain) -> Result<(), ParseError> {
    if let Some(count) = domain.iothreads.filter(|count| *count > IOTHREADS_MAX) {
        return contradiction(format!("invalid iothreads count '{count}'"));
    }
    let listed = || domain.iothread_ids.iter().flat_map(|ids| &ids.threads);
    if listed().any(|thread| thread.id == 0) {
        return Err(zero("id", "iothread"));
    }
    if let Some(id) = repeated(listed().map(|thread| thread.id)) {
        return contradiction(format!("duplicate iothread id '{id}' found"));
    }
    let pools = listed().map(|thread| (thread.pool_min, thread.pool_max));
    let main_loop = domain.default_iothread.iter().map(|main_loop| (main_loop.pool_min, main_loop.pool_max));
    if pools.chain(main_loop).any(|(min, max)| min.zip(max).is_some_and(|(min, max)| min > max)) {
        return contradiction("thread_pool_min must not be greater than thread_pool_max");
    }
    for disk in &domain.devices.disks {
        let Some(driver) = &disk.driver else { continue };
        if driver.iothread == Some(0) {
            return Err(zero("iothread", "driver"));
        }
        if let Some(mapping) = &driver.iothreads {
            self::mapping(mapping, &disk.target.dev, driver.queues)?;
        }
    }
    Ok(())
}

/// Either no thread names queues, or every queue has one thread.
fn mapping(mapping: &DiskIoThreads, dev: &str, queues: Option<u32>) -> Result<(), ParseError> {
    let threads = &mapping.threads;
    if threads.is_empty() {
        return unsupported(format!("disk '{dev}' has an empty iothread mapping"));
    }
    if let Some(id) = repeated(threads.iter().map(|thread| thread.id)) {
        return contradiction(format!("iothread '{id}' is used twice by disk '{dev}'"));
    }
    let named: Vec<u32> = threads.iter().flat_map(|thread| thread.queues.iter().copied()).collect();
    if named.is_empty() {
        return Ok(());
    }
    let Some(queues) = queues else {
        return unsupported(format!("disk '{dev}' names queues of iothreads and not how many queues it has"));
    };
    if let Some(queue) = repeated(named.iter().copied()) {
        return contradiction(format!("queue '{queue}' of disk '{dev}' has two iothreads"));
    }
    if let Some(queue) = named.iter().find(|queue| **queue >= queues) {
        return contradiction(format!("queue '{queue}' is not one of the {queues} queues of disk '{dev}'"));
    }
    let is_covered = named.len() == queues as usize && threads.iter().all(|thread| !thread.queues.is_empty());
    match is_covered {
        true => Ok(()),
        false => unsupported(format!("the iothread mapping of disk '{dev}' does not cover every queue")),
    }
}

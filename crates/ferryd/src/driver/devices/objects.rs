//! Objects that a disk's nodes refer to and that must be there before them: the values of secrets.

use std::sync::Arc;

use ferry_domxml::Disk;
use ferry_qemu::blockgraph;
use ferry_qemu::command_line::master_key_object;
use ferry_qemu::props::Props;
use ferry_qmp::commands::device::{ObjectAdd, ObjectDel};
use ferry_rpc::error::Error;

use super::super::Driver;
use super::arguments;
use crate::perform::monitor::{Monitor, MonitorError};
use crate::perform::seal::{self, MasterKey};
use crate::refuse;

impl Driver {
    /// What a disk that has its node numbers needs beside its nodes. The guest's key is among it when QEMU does not have
    /// it yet.
    ///
    /// # Errors
    /// A secret is not defined here, has no value, or is for something else.
    pub(super) async fn objects_of(&self, disk: &Disk) -> Result<Vec<Props>, Error> {
        if blockgraph::needed(disk).is_empty() {
            return Ok(Vec::new());
        }
        let (host, run_dir, disk) = (Arc::clone(&self.host), self.running()?.run_dir.clone(), disk.clone());
        let sealed = tokio::task::spawn_blocking(move || {
            let values = seal::values(&host, std::slice::from_ref(&disk))?;
            let failed = |error| refuse::system("cannot encrypt a secret", &error);
            let key = MasterKey::of(&run_dir, &host.account).map_err(failed)?;
            let mut objects = Vec::new();
            if key.is_new {
                objects.push(master_key_object(&key.path.to_string_lossy()));
            }
            for value in &values {
                objects.push(key.seal(value).map_err(failed)?.object(&value.object));
            }
            Ok(objects)
        });
        sealed.await.map_err(|_| refuse::internal("the daemon is stopping"))?
    }
}

/// Adds objects. Those that were added go again when one is refused.
pub(super) async fn add(monitor: &Monitor, objects: &[Props]) -> Result<(), MonitorError> {
    for (added, object) in objects.iter().enumerate() {
        let mut properties = arguments(object);
        let mut take = |name: &str| {
            let value = properties.remove(name);
            value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
        };
        let add = ObjectAdd { qom_type: take("qom-type"), id: take("id"), properties };
        if let Err(error) = monitor.execute(&add).await {
            delete(monitor, &objects[..added]).await;
            return Err(error);
        }
    }
    Ok(())
}

/// Takes objects away again, but for the guest's key, which others may need.
pub(super) async fn delete(monitor: &Monitor, objects: &[Props]) {
    for object in objects {
        let Some(ferry_qemu::props::Value::Str(id)) = object.value("id") else { continue };
        if id != blockgraph::MASTER_KEY {
            delete_one(monitor, id).await;
        }
    }
}

/// Takes away what a disk that is gone needed.
pub(super) async fn delete_of(monitor: &Monitor, disk: &Disk) {
    for secret in blockgraph::needed(disk) {
        delete_one(monitor, &secret.object).await;
    }
}

async fn delete_one(monitor: &Monitor, id: &str) {
    if let Err(error) = monitor.execute(&ObjectDel { id: id.to_owned() }).await {
        tracing::warn!(id, error = refuse::chain(&error), "an object stays");
    }
}

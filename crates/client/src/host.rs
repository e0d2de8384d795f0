//! Calls about the host and its daemon.

use ferry_rpc::proto::{
    ConnectGetCapabilities, ConnectGetHostname, ConnectGetLibVersion, ConnectGetType, ConnectGetVersion,
    NodeGetInfo, NodeGetInfoReply,
};

use crate::connection::{CallError, Connection};

/// Every method makes one call; its errors are those of [`Connection::call`].
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Connection {
    /// The host's name.
    pub async fn hostname(&self) -> Result<String, CallError> {
        self.call(&ConnectGetHostname {}).await
    }

    /// What the host can do, as XML.
    pub async fn capabilities(&self) -> Result<String, CallError> {
        self.call(&ConnectGetCapabilities {}).await
    }

    /// The name of the hypervisor driver: `QEMU`.
    pub async fn driver_name(&self) -> Result<String, CallError> {
        self.call(&ConnectGetType {}).await
    }

    /// The hypervisor's version: major x 1,000,000 + minor x 1,000 + micro.
    pub async fn hypervisor_version(&self) -> Result<u64, CallError> {
        self.call(&ConnectGetVersion {}).await
    }

    /// The daemon's version, in the same form. Cheap; also good to see whether it answers.
    pub async fn daemon_version(&self) -> Result<u64, CallError> {
        self.call(&ConnectGetLibVersion {}).await
    }

    /// Processors and memory.
    pub async fn node_info(&self) -> Result<NodeGetInfoReply, CallError> {
        self.call(&NodeGetInfo {}).await
    }
}

//! The phases of a migration, and what tunes one that is under way.
//!
//! Who calls them in which order, and what an answer that does not come means, is the business of the
//! `migration` crate's coordinator: see [`CallError::is_unknown`].

use ferry_rpc::TypedParam;
use ferry_rpc::flags::{MaxSpeedFlags, MigrateFlags};
use ferry_rpc::proto::{
    Cookie, DomainMigrateBegin3Params, DomainMigrateConfirm3Params, DomainMigrateFinish3Params,
    DomainMigrateGetCompressionCache, DomainMigrateGetMaxDowntime, DomainMigrateGetMaxSpeed,
    DomainMigratePerform3Params, DomainMigratePrepare3Params, DomainMigratePrepareTunnel3Params,
    DomainMigrateSetCompressionCache, DomainMigrateSetMaxDowntime, DomainMigrateSetMaxSpeed,
    DomainMigrateStartPostCopy, DomainRef, MigrateBeginReply, MigrateFinishReply, MigratePrepareReply,
};

use crate::connection::{CallError, Connection};
use crate::stream::Stream;

/// Every method makes one call; its errors are those of [`Connection::call`].
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Connection {
    /// Begin, on the source.
    pub async fn migrate_begin(
        &self,
        domain: &DomainRef,
        params: Vec<TypedParam>,
        flags: MigrateFlags,
    ) -> Result<MigrateBeginReply, CallError> {
        self.call(&DomainMigrateBegin3Params { domain: domain.clone(), params, flags }).await
    }

    /// Prepare, on the destination.
    pub async fn migrate_prepare(
        &self,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
    ) -> Result<MigratePrepareReply, CallError> {
        self.call(&DomainMigratePrepare3Params { params, cookie, flags }).await
    }

    /// Prepare, on the destination, for memory that comes as a stream on this connection.
    pub async fn migrate_prepare_tunnel(
        &self,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
    ) -> Result<(Cookie, Stream), CallError> {
        self.call_stream(&DomainMigratePrepareTunnel3Params { params, cookie, flags }).await
    }

    /// Perform, on the source: minutes. With a destination URI the source drives the destination itself.
    pub async fn migrate_perform(
        &self,
        domain: &DomainRef,
        destination_uri: Option<String>,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
    ) -> Result<Cookie, CallError> {
        let domain = domain.clone();
        self.call(&DomainMigratePerform3Params { domain, destination_uri, params, cookie, flags }).await
    }

    /// Finish, on the destination. When `cancelled`, an error is the good answer: 93/10.
    pub async fn migrate_finish(
        &self,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
        cancelled: bool,
    ) -> Result<MigrateFinishReply, CallError> {
        self.call(&DomainMigrateFinish3Params { params, cookie, flags, cancelled }).await
    }

    /// Confirm, on the source.
    pub async fn migrate_confirm(
        &self,
        domain: &DomainRef,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
        cancelled: bool,
    ) -> Result<(), CallError> {
        let domain = domain.clone();
        self.call(&DomainMigrateConfirm3Params { domain, params, cookie, flags, cancelled }).await
    }

    /// Switches a migration under way to post-copy.
    pub async fn migrate_start_post_copy(&self, domain: &DomainRef) -> Result<(), CallError> {
        self.call(&DomainMigrateStartPostCopy { domain: domain.clone(), flags: 0 }).await
    }

    /// How long the guest may be paused at the end of a migration, in ms.
    pub async fn migrate_max_downtime(&self, domain: &DomainRef) -> Result<u64, CallError> {
        self.call(&DomainMigrateGetMaxDowntime { domain: domain.clone(), flags: 0 }).await
    }

    /// Sets how long the guest may be paused at the end of a migration, in ms.
    pub async fn migrate_set_max_downtime(
        &self,
        domain: &DomainRef,
        downtime_ms: u64,
    ) -> Result<(), CallError> {
        let call = DomainMigrateSetMaxDowntime { domain: domain.clone(), downtime: downtime_ms, flags: 0 };
        self.call(&call).await
    }

    /// The limit of a migration's bandwidth, in MiB/s.
    pub async fn migrate_max_speed(
        &self,
        domain: &DomainRef,
        flags: MaxSpeedFlags,
    ) -> Result<u64, CallError> {
        self.call(&DomainMigrateGetMaxSpeed { domain: domain.clone(), flags }).await
    }

    /// Sets the limit of a migration's bandwidth, in MiB/s.
    pub async fn migrate_set_max_speed(
        &self,
        domain: &DomainRef,
        bandwidth_mib: u64,
        flags: MaxSpeedFlags,
    ) -> Result<(), CallError> {
        let call = DomainMigrateSetMaxSpeed { domain: domain.clone(), bandwidth: bandwidth_mib, flags };
        self.call(&call).await
    }

    /// The size of the compression cache, in bytes.
    pub async fn migrate_compression_cache(&self, domain: &DomainRef) -> Result<u64, CallError> {
        self.call(&DomainMigrateGetCompressionCache { domain: domain.clone(), flags: 0 }).await
    }

    /// Sets the size of the compression cache, in bytes.
    pub async fn migrate_set_compression_cache(
        &self,
        domain: &DomainRef,
        bytes: u64,
    ) -> Result<(), CallError> {
        let call = DomainMigrateSetCompressionCache { domain: domain.clone(), cache_size: bytes, flags: 0 };
        self.call(&call).await
    }
}

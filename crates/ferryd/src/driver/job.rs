//! Jobs as clients see them: statistics, abort, limits.

use ferry_domain::Operation;
use ferry_migration::stats::{JobStats, Progress};
use ferry_qmp::commands::migration::{MigrateSetParameters, MigrationParameters};
use ferry_qmp::commands::progress::QueryMigrate;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::values::JobType;

use super::migrate::Migration;
use super::{Driver, Reply, WhichJob, answer, now_ms};
use crate::events::DomainEvent;
use crate::refuse;

impl Driver {
    /// Statistics of a job; `None` when there is no such job.
    pub(super) async fn job_stats(&mut self, which: WhichJob) -> Result<Option<JobStats>, Error> {
        match which {
            WhichJob::Completed { keep: true } => Ok(self.completed_job),
            WhichJob::Completed { keep: false } => Ok(self.completed_job.take()),
            WhichJob::Present => self.present_job().await,
        }
    }

    async fn present_job(&mut self) -> Result<Option<JobStats>, Error> {
        let monitor = self.running()?.monitor.clone();
        self.admit(Operation::JobStats)?;
        match &self.migration {
            None | Some(Migration::In(_)) => Ok(None),
            Some(Migration::Out(outgoing)) if !outgoing.job_open => Ok(None),
            Some(Migration::Out(outgoing)) => {
                let mut stats = outgoing.stats;
                if stats.kind == JobType::UNBOUNDED {
                    let info = monitor.execute(&QueryMigrate).await.map_err(refuse::monitor)?;
                    stats = stats.running(Progress::from(&info), now_ms());
                }
                // Complete for QEMU is not the end of the job.
                stats.kind = JobType::UNBOUNDED;
                Ok(Some(stats))
            }
        }
    }

    /// Keeps what a job did, for whoever asks afterwards, and tells those who listen.
    pub(super) fn complete_job(&mut self, stats: JobStats) {
        self.completed_job = Some(stats);
        self.emit(DomainEvent::JobCompleted { params: stats.params() });
    }

    /// Gives up the present job.
    pub(super) async fn abort_job(&mut self, postcopy: bool, reply: Reply<()>) {
        if let Err(error) = self.admit(Operation::Abort) {
            return answer(reply, Err(error));
        }
        if postcopy {
            return self.break_by_hand(reply).await;
        }
        self.abort_leaving(reply).await;
    }

    /// Longest pause of the present migration and those to come, in milliseconds.
    pub(super) async fn set_max_downtime(&mut self, downtime_ms: u64) -> Result<(), Error> {
        let tuning =
            MigrationParameters { downtime_limit: Some(downtime_ms), ..MigrationParameters::default() };
        self.running()?.monitor.execute(&MigrateSetParameters(tuning)).await.map_err(refuse::monitor)?;
        self.limits.downtime_ms = Some(downtime_ms);
        Ok(())
    }

    /// Bandwidth limit of the present migration and those to come, in MiB/s.
    pub(super) async fn set_max_speed(&mut self, mib_per_s: u64, postcopy: bool) -> Result<(), Error> {
        const BEYOND: u64 = ferry_migration::policy::UNLIMITED_MIB + 1;
        if mib_per_s >= BEYOND {
            let text = format!("bandwidth must be less than {BEYOND}");
            return Err(Error::of(ErrorCode::OVERFLOW, Origin::QEMU, text));
        }
        let bytes = Some(mib_per_s << 20);
        if let Some(guest) = &self.guest {
            let tuning = if postcopy {
                MigrationParameters { max_postcopy_bandwidth: bytes, ..MigrationParameters::default() }
            } else {
                MigrationParameters { max_bandwidth: bytes, ..MigrationParameters::default() }
            };
            guest.monitor.execute(&MigrateSetParameters(tuning)).await.map_err(refuse::monitor)?;
        }
        if postcopy {
            self.limits.postcopy_speed_mib = Some(mib_per_s);
        } else {
            self.limits.speed_mib = Some(mib_per_s);
        }
        Ok(())
    }
}

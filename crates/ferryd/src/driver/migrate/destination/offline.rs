//! A definition that comes without its guest: Prepare keeps it in mind, Finish on the disk.

use ferry_domxml::Domain;
use ferry_migration::params::Request as Parameters;
use ferry_migration::uri;
use ferry_rpc::error::Error;
use ferry_rpc::values::{DefinedDetail, LifecycleEvent};

use super::super::{Arrived, Names, Offline, Prepared, cookies};
use crate::driver::Driver;
use crate::listen::Client;

impl Driver {
    pub(super) fn prepare_offline(
        &mut self,
        parameters: &Parameters,
        definition: Domain,
        source_name: String,
        names: Option<Names>,
        client: &Client,
    ) -> Result<Prepared, Error> {
        let uri = parameters.data_uri()?;
        let host = self.host.config.migration_host.clone().unwrap_or_else(|| self.host.hostname.clone());
        let port = *self.host.config.migration_ports().start();
        let uri = uri::uri_out(parameters.migrate_uri.as_deref(), uri.as_ref(), &host, port);
        let cookie = cookies::prepared(self, &source_name, names.as_ref(), None);
        self.watch(client.clone());
        self.offline = Some(Offline { definition, source_name, client: client.id() });
        Ok(Prepared { cookie, uri })
    }

    pub(super) async fn finish_offline(&mut self, cancelled: bool) -> Result<Arrived, Error> {
        let Some(Offline { mut definition, source_name, .. }) = self.offline.take() else {
            return Err(self.nothing_to_finish(cancelled));
        };
        if cancelled {
            return Err(self.arriving_context().cleaned_up());
        }
        let detail = if self.config.is_some() { DefinedDetail::UPDATED } else { DefinedDetail::ADDED };
        definition.name.clone_from(&self.name);
        self.keep(definition).await?;
        self.emit_lifecycle(LifecycleEvent::DEFINED, detail.0);
        let domain = self.published.borrow().reference();
        Ok(Arrived { domain, cookie: cookies::arrived_offline(self, &source_name) })
    }
}

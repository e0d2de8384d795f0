//! Where the source is to connect: a QEMU that listens, on a port of the pool or where the caller says.

use ferry_domain::Happening;
use ferry_migration::uri::{self, Listen};
use ferry_qmp::commands::migration::{
    CapabilityState, MigrateIncoming, MigrateSetCapabilities, MigrationCapability,
};
use ferry_rpc::error::Error;
use ferry_rpc::flags::MigrateFlags;

use super::super::Migration;
use crate::driver::Driver;
use crate::driver::guest::Guest;
use crate::fault;
use crate::host::Port;
use crate::perform::launch::{self, Purpose};
use crate::perform::network;
use crate::refuse;

impl Driver {
    /// Starts QEMU and has it listen where the source will connect.
    pub(super) async fn launch_incoming(&mut self) -> Result<(), Error> {
        let Some(Migration::In(incoming)) = &mut self.migration else { return Ok(()) };
        let Some(definition) = incoming.definition.take() else {
            return Err(refuse::internal("the guest was launched before"));
        };
        let launch_id = incoming.launch_id.clone();
        let postcopy = incoming.parameters.flags.contains(MigrateFlags::POSTCOPY);
        let uri = incoming.parameters.data_uri()?;
        let listen = Listen::plan(uri.as_ref(), incoming.parameters.listen_address.as_deref())?;
        let id = self.host.registry.next_id();
        let launched =
            Box::pin(launch::launch(&self.host, definition, id, launch_id, Purpose::Incoming)).await?;
        self.guest = Some(Guest::of_launch(id, launched, None));
        self.happen(Happening::LaunchedIncoming);
        // From here on a restarted daemon knows the process.
        self.record_guest().await?;
        let overlays = self.meet_overlays().await?;
        let switched = [
            (MigrationCapability::DirtyBitmaps, overlays.iter().any(|overlay| !overlay.bitmaps.is_empty())),
            (MigrationCapability::Events, true),
            (MigrationCapability::LateBlockActivate, true),
            (MigrationCapability::ReturnPath, true),
            (MigrationCapability::PostcopyRam, postcopy),
        ];
        let capabilities = switched.map(|(capability, state)| CapabilityState { capability, state }).to_vec();
        let monitor = self.running()?.monitor.clone();
        monitor.execute(&MigrateSetCapabilities { capabilities }).await.map_err(refuse::monitor)?;
        let (listening, port) = self.listen_for_source(&listen).await?;
        fault::point!("listening");
        if let Some(words) = self.guest.as_mut().and_then(|guest| guest.words.as_mut()) {
            words.pass_by();
        }
        let number = port.as_ref().map_or(0, Port::number);
        let host = self.host.config.migration_host.clone().unwrap_or_else(|| self.host.hostname.clone());
        if let Some(Migration::In(incoming)) = &mut self.migration {
            incoming.uri =
                uri::uri_out(incoming.parameters.migrate_uri.as_deref(), uri.as_ref(), &host, number);
            incoming.rest.uri = Some(listening);
            incoming.overlays = overlays;
            incoming.port = port;
        }
        Ok(())
    }

    /// Has QEMU listen; a port of the pool that another program holds is passed over.
    /// Gives where it listens, and the port to be kept for it.
    async fn listen_for_source(&self, listen: &Listen) -> Result<(String, Option<Port>), Error> {
        let monitor = self.running()?.monitor.clone();
        let any = self.host.config.migration_address.as_deref().unwrap_or(network::any_address());
        let (fixed, address) = match listen {
            Listen::Tcp { port, address } => (port.is_some(), address.as_deref().unwrap_or(any)),
            Listen::Unix { .. } => (true, any),
        };
        if fixed {
            let uri = listen.qemu_incoming(any, 0);
            let incoming = MigrateIncoming::at(uri.clone());
            return monitor.execute(&incoming).await.map(|_| (uri, None)).map_err(refuse::monitor);
        }
        let mut at_least = 0;
        loop {
            let port = self.host.ports.take(at_least)?;
            if port.is_occupied(address) {
                at_least = port.number().saturating_add(1);
                continue;
            }
            let uri = listen.qemu_incoming(any, port.number());
            match monitor.execute(&MigrateIncoming::at(uri.clone())).await {
                Ok(_) => return Ok((uri, Some(port))),
                Err(error) if error.refusal().is_some_and(|text| text.contains("Address already in use")) => {
                    at_least = port.number().saturating_add(1);
                }
                Err(error) => return Err(refuse::monitor(error)),
            }
        }
    }
}

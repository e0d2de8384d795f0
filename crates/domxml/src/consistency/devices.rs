//! Devices that must be alone, or that refer to one another.

use super::{contradiction, repeated, unsupported, zero};
use crate::{Address, Domain, InputBus, PanicModel, ParseError, Tpm, TpmModel, TpmVersion};

/// The lowest number that a guest's vsock can have; those below are the host's.
const CID_MIN: u32 = 3;

pub(super) fn check(domain: &Domain) -> Result<(), ParseError> {
    let devices = &domain.devices;
    let panics = devices.panics.iter().map(|panic| panic.model.unwrap_or(PanicModel::Isa));
    if let Some(model) = repeated(panics) {
        return contradiction(format!("Multiple panic devices with model '{model}'"));
    }
    for panic in &devices.panics {
        match (panic.model.unwrap_or(PanicModel::Isa), &panic.info.address) {
            (_, None)
            | (PanicModel::Isa, Some(Address::Isa(_)))
            | (PanicModel::PvPanic, Some(Address::Pci(_))) => {}
            (PanicModel::Isa, Some(_)) => {
                return unsupported("panic is supported only with ISA address type");
            }
            (PanicModel::PvPanic, Some(_)) => {
                return unsupported("pvpanic is supported only with PCI address type");
            }
            (PanicModel::HyperV, Some(_)) => {
                return unsupported("setting the panic device address is not supported for model 'hyperv'");
            }
        }
    }
    let elsewhere = |bus: Option<InputBus>| bus != Some(InputBus::Virtio);
    if devices.inputs.iter().any(|input| input.model.is_some() && elsewhere(input.bus)) {
        return unsupported("only bus 'virtio' is supported for input model 'virtio'");
    }
    tpms(&devices.tpms)?;
    let cid = devices.vsock.as_ref().and_then(|vsock| vsock.cid.as_ref()).and_then(|cid| cid.address);
    if cid.is_some_and(|cid| cid < CID_MIN) {
        return unsupported("guest CIDs must be >= 3");
    }
    if let Some(id) = repeated(devices.audios.iter().map(|audio| audio.id)) {
        return contradiction(format!("audio ID {id} is used multiple times"));
    }
    if devices.audios.iter().any(|audio| audio.id == 0) {
        return Err(zero("id", "audio"));
    }
    // Audio 1 is made when there is none.
    let is_made = |id: u32| devices.audios.is_empty() && id == 1;
    let is_known = |id: &u32| is_made(*id) || devices.audios.iter().any(|audio| audio.id == *id);
    let mut wanted = devices.sounds.iter().filter_map(|sound| sound.audio);
    match wanted.find(|id| !is_known(id)) {
        Some(id) => contradiction(format!("no audio device with ID {id}")),
        None => Ok(()),
    }
}

fn tpms(tpms: &[Tpm]) -> Result<(), ParseError> {
    if tpms.len() > 1 {
        return unsupported("only a single TPM non-proxy device is supported");
    }
    let Some(tpm) = tpms.first() else { return Ok(()) };
    let Some(backend) = &tpm.backend else {
        // One that is not known here is refused as such.
        return if tpm.rest.child("backend").is_some() {
            Ok(())
        } else {
            contradiction("missing TPM device backend")
        };
    };
    let names_banks = backend.active_pcr_banks.as_ref().is_some_and(|banks| !banks.names().is_empty());
    if names_banks && tpm.version() != TpmVersion::V20 {
        return contradiction("<active_pcr_banks/> requires TPM version '2.0'");
    }
    if tpm.model() == TpmModel::Crb && tpm.version() == TpmVersion::V12 {
        return unsupported("TPM 1.2 is not supported for model 'tpm-crb'");
    }
    Ok(())
}

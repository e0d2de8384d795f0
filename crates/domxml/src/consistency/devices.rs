//! Devices that must be alone, or that refer to one another.

use super::{contradiction, repeated, unsupported, zero};
use crate::{Domain, PanicModel, ParseError};

/// The lowest number that a guest's vsock can have; those below are the host's.
const CID_MIN: u32 = 3;

pub(super) fn check(domain: &Domain) -> Result<(), ParseError> {
    let devices = &domain.devices;
    let panics = devices.panics.iter().map(|panic| panic.model.unwrap_or(PanicModel::Isa));
    if let Some(model) = repeated(panics) {
        return contradiction(format!("Multiple panic devices with model '{model}'"));
    }
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

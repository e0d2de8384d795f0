//! Firmware and its tables, and what Microsoft's guests are told.

use super::{contradiction, detail, unsupported};
use crate::model::Value;
use crate::{
    BiosField, Domain, LoaderType, OnOff, ParseError, SmbiosMode, Sysinfo, SystemField, Uuid, YesNo,
};

pub(super) fn check(domain: &Domain) -> Result<(), ParseError> {
    hyperv(domain)?;
    loader(domain)?;
    domain.sysinfos.iter().try_for_each(|sysinfo| self::sysinfo(domain, sysinfo))?;
    let has_tables = domain.sysinfos.iter().any(|sysinfo| matches!(sysinfo, Sysinfo::Smbios(_)));
    if domain.os.smbios == Some(SmbiosMode::Sysinfo) && !has_tables {
        return contradiction(format!("Domain '{}' sysinfo are not available", domain.name));
    }
    Ok(())
}

fn loader(domain: &Domain) -> Result<(), ParseError> {
    let os = &domain.os;
    let is = |word: Option<YesNo>| word == Some(YesNo::Yes);
    let is_chosen = os.firmware.is_some();
    if !is_chosen && os.firmware_wish.is_some() {
        return detail(
            "cannot use feature-based firmware autoselection when firmware autoselection is disabled",
        );
    }
    if !is_chosen && os.loader.as_ref().is_none_or(|loader| loader.path.is_none()) {
        return match os.loader.is_some() || os.nvram.is_some() {
            true => detail("no loader path specified and firmware auto selection disabled"),
            false => Ok(()),
        };
    }
    let has_acpi = domain.features.as_ref().is_some_and(|features| features.acpi);
    let is_flash = is_chosen || os.loader_type() == Some(LoaderType::Pflash);
    if is_flash && !has_acpi {
        return unsupported("UEFI requires ACPI on this architecture");
    }
    let Some(loader) = &os.loader else { return Ok(()) };
    if !is_flash && (loader.stateless == Some(YesNo::No) || os.nvram.is_some()) {
        return detail("Only pflash loader type permits NVRAM");
    }
    if is(loader.stateless) && os.nvram.is_some() {
        return detail("NVRAM is not permitted when loader is stateless");
    }
    if is_flash && !is_chosen && os.nvram.is_some() && !is(loader.readonly) {
        return unsupported("a loader that can be written has its variables in itself, not in nvram");
    }
    match domain.features.as_ref().and_then(|features| features.smm.as_ref()) {
        _ if !is(loader.secure) || loader.path.is_none() => Ok(()),
        Some(smm) if smm.state != Some(OnOff::Off) => Ok(()),
        Some(_) | None => unsupported("Secure boot requires SMM feature enabled"),
    }
}

/// The shortest wait that Microsoft's interface knows.
const SPINLOCK_RETRIES_MIN: u32 = 4095;
/// Bytes of the vendor's name in CPUID.
const VENDOR_LENGTH_MAX: usize = 12;

fn hyperv(domain: &Domain) -> Result<(), ParseError> {
    let Some(hyperv) = domain.features.as_ref().and_then(|features| features.hyperv.as_ref()) else {
        return Ok(());
    };
    let missing = |attribute: &str, element: &str| {
        Err(ParseError::MissingAttribute { attribute: attribute.to_owned(), element: element.to_owned() })
    };
    match &hyperv.spinlocks {
        Some(locks) if locks.state == OnOff::On => match locks.retries {
            None => return missing("retries", "spinlocks"),
            Some(retries) if retries < SPINLOCK_RETRIES_MIN => {
                return contradiction("HyperV spinlock retry count must be at least 4095");
            }
            Some(_) => {}
        },
        Some(_) | None => {}
    }
    match &hyperv.vendor_id {
        Some(vendor) if vendor.state == OnOff::On => match vendor.value.as_deref() {
            None | Some("") => missing("value", "vendor_id"),
            Some(value) if value.len() > VENDOR_LENGTH_MAX => {
                contradiction("HyperV vendor_id value must not be more than 12 characters.")
            }
            Some(value) if value.contains(',') => contradiction("HyperV vendor_id value is invalid"),
            Some(_) => Ok(()),
        },
        Some(_) | None => Ok(()),
    }
}

fn sysinfo(domain: &Domain, sysinfo: &Sysinfo) -> Result<(), ParseError> {
    match sysinfo {
        Sysinfo::Smbios(smbios) => {
            let date = smbios.bios.as_ref().and_then(|bios| bios.value(BiosField::Date));
            if date.is_some_and(|date| !is_date(date)) {
                return detail("Invalid BIOS 'date' format");
            }
            let stated = smbios.system.as_ref().and_then(|system| system.value(SystemField::Uuid));
            let Some(stated) = stated else { return Ok(()) };
            match (Uuid::parse(stated), domain.uuid) {
                (Err(_), _) => detail("malformed <sysinfo> uuid element"),
                (Ok(stated), Some(uuid)) if stated != uuid => {
                    detail("UUID mismatch between <uuid> and <sysinfo>")
                }
                (Ok(_), _) => Ok(()),
            }
        }
        Sysinfo::FwCfg(files) => files.entries.iter().try_for_each(|entry| {
            if !entry.name.starts_with("opt/") {
                return unsupported("Invalid firmware name");
            }
            match (&entry.file, &entry.value) {
                (None, None) => contradiction("Firmware entry must have either value or 'file' attribute"),
                (Some(_), Some(_)) => {
                    contradiction("Firmware entry must not have both a value and a 'file' attribute")
                }
                _ => Ok(()),
            }
        }),
    }
}

/// `mm/dd/yyyy` or `mm/dd/yy`.
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let number =
        |text: &str| text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse::<u32>().ok());
    let [month, day, year] = parts.as_slice() else { return false };
    let within = |text: &str, last: u32| {
        text.len() == 2 && number(text).flatten().is_some_and(|number| (1..=last).contains(&number))
    };
    let is_year = matches!(year.len(), 2 | 4) && number(year).flatten().is_some();
    within(month, 12) && within(day, 31) && is_year
}

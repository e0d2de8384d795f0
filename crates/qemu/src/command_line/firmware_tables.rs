//! What the firmware tells the guest about its machine: SMBIOS tables, files of the configuration device, and the
//! device through which the guest says where its crash dump lies.

use ferry_domxml::sysinfo::{Smbios, Sysinfo, Table};
use ferry_domxml::{OnOff, os::SmbiosMode};

use super::Builder;
use crate::props::{KeyValue, Props};

impl Builder<'_> {
    pub(super) fn firmware_tables(&mut self) {
        for sysinfo in &self.domain.sysinfos {
            match sysinfo {
                Sysinfo::Smbios(tables) if self.domain.os.smbios == Some(SmbiosMode::Sysinfo) => {
                    smbios(tables).into_iter().for_each(|table| self.option("-smbios", table));
                }
                // Tables of which the definition does not say that the guest is to see them.
                Sysinfo::Smbios(_) => {}
                Sysinfo::FwCfg(files) => {
                    for entry in &files.entries {
                        let option = KeyValue::new("")
                            .with("name", &entry.name)
                            .with_some("file", entry.file.as_deref())
                            .with_some("string", entry.value.as_deref());
                        self.option("-fw_cfg", option);
                    }
                }
            }
        }
    }

    pub(super) fn crash_dump(&mut self) {
        let wanted = self.domain.features.as_ref().and_then(|features| features.vmcoreinfo);
        if wanted == Some(OnOff::On) {
            self.device(&Props::driver("vmcoreinfo"));
        }
    }
}

fn smbios(tables: &Smbios) -> Vec<KeyValue> {
    let mut options = Vec::new();
    options.extend(tables.bios.as_ref().and_then(|bios| table(0, bios)));
    options.extend(tables.system.as_ref().and_then(|system| table(1, system)));
    options.extend(tables.base_boards.iter().filter_map(|board| table(2, board)));
    options.extend(tables.chassis.as_ref().and_then(|chassis| table(3, chassis)));
    if let Some(strings) = tables.oem_strings.as_ref().filter(|strings| !strings.entries.is_empty()) {
        let option = KeyValue::new("").with("type", 11);
        options.push(strings.entries.iter().fold(option, |option, entry| option.with("value", &entry.value)));
    }
    options
}

/// A table whose fields are called the same in QEMU. One without fields is left to QEMU.
fn table<F: Copy + std::fmt::Display>(number: u32, table: &Table<F>) -> Option<KeyValue> {
    let option = KeyValue::new("").with("type", number);
    let fields = &table.entries;
    (!fields.is_empty())
        .then(|| fields.iter().fold(option, |option, (field, value)| option.with(&field.to_string(), value)))
}

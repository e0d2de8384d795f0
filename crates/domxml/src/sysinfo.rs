//! `<sysinfo>`: what the guest's firmware tables say about the machine, and files that the firmware hands over.

use std::collections::BTreeSet;

use crate::model::{Input, Model, Output, Refusal, Rest, Value, element, values};

/// One `<sysinfo>` element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sysinfo {
    /// `type='smbios'`
    Smbios(Box<Smbios>),
    /// `type='fwcfg'`
    FwCfg(FwCfg),
}

values! {
    /// The `type` of a sysinfo element.
    pub enum SysinfoType {
        /// SMBIOS tables
        Smbios = "smbios",
        /// files of the firmware configuration device
        FwCfg = "fwcfg",
    }
}

element! {
    /// Tables of the System Management BIOS.
    #[derive(Default)]
    pub struct Smbios {
        /// Table 0.
        bios: Option<Table<BiosField>> => Child("bios"),
        /// Table 1.
        system: Option<Table<SystemField>> => Child("system"),
        /// Tables 2.
        base_boards: Vec<Table<BoardField>> => Child("baseBoard"),
        /// Table 3.
        chassis: Option<Table<ChassisField>> => Child("chassis"),
        /// Table 11.
        oem_strings: Option<OemStrings> => Child("oemStrings"),
    }
}

/// One table: its fields in their order, each at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<F> {
    /// Fields that are set, with their values.
    pub entries: Vec<(F, String)>,
    /// What is written here and not modelled above.
    pub rest: Rest,
}

values! {
    /// Fields of table 0.
    pub enum BiosField {
        /// vendor
        Vendor = "vendor",
        /// version
        Version = "version",
        /// date, `mm/dd/yyyy`
        Date = "date",
        /// release, two numbers with a point
        Release = "release",
    }
}

values! {
    /// Fields of table 1.
    pub enum SystemField {
        /// manufacturer
        Manufacturer = "manufacturer",
        /// product
        Product = "product",
        /// version
        Version = "version",
        /// serial number
        Serial = "serial",
        /// the domain's own UUID
        Uuid = "uuid",
        /// stock keeping unit
        Sku = "sku",
        /// family
        Family = "family",
    }
}

values! {
    /// Fields of table 2.
    pub enum BoardField {
        /// manufacturer
        Manufacturer = "manufacturer",
        /// product
        Product = "product",
        /// version
        Version = "version",
        /// serial number
        Serial = "serial",
        /// asset tag
        Asset = "asset",
        /// place in the chassis
        Location = "location",
    }
}

values! {
    /// Fields of table 3.
    pub enum ChassisField {
        /// manufacturer
        Manufacturer = "manufacturer",
        /// version
        Version = "version",
        /// serial number
        Serial = "serial",
        /// asset tag
        Asset = "asset",
        /// stock keeping unit
        Sku = "sku",
    }
}

element! {
    /// `<oemStrings>`
    #[derive(Default)]
    pub struct OemStrings {
        /// The strings, in order.
        entries: Vec<OemString> => Child("entry"),
    }
}

element! {
    /// One string.
    pub struct OemString {
        /// The string.
        value: String => Text(),
    }
}

element! {
    /// Files that the firmware configuration device shows.
    #[derive(Default)]
    pub struct FwCfg {
        /// The files.
        entries: Vec<FwCfgEntry> => Child("entry"),
    }
}

element! {
    /// One file: either its content or a host file that has it.
    pub struct FwCfgEntry {
        /// Name, `opt/…`.
        name: String => Attr("name"),
        /// Absolute path of a file on the host.
        file: Option<String> => Attr("file"),
        /// The content.
        value: Option<String> => Text(),
    }
}

impl Model for Sysinfo {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        match input.required("type")? {
            SysinfoType::Smbios => Ok(Self::Smbios(Box::new(Smbios::read(input)?))),
            SysinfoType::FwCfg => Ok(Self::FwCfg(FwCfg::read(input)?)),
        }
    }

    fn write(&self, out: &mut Output) {
        match self {
            Self::Smbios(smbios) => {
                out.attribute("type", &SysinfoType::Smbios);
                smbios.write(out);
            }
            Self::FwCfg(files) => {
                out.attribute("type", &SysinfoType::FwCfg);
                files.write(out);
            }
        }
    }
}

impl<F: Value + Copy + Ord> Table<F> {
    /// The value of a field.
    pub fn value(&self, field: F) -> Option<&str> {
        self.entries.iter().find(|(found, _)| *found == field).map(|(_, value)| value.as_str())
    }
}

impl<F: Value + Copy + Ord> Model for Table<F> {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let mut seen = BTreeSet::new();
        let mut entries = input.each("entry", |element| {
            let mut inner = Input::new(element);
            let field: F = inner.required("name")?;
            let value: String = inner.text()?.unwrap_or_default();
            inner.finish()?;
            if seen.insert(field) { Ok((field, value)) } else { Err(Refusal::Unmodelled) }
        })?;
        entries.sort_by_key(|(field, _)| *field);
        Ok(Self { entries, rest: input.rest() })
    }

    fn write(&self, out: &mut Output) {
        for (field, value) in &self.entries {
            out.child("entry", |out| {
                out.attribute("name", field);
                if !value.is_empty() {
                    out.text(value);
                }
            });
        }
        out.rest(&self.rest);
    }
}

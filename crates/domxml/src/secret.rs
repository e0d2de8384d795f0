//! Secrets: who refers to one in a domain, and the document that describes one (`virsh secret-define`). Values are not in
//! either; the daemon keeps them.

use uuid::Uuid;

use crate::model::{Input, Model, Output, Refusal, Value, YesNo, element, read, values};
use crate::reader::{read_document, shorten};
use crate::writer::write_document;
use crate::{FormatOptions, ParseError};

element! {
    /// `<auth>`: as whom a server is asked.
    pub struct Auth {
        /// The account.
        username: String => Attr("username"),
        /// Its secret.
        secret: AuthSecret => Child("secret"),
    }
}

element! {
    /// `<secret>` of an [`Auth`].
    pub struct AuthSecret {
        /// What the secret is for; must be what it was defined for.
        kind: AuthKind => Attr("type"),
        /// Which, by its number.
        uuid: Option<Uuid> => Attr("uuid"),
        /// Which, by what it is used for.
        usage: Option<String> => Attr("usage"),
    }
}

values! {
    /// What an [`Auth`] is for.
    pub enum AuthKind {
        /// a Ceph cluster
        Ceph = "ceph",
        /// an iSCSI target
        Iscsi = "iscsi",
    }
}

element! {
    /// `<encryption>` of an image.
    pub struct Encryption {
        /// How.
        format: EncryptionFormat => Attr("format"),
        /// Who decrypts. `None`: QEMU.
        engine: Option<EncryptionEngine> => Attr("engine"),
        /// The passphrase.
        secret: EncryptionSecret => Child("secret"),
    }
    attributes ["format", "engine"]
}

values! {
    /// Format of an encryption.
    pub enum EncryptionFormat {
        /// LUKS, version 1
        Luks = "luks",
    }
}

values! {
    /// Who decrypts an image.
    pub enum EncryptionEngine {
        /// QEMU's own layer
        Qemu = "qemu",
    }
}

element! {
    /// `<secret>` of an [`Encryption`].
    pub struct EncryptionSecret {
        /// What it is.
        kind: EncryptionSecretKind => Attr("type"),
        /// Which, by its number.
        uuid: Option<Uuid> => Attr("uuid"),
        /// Which, by what it is used for.
        usage: Option<String> => Attr("usage"),
    }
}

values! {
    /// What a secret of an [`Encryption`] is.
    pub enum EncryptionSecretKind {
        /// a passphrase
        Passphrase = "passphrase",
    }
}

values! {
    /// What a secret is used for.
    pub enum SecretUsage {
        /// nothing that is named
        None = "none",
        /// an image's encryption; the name is a path
        Volume = "volume",
        /// a Ceph cluster
        Ceph = "ceph",
        /// an iSCSI target
        Iscsi = "iscsi",
        /// the key of a certificate
        Tls = "tls",
        /// the state of a TPM
        Vtpm = "vtpm",
    }
}

impl SecretUsage {
    /// The number on the wire (`virSecretUsageType`).
    pub fn number(self) -> i32 {
        match self {
            Self::None => 0,
            Self::Volume => 1,
            Self::Ceph => 2,
            Self::Iscsi => 3,
            Self::Tls => 4,
            Self::Vtpm => 5,
        }
    }

    /// The usage with this number.
    pub fn of_number(number: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|usage| usage.number() == number)
    }

    /// The element of `<usage>` that names what it is used for.
    fn element(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Volume => Some("volume"),
            Self::Ceph | Self::Tls | Self::Vtpm => Some("name"),
            Self::Iscsi => Some("target"),
        }
    }
}

/// The description of a secret: `<secret>` as a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Kept in memory only.
    pub ephemeral: bool,
    /// Its value is told to nobody.
    pub private: bool,
    /// Its number. `None`: made up when it is defined.
    pub uuid: Option<Uuid>,
    /// Anything for people.
    pub description: Option<String>,
    /// What it is used for.
    pub usage: SecretUsage,
    /// The name of what it is used for; empty for nothing.
    pub usage_id: String,
}

impl Secret {
    /// Reads a description.
    ///
    /// # Errors
    /// It is no secret, or has something that is not known: nothing of it is dropped.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let root = read_document(text)?;
        if root.name != "secret" {
            let found = shorten(&root.name);
            let text = format!("expecting root element of 'secret', not '{found}'");
            return Err(ParseError::Contradiction(text));
        }
        read(&root).map_err(|refusal| match refusal {
            Refusal::Invalid(error) => error,
            Refusal::Unmodelled => {
                ParseError::Unsupported("this form of <secret> is not supported".to_owned())
            }
        })
    }

    /// The description as text, laid out as stock does.
    pub fn format(&self) -> String {
        let mut out = Output::new("secret", FormatOptions::default());
        self.write(&mut out);
        write_document(&out)
    }
}

impl Model for Secret {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let ephemeral = input.attribute_or("ephemeral", YesNo::No)?.is_yes();
        let private = input.attribute_or("private", YesNo::No)?.is_yes();
        let uuid = text_child(input, "uuid")?;
        let description = text_child(input, "description")?;
        let usage = input.first("usage", |element| {
            let mut inner = Input::new(element);
            let word = inner.peek("type").ok_or_else(|| inner.missing("type"))?;
            let usage: SecretUsage =
                inner.attribute("type")?.ok_or_else(|| inner.invalid_attribute("type", word))?;
            let id = match usage.element() {
                None => String::new(),
                Some(name) => {
                    text_child::<String>(&mut inner, name)?.filter(|id| !id.is_empty()).ok_or_else(|| {
                        let text = format!("{usage} usage specified, but {name} is missing");
                        Refusal::Invalid(ParseError::Internal(text))
                    })?
                }
            };
            inner.finish()?;
            Ok((usage, id))
        })?;
        input.finish()?;
        let (usage, usage_id) = usage.unwrap_or((SecretUsage::None, String::new()));
        Ok(Self { ephemeral, private, uuid, description, usage, usage_id })
    }

    fn write(&self, out: &mut Output) {
        out.attribute("ephemeral", &YesNo::from(self.ephemeral));
        out.attribute("private", &YesNo::from(self.private));
        let text = |out: &mut Output, name: &str, value: &dyn Fn(&mut Output)| out.child(name, value);
        if let Some(uuid) = &self.uuid {
            text(out, "uuid", &|out| out.text(uuid));
        }
        if let Some(description) = &self.description {
            text(out, "description", &|out| out.text(description));
        }
        if let Some(name) = self.usage.element() {
            out.child("usage", |out| {
                out.attribute("type", &self.usage);
                text(out, name, &|out| out.text(&self.usage_id));
            });
        }
    }
}

fn text_child<T: Value>(input: &mut Input<'_>, name: &'static str) -> Result<Option<T>, Refusal> {
    <Option<T> as crate::model::TextChild>::take(input, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_written_as_it_was_read() {
        let text = "<secret ephemeral='yes' private='no'>\n  <uuid>11111111-1111-1111-1111-111111111111</uuid>\n  \
                    <description>d</description>\n  <usage type='iscsi'>\n    <target>t</target>\n  </usage>\n</secret>\n";
        let secret = Secret::parse(text).unwrap();
        assert_eq!((secret.usage, secret.usage_id.as_str()), (SecretUsage::Iscsi, "t"));
        assert!(secret.ephemeral && !secret.private);
        assert_eq!(secret.format(), text);
        let bare = Secret::parse("<secret/>").unwrap();
        assert_eq!((bare.usage, bare.uuid), (SecretUsage::None, None));
    }

    #[test]
    fn what_is_wrong_in_a_description_is_told() {
        let refusal = |text: &str| Secret::parse(text).unwrap_err().to_string();
        assert_eq!(refusal("<domain/>"), "XML error: expecting root element of 'secret', not 'domain'");
        assert_eq!(
            refusal("<secret><usage type='x'/></secret>"),
            "XML error: Invalid value for attribute 'type' in element 'usage': 'x'."
        );
        assert_eq!(
            refusal("<secret><usage type='ceph'/></secret>"),
            "internal error: ceph usage specified, but name is missing"
        );
        assert_eq!(
            refusal("<secret><usage type='volume'/></secret>"),
            "internal error: volume usage specified, but volume is missing"
        );
        assert_eq!(
            refusal("<secret><x/></secret>"),
            "unsupported configuration: this form of <secret> is not supported"
        );
        assert!(refusal("<secret><uuid>x</uuid></secret>").contains("Invalid value 'x' for element 'uuid'"));
    }
}

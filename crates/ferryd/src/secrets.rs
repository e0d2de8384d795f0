//! The host's secrets: what `virsh secret-define` made, with the values that servers and encrypted images want.
//!
//! One for the whole daemon. Values are kept in the store, whose file is the daemon's alone, or in memory only when a
//! secret says so; they are in no XML, no log and no error. A change is on the disk before it is seen.

use std::collections::BTreeMap;

use ferry_domxml::ParseError;
use ferry_domxml::secret::{Secret, SecretUsage};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::{SecretRef, SecretValue};
use ferry_store::StoredSecret;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::host::Host;

/// The most secrets that there can be; as many as one answer may list.
const SECRETS_MAX: usize = 16_384;

/// All secrets.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Mutex<BTreeMap<Uuid, Entry>>);

#[derive(Debug, Clone)]
struct Entry {
    secret: Secret,
    value: Option<SecretValue>,
}

impl Entry {
    fn reference(&self, uuid: Uuid) -> SecretRef {
        SecretRef { uuid, usage_type: self.secret.usage.number(), usage_id: self.secret.usage_id.clone() }
    }

    fn stored(&self, uuid: Uuid) -> StoredSecret {
        let value = self.value.as_ref().map(|value| value.0.clone());
        StoredSecret { uuid, xml: self.secret.format(), value }
    }
}

/// Which secret somebody means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one with this number.
    Uuid(Uuid),
    /// The one for this.
    Usage(SecretUsage, String),
}

impl Secrets {
    /// The secrets that outlived the daemon. One whose description cannot be read is left where it is, and said.
    pub(crate) fn new(stored: Vec<StoredSecret>) -> Self {
        let read = |stored: StoredSecret| match Secret::parse(&stored.xml) {
            Ok(secret) => Some((stored.uuid, Entry { secret, value: stored.value.map(SecretValue) })),
            Err(error) => {
                tracing::error!(uuid = %stored.uuid, %error, "a stored secret is not understood");
                None
            }
        };
        Self(Mutex::new(stored.into_iter().filter_map(read).collect()))
    }

    /// All that there are, with the description of each.
    pub(crate) async fn list(&self) -> Vec<(SecretRef, Secret)> {
        let secrets = self.0.lock().await;
        secrets.iter().map(|(uuid, entry)| (entry.reference(*uuid), entry.secret.clone())).collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// 66/30: there is none.
    pub(crate) async fn find(&self, which: &Which) -> Result<(SecretRef, Secret), Error> {
        let secrets = self.0.lock().await;
        let (uuid, entry) = find(&secrets, which)?;
        Ok((entry.reference(uuid), entry.secret.clone()))
    }

    /// Defines a secret, or changes what an earlier one says; its value stays.
    ///
    /// # Errors
    /// It contradicts another one, in stock's words, or cannot be kept.
    pub(crate) async fn define(&self, host: &Host, mut secret: Secret) -> Result<SecretRef, Error> {
        let internal = |text: String| Error::of(ErrorCode::INTERNAL_ERROR, Origin::SECRET, text);
        let mut secrets = self.0.lock().await;
        let uuid = *secret.uuid.get_or_insert_with(Uuid::new_v4);
        let known = secrets.get(&uuid);
        match known {
            Some(Entry { secret: known, .. })
                if (known.usage, &known.usage_id) != (secret.usage, &secret.usage_id) =>
            {
                let id = &known.usage_id;
                return Err(internal(format!(
                    "a secret with UUID {uuid} is already defined for use with {id}"
                )));
            }
            Some(Entry { secret: known, .. }) if known.private && !secret.private => {
                return Err(internal("cannot change private flag on existing secret".to_owned()));
            }
            Some(_) => {}
            None if secrets.len() >= SECRETS_MAX => {
                return Err(internal(format!("there are {SECRETS_MAX} secrets already")));
            }
            None => {
                let same_use = secrets.iter().find(|(_, entry)| {
                    secret.usage != SecretUsage::None
                        && (entry.secret.usage, &entry.secret.usage_id) == (secret.usage, &secret.usage_id)
                });
                if let Some((holder, _)) = same_use {
                    let id = &secret.usage_id;
                    let text = format!("a secret with UUID {holder} already defined for use with {id}");
                    return Err(internal(text));
                }
            }
        }
        let entry = Entry { value: known.and_then(|known| known.value.clone()), secret };
        keep(host, uuid, &entry).await?;
        let reference = entry.reference(uuid);
        secrets.insert(uuid, entry);
        Ok(reference)
    }

    /// Gives a secret its value.
    ///
    /// # Errors
    /// There is no such secret, or it cannot be kept.
    pub(crate) async fn set_value(&self, host: &Host, uuid: Uuid, value: SecretValue) -> Result<(), Error> {
        let mut secrets = self.0.lock().await;
        let (_, entry) = find(&secrets, &Which::Uuid(uuid))?;
        let entry = Entry { secret: entry.secret.clone(), value: Some(value) };
        keep(host, uuid, &entry).await?;
        secrets.insert(uuid, entry);
        Ok(())
    }

    /// The value for a client that asks for it.
    ///
    /// # Errors
    /// There is no such secret, it has no value (66/30), or it is told to nobody (65/30).
    pub(crate) async fn value_for_client(&self, uuid: Uuid) -> Result<SecretValue, Error> {
        let secrets = self.0.lock().await;
        let (_, entry) = find(&secrets, &Which::Uuid(uuid))?;
        if entry.secret.private {
            return Err(Error::of(ErrorCode::INVALID_SECRET, Origin::SECRET, "secret is private"));
        }
        value_of(uuid, entry)
    }

    /// The value for a guest of ours, for what it was defined for. May block: for a thread that can.
    ///
    /// # Errors
    /// There is no such secret, it has no value, or was defined for something else.
    pub(crate) fn value_for_guest(&self, which: &Which, usage: SecretUsage) -> Result<SecretValue, Error> {
        let secrets = self.0.blocking_lock();
        let (uuid, entry) = find(&secrets, which)?;
        if entry.secret.usage != usage {
            let is = entry.secret.usage;
            let text = format!("secret with uuid {uuid} is of type '{is}' not expected '{usage}' type");
            return Err(Error::of(ErrorCode::INVALID_ARG, Origin::SECRET, text));
        }
        value_of(uuid, entry)
    }

    /// Forgets a secret.
    ///
    /// # Errors
    /// There is no such secret, or it cannot be forgotten.
    pub(crate) async fn undefine(&self, host: &Host, uuid: Uuid) -> Result<(), Error> {
        let mut secrets = self.0.lock().await;
        find(&secrets, &Which::Uuid(uuid))?;
        host.store(move |store| store.remove_secret(uuid)).await?;
        secrets.remove(&uuid);
        Ok(())
    }
}

/// On the disk, or on the disk no more when it became one of memory alone.
async fn keep(host: &Host, uuid: Uuid, entry: &Entry) -> Result<(), Error> {
    if entry.secret.ephemeral {
        return host.store(move |store| store.remove_secret(uuid)).await.map(drop);
    }
    let stored = entry.stored(uuid);
    host.store(move |store| store.save_secret(&stored)).await
}

fn find<'a>(secrets: &'a BTreeMap<Uuid, Entry>, which: &Which) -> Result<(Uuid, &'a Entry), Error> {
    let (found, by) = match which {
        Which::Uuid(uuid) => (secrets.get_key_value(uuid), format!("uuid '{uuid}'")),
        Which::Usage(usage, id) => {
            let matches =
                |(_, entry): &(&Uuid, &Entry)| entry.secret.usage == *usage && entry.secret.usage_id == *id;
            (secrets.iter().find(matches), format!("usage '{id}'"))
        }
    };
    let (uuid, entry) = found.ok_or_else(|| {
        Error::of(ErrorCode::NO_SECRET, Origin::SECRET, format!("no secret with matching {by}"))
    })?;
    Ok((*uuid, entry))
}

fn value_of(uuid: Uuid, entry: &Entry) -> Result<SecretValue, Error> {
    entry.value.clone().ok_or_else(|| {
        let text = format!("secret '{uuid}' does not have a value");
        Error::of(ErrorCode::NO_SECRET, Origin::SECRET, text)
    })
}

/// A description that cannot be read, as a client is to see it.
pub(crate) fn unreadable(error: &ParseError) -> Error {
    let code = i32::try_from(error.code()).map_or(ErrorCode::XML_ERROR, ErrorCode);
    Error::new(code, Origin::SECRET, error.to_string())
}

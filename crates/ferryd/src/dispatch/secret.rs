//! Secrets: described, given a value, listed, forgotten. What they are for is [`crate::secrets`].

use ferry_domxml::secret::{Secret, SecretUsage};
use ferry_rpc::error::Error;
use ferry_rpc::proto::{
    ConnectListAllSecrets, ConnectListAllSecretsReply, ConnectListSecrets, ConnectListSecretsReply,
    ConnectNumOfSecrets, SecretDefineXml, SecretGetValue, SecretGetValueReply, SecretGetXmlDesc,
    SecretLookupByUsage, SecretLookupByUuid, SecretRef, SecretSetValue, SecretUndefine,
};

use super::{Context, accept_flags, int};
use crate::secrets::{Which, unreadable};

/// `VIR_CONNECT_LIST_SECRETS_*`: ephemeral, and not; private, and not.
const EPHEMERAL: u32 = 0x1;
const NO_EPHEMERAL: u32 = 0x2;
const PRIVATE: u32 = 0x4;
const NO_PRIVATE: u32 = 0x8;

pub(super) async fn list(
    context: Context,
    call: ConnectListAllSecrets,
) -> Result<ConnectListAllSecretsReply, Error> {
    let all = EPHEMERAL | NO_EPHEMERAL | PRIVATE | NO_PRIVATE;
    accept_flags(call.flags, all, "secretConnectListAllSecrets")?;
    let passes = |is: bool, yes: u32, no: u32| {
        let asked = call.flags & (yes | no);
        asked == 0 || asked & (if is { yes } else { no }) != 0
    };
    let secrets = context.host.secrets.list().await;
    let passing = secrets.into_iter().filter(|(_, secret)| {
        passes(secret.ephemeral, EPHEMERAL, NO_EPHEMERAL) && passes(secret.private, PRIVATE, NO_PRIVATE)
    });
    let found: Vec<SecretRef> = passing.map(|(reference, _)| reference).collect();
    let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
    Ok(ConnectListAllSecretsReply { secrets: if call.need_results { found } else { Vec::new() }, count })
}

pub(super) async fn number(context: Context, _: ConnectNumOfSecrets) -> Result<i32, Error> {
    Ok(int(context.host.secrets.list().await.len()))
}

pub(super) async fn uuids(
    context: Context,
    call: ConnectListSecrets,
) -> Result<ConnectListSecretsReply, Error> {
    let most = usize::try_from(call.maxuuids).unwrap_or(0);
    let secrets = context.host.secrets.list().await;
    let uuids = secrets.iter().take(most).map(|(secret, _)| secret.uuid.hyphenated().to_string());
    Ok(ConnectListSecretsReply { uuids: uuids.collect() })
}

pub(super) async fn by_uuid(context: Context, call: SecretLookupByUuid) -> Result<SecretRef, Error> {
    context.host.secrets.find(&Which::Uuid(call.uuid)).await.map(|(reference, _)| reference)
}

pub(super) async fn by_usage(context: Context, call: SecretLookupByUsage) -> Result<SecretRef, Error> {
    // An unknown kind of use is one that no secret has.
    let usage = SecretUsage::of_number(call.usage_type).unwrap_or(SecretUsage::None);
    context.host.secrets.find(&Which::Usage(usage, call.usage_id)).await.map(|(reference, _)| reference)
}

pub(super) async fn define(context: Context, call: SecretDefineXml) -> Result<SecretRef, Error> {
    const VALIDATE: u32 = 0x1;
    accept_flags(call.flags, VALIDATE, "secretDefineXML")?;
    let secret = Secret::parse(&call.xml).map_err(|error| unreadable(&error))?;
    context.host.secrets.define(&context.host, secret).await
}

pub(super) async fn xml(context: Context, call: SecretGetXmlDesc) -> Result<String, Error> {
    accept_flags(call.flags, 0, "secretGetXMLDesc")?;
    let (_, secret) = context.host.secrets.find(&Which::Uuid(call.secret.uuid)).await?;
    Ok(secret.format())
}

pub(super) async fn set_value(context: Context, call: SecretSetValue) -> Result<(), Error> {
    accept_flags(call.flags, 0, "secretSetValue")?;
    context.host.secrets.set_value(&context.host, call.secret.uuid, call.value).await
}

pub(super) async fn value(context: Context, call: SecretGetValue) -> Result<SecretGetValueReply, Error> {
    accept_flags(call.flags, 0, "secretGetValue")?;
    let value = context.host.secrets.value_for_client(call.secret.uuid).await?;
    Ok(SecretGetValueReply { value })
}

pub(super) async fn undefine(context: Context, call: SecretUndefine) -> Result<(), Error> {
    context.host.secrets.undefine(&context.host, call.secret.uuid).await
}

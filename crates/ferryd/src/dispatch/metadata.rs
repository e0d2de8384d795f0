//! What is said about a domain: title, description, other programs' data, and its name.

use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::{AffectFlags, Flags as _};
use ferry_rpc::proto::{DomainGetMetadata, DomainRename, DomainSetMetadata};
use ferry_rpc::values::MetadataKind;

use super::{Context, accept_flags, definition};
use crate::driver::Request;
use crate::driver::change::{Change, Metadata};

/// What stock answers to a rename that has succeeded.
const RENAMED: i32 = 0;

/// Title, description, or another program's data.
pub(super) fn get(context: &Context, call: DomainGetMetadata) -> Result<String, Error> {
    const URI: &str = "uri in virDomainGetMetadata must";
    match (call.kind, &call.uri) {
        (MetadataKind::TITLE | MetadataKind::DESCRIPTION, Some(_)) => {
            return Err(invalid(format!("{URI} be NULL")));
        }
        (MetadataKind::ELEMENT, None) => return Err(invalid(format!("{URI} not be NULL"))),
        _ => {}
    }
    let accepted = call.flags.accept(AffectFlags::ALL, "virDomainObjGetMetadata");
    let flags = accepted.map_err(|error| Error { origin: Origin::DOMAIN, ..error })?;
    let view = context.view(&call.domain)?;
    let domain = definition(&view, flags)?;
    let found = match call.kind {
        MetadataKind::TITLE => domain.title.clone(),
        MetadataKind::DESCRIPTION => domain.description.clone(),
        MetadataKind::ELEMENT => {
            let uri = call.uri.unwrap_or_default();
            domain.metadata.as_ref().and_then(|metadata| metadata.entry(&uri))
        }
        MetadataKind(other) => {
            let text = format!("unknown metadata type '{other}'");
            return Err(Error::of(ErrorCode::INVALID_ARG, Origin::DOMAIN, text));
        }
    };
    found.ok_or_else(|| {
        let text = "Requested metadata element is not present";
        Error::of(ErrorCode::NO_DOMAIN_METADATA, Origin::DOMAIN, text)
    })
}

/// Sets or removes one of them.
pub(super) async fn set(context: Context, call: DomainSetMetadata) -> Result<(), Error> {
    check(&call)?;
    let affect = call.flags.accept(AffectFlags::ALL, "qemuDomainSetMetadata")?;
    let metadata = Metadata { kind: call.kind, text: call.metadata, key: call.key, uri: call.uri };
    let change = Change::Metadata(metadata);
    context.domain(&call.domain)?.ask(|reply| Request::Change { change, affect, reply }).await
}

/// What stock's library refuses before it asks a driver.
fn check(call: &DomainSetMetadata) -> Result<(), Error> {
    let argument =
        |name: &str, text: &str| Err(invalid(format!("{name} in virDomainSetMetadata must {text}")));
    match call.kind {
        MetadataKind::TITLE | MetadataKind::DESCRIPTION => {
            let has_line_end = call.metadata.as_ref().is_some_and(|text| text.contains('\n'));
            if call.kind == MetadataKind::TITLE && has_line_end {
                return Err(invalid("metadata title can't contain newlines".to_owned()));
            }
            if call.uri.is_some() {
                return argument("uri", "be NULL");
            }
            if call.key.is_some() {
                return argument("key", "be NULL");
            }
        }
        MetadataKind::ELEMENT => {
            if call.uri.is_none() {
                return argument("uri", "not be NULL");
            }
            if call.metadata.is_some() && call.key.is_none() {
                return argument("key", "not be NULL");
            }
        }
        _ => {}
    }
    Ok(())
}

/// Gives a domain another name.
pub(super) async fn rename(context: Context, call: DomainRename) -> Result<i32, Error> {
    accept_flags(call.flags, 0, "qemuDomainRename")?;
    let name = call.new_name.unwrap_or_default();
    if name.is_empty() {
        return Err(invalid("new_name in virDomainRename must not be empty string".to_owned()));
    }
    context.domain(&call.domain)?.ask(|reply| Request::Rename { name, reply }).await.map(|()| RENAMED)
}

fn invalid(text: String) -> Error {
    Error::new(ErrorCode::INVALID_ARG, Origin::DOMAIN, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_rpc::proto::DomainRef;

    #[test]
    fn arguments_that_do_not_belong_to_a_kind_are_refused() {
        let call = |kind, metadata: &str, key: Option<&str>, uri: Option<&str>| DomainSetMetadata {
            domain: DomainRef { name: "a".to_owned(), uuid: uuid::Uuid::nil(), id: -1 },
            kind,
            metadata: Some(metadata.to_owned()),
            key: key.map(str::to_owned),
            uri: uri.map(str::to_owned),
            flags: AffectFlags::NONE,
        };
        let refusal = |call| check(&call).unwrap_err().message;
        assert!(check(&call(MetadataKind::TITLE, "a", None, None)).is_ok());
        assert!(check(&call(MetadataKind::DESCRIPTION, "a\nb", None, None)).is_ok());
        assert_eq!(
            refusal(call(MetadataKind::TITLE, "a\nb", None, None)),
            "metadata title can't contain newlines"
        );
        assert_eq!(
            refusal(call(MetadataKind::TITLE, "a", Some("k"), None)),
            "key in virDomainSetMetadata must be NULL"
        );
        assert_eq!(
            refusal(call(MetadataKind::ELEMENT, "<a/>", None, Some("u"))),
            "key in virDomainSetMetadata must not be NULL"
        );
        assert!(check(&call(MetadataKind::ELEMENT, "<a/>", Some("k"), Some("u"))).is_ok());
    }
}

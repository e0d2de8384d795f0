//! What is said about a domain: title, description, other programs' data, its name, and what becomes of it when the guest
//! ends a life of its own accord.

use ferry_domain::Operation;
use ferry_domxml::{Domain, Element, OnCrash, OnEvent};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::values::{DefinedDetail, LifecycleEvent, MetadataKind, UndefinedDetail};

use super::Driver;
use super::change::{Affected, LifecycleAction, Metadata, check};
use crate::events::DomainEvent;
use crate::perform::settings;
use crate::refuse;

impl Driver {
    /// Sets or removes a piece of metadata. One that is removed need not be there.
    pub(super) async fn set_metadata(&mut self, piece: Metadata, affected: Affected) -> Result<(), Error> {
        let (mut live, mut config) = (self.live_copy(affected), self.config_copy(affected));
        for domain in live.iter_mut().chain(&mut config) {
            describe(domain, &piece)?;
            refuse::showable(domain)?;
        }
        self.keep_changed(live, config).await?;
        let uri = if piece.kind == MetadataKind::ELEMENT { piece.uri } else { None };
        self.emit(DomainEvent::MetadataChange { kind: piece.kind, uri });
        Ok(())
    }

    /// What happens when the guest powers off, reboots or crashes.
    pub(super) async fn set_lifecycle(
        &mut self,
        action: LifecycleAction,
        affected: Affected,
    ) -> Result<(), Error> {
        let (mut live, mut config) = (self.live_copy(affected), self.config_copy(affected));
        for domain in live.iter_mut().chain(&mut config) {
            set_action(domain, action)?;
        }
        if let (Some(live), LifecycleAction::Reboot(_)) = (&live, action) {
            let monitor = self.running()?.monitor.clone();
            settings::on_reboot(&monitor, live).await.map_err(refuse::monitor)?;
        }
        self.keep_changed(live, config).await
    }

    /// Gives a domain that does not run another name.
    pub(super) async fn rename(&mut self, name: String) -> Result<(), Error> {
        self.admit(Operation::Modify)?;
        let invalid = |text: &str| Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
        if self.guest.is_some() {
            return invalid("cannot rename active domain");
        }
        let Some(config) = &self.config else {
            return invalid("cannot rename a transient domain");
        };
        if self.migration.is_some() || !self.settling.is_empty() || self.moved_to.is_some() {
            // The other side knows the domain by its name.
            return invalid("cannot rename a domain whose migration is not settled");
        }
        if name == self.name {
            return invalid("Can't rename domain to itself");
        }
        let mut renamed = Domain::clone(config);
        renamed.name.clone_from(&name);
        check(&renamed)?;
        self.host.registry.rename(self.uuid, &name)?;
        if let Err(error) = self.keep(renamed).await {
            // The old name is still this domain's, so it can be had back.
            let _ = self.host.registry.rename(self.uuid, &self.name);
            return Err(error);
        }
        self.emit_lifecycle(LifecycleEvent::UNDEFINED, UndefinedDetail::RENAMED.0);
        self.name = name;
        self.emit_lifecycle(LifecycleEvent::DEFINED, DefinedDetail::RENAMED.0);
        Ok(())
    }
}

fn describe(domain: &mut Domain, piece: &Metadata) -> Result<(), Error> {
    let text = piece.text.clone().filter(|text| !text.is_empty());
    match piece.kind {
        MetadataKind::TITLE => domain.title = text,
        MetadataKind::DESCRIPTION => domain.description = text,
        MetadataKind::ELEMENT => {
            let uri = piece.uri.as_deref().unwrap_or_default();
            let mut metadata = domain.metadata.take().unwrap_or_default();
            metadata.element.name = "metadata".to_owned();
            metadata.remove(uri);
            if let Some(text) = text {
                let entry = Element::parse(&text).map_err(|error| {
                    Error::new(ErrorCode::XML_DETAIL, Origin::XML, format!("(metadata_xml): {error}"))
                })?;
                let key = piece.key.as_deref().unwrap_or_default();
                if !metadata.add(entry, key, uri) {
                    let text = "failed to validate prefix for a new XML namespace";
                    return Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::XML, text));
                }
            }
            domain.metadata = Some(metadata).filter(|metadata| metadata.entries().next().is_some());
        }
        MetadataKind(other) => {
            let text = format!("unknown metadata type '{other}'");
            return Err(Error::of(ErrorCode::INVALID_ARG, Origin::DOMAIN, text));
        }
    }
    Ok(())
}

fn set_action(domain: &mut Domain, action: LifecycleAction) -> Result<(), Error> {
    let refused = |text: String| Err(Error::of(ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU, text));
    match action {
        LifecycleAction::Poweroff(action) => domain.on_poweroff = Some(action),
        LifecycleAction::Reboot(action) => domain.on_reboot = Some(action),
        LifecycleAction::Crash(action) => domain.on_crash = Some(action),
    }
    let (poweroff, reboot) = (domain.on_poweroff, domain.on_reboot);
    let renames = [poweroff, reboot].contains(&Some(OnEvent::RenameRestart))
        || domain.on_crash == Some(OnCrash::RenameRestart);
    if renames {
        return refused(
            "qemu driver doesn't support the 'rename-restart' action for 'on_reboot'/'on_poweroff'/'on_crash'".to_owned(),
        );
    }
    if [poweroff, reboot].contains(&Some(OnEvent::Preserve)) {
        return refused(
            "qemu driver doesn't support the 'preserve' action for 'on_reboot'/'on_poweroff'".to_owned(),
        );
    }
    if poweroff == Some(OnEvent::Restart) && reboot == Some(OnEvent::Destroy) {
        return refused(
            "qemu driver doesn't support 'onReboot' set to 'destroy and 'onPoweroff' set to 'reboot'"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> Domain {
        Domain::parse(
            "<domain type='qemu'><name>a</name><memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain>",
        )
        .unwrap()
    }

    fn piece(kind: MetadataKind, text: &str) -> Metadata {
        Metadata {
            kind,
            text: Some(text.to_owned()),
            key: Some("k".to_owned()),
            uri: Some("http://x/".to_owned()),
        }
    }

    #[test]
    fn metadata_is_set_replaced_and_removed() {
        let mut domain = domain();
        describe(&mut domain, &piece(MetadataKind::TITLE, "t")).unwrap();
        describe(&mut domain, &piece(MetadataKind::ELEMENT, "<a b='c'><d/></a>")).unwrap();
        describe(&mut domain, &piece(MetadataKind::ELEMENT, "<a b='d'/>")).unwrap();
        assert_eq!(domain.title.as_deref(), Some("t"));
        let metadata = domain.metadata.clone().unwrap();
        assert_eq!(metadata.entry("http://x/").unwrap(), "<a b=\"d\"/>");
        assert_eq!(metadata.entries().count(), 1);
        describe(&mut domain, &piece(MetadataKind::ELEMENT, "")).unwrap();
        describe(&mut domain, &piece(MetadataKind::TITLE, "")).unwrap();
        assert_eq!((domain.metadata, domain.title), (None, None));
    }

    #[test]
    fn what_is_no_metadata_is_refused() {
        let broken = describe(&mut domain(), &piece(MetadataKind::ELEMENT, "<a>")).unwrap_err();
        assert_eq!((broken.code.0, broken.origin.0), (35, 5));
        let key = Metadata { key: Some("k k".to_owned()), ..piece(MetadataKind::ELEMENT, "<a/>") };
        let prefix = describe(&mut domain(), &key).unwrap_err();
        assert_eq!(prefix.message, "internal error: failed to validate prefix for a new XML namespace");
        assert_eq!(describe(&mut domain(), &piece(MetadataKind(9), "x")).unwrap_err().code.0, 8);
    }

    #[test]
    fn actions_that_contradict_each_other_are_refused() {
        let mut domain = domain();
        set_action(&mut domain, LifecycleAction::Poweroff(OnEvent::Restart)).unwrap();
        assert!(set_action(&mut domain, LifecycleAction::Reboot(OnEvent::Destroy)).is_err());
        for action in [
            LifecycleAction::Poweroff(OnEvent::RenameRestart),
            LifecycleAction::Reboot(OnEvent::Preserve),
            LifecycleAction::Crash(OnCrash::RenameRestart),
        ] {
            assert_eq!(set_action(&mut self::domain(), action).unwrap_err().code.0, 67, "{action:?}");
        }
    }
}

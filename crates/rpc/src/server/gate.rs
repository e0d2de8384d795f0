//! Who may call what: before the connection is opened, and on a read-only one.
//!
//! The daemon asks [`Gate::check`] for every call before it looks at the arguments' meaning, and tells the gate
//! when a connection is opened and closed. Stock decodes the arguments first, so a call that is both
//! undecodable and forbidden is answered as undecodable there; clients do not send such calls.

use crate::error::{Error, ErrorCode, Origin};
use crate::flags::XmlFlags;
use crate::procedure::{Access, Procedure};
use crate::proto::ConnectSupportsFeature;
use crate::values::Feature;

/// What one connection may do at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    opened: bool,
    read_only: bool,
}

impl Gate {
    /// A fresh connection. `read_only` when it came through the read-only socket.
    #[must_use]
    pub const fn new(read_only: bool) -> Self {
        Self { opened: false, read_only }
    }

    /// Whether procedure 1 has succeeded and procedure 2 has not been called since.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.opened
    }

    /// Whether calls that change something are refused.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The connection is opened; `read_only` when the client asked for that.
    ///
    /// # Errors
    /// 1/7 when it is open already; it stays as it was.
    pub fn open(&mut self, read_only: bool) -> Result<(), Error> {
        if self.opened {
            return Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::RPC, "connection already open"));
        }
        self.opened = true;
        self.read_only |= read_only;
        Ok(())
    }

    /// The connection is closed.
    pub fn close(&mut self) {
        self.opened = false;
    }

    /// Whether a procedure may be called now. For procedure 60 see also [`Gate::check_feature`], for procedure 14
    /// [`Gate::check_xml`].
    ///
    /// # Errors
    /// 1/7 when the connection has to be opened first; 29 with the procedure's own origin,
    /// `read only access prevents virDomainCreate`, when it is read-only.
    pub fn check(&self, procedure: Procedure) -> Result<(), Error> {
        use Procedure as P;
        let always = matches!(
            procedure,
            P::AuthList
                | P::AuthSaslInit
                | P::AuthSaslStart
                | P::AuthSaslStep
                | P::AuthPolkit
                | P::ConnectOpen
                | P::ConnectClose
                | P::ConnectSupportsFeature
        );
        if !always && !self.opened {
            return Err(not_open());
        }
        match procedure.access() {
            Access::Write { api, origin } if self.read_only => {
                let detail = format!("read only access prevents {api}");
                Err(Error::of(ErrorCode::OPERATION_DENIED, origin, detail))
            }
            Access::Write { .. } | Access::Read | Access::Event => Ok(()),
        }
    }

    /// Whether a feature may be asked for now: before the connection is opened only keepalive may.
    ///
    /// # Errors
    /// 1/7.
    pub fn check_feature(&self, call: &ConnectSupportsFeature) -> Result<(), Error> {
        if self.opened || call.feature == Feature::KEEPALIVE { Ok(()) } else { Err(not_open()) }
    }

    /// Whether the XML may be shown in this form: a read-only connection sees no secrets.
    ///
    /// # Errors
    /// 29/20.
    pub fn check_xml(&self, flags: XmlFlags) -> Result<(), Error> {
        if self.read_only && flags.intersects(XmlFlags::SECURE | XmlFlags::MIGRATABLE) {
            let detail = "virDomainGetXMLDesc with secure flag";
            return Err(Error::of(ErrorCode::OPERATION_DENIED, Origin::DOMAIN, detail));
        }
        Ok(())
    }
}

fn not_open() -> Error {
    Error::of(ErrorCode::INTERNAL_ERROR, Origin::RPC, "hypervisor connection not open")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(result: Result<(), Error>) -> (i32, i32, String) {
        let error = result.unwrap_err();
        (error.code.0, error.origin.0, error.message)
    }

    #[test]
    fn before_open_only_the_opening_calls_pass() {
        let mut gate = Gate::new(false);
        for procedure in [Procedure::AuthList, Procedure::ConnectSupportsFeature, Procedure::ConnectOpen] {
            assert_eq!(gate.check(procedure), Ok(()));
        }
        let not_open = (1, 7, "internal error: hypervisor connection not open".to_owned());
        assert_eq!(refusal(gate.check(Procedure::ConnectGetHostname)), not_open);
        assert_eq!(gate.check_feature(&ConnectSupportsFeature { feature: Feature::KEEPALIVE }), Ok(()));
        let asked = ConnectSupportsFeature { feature: Feature::MIGRATION_V3 };
        assert_eq!(refusal(gate.check_feature(&asked)), not_open);

        gate.open(false).unwrap();
        assert_eq!(gate.check(Procedure::ConnectGetHostname), Ok(()));
        assert_eq!(gate.check_feature(&asked), Ok(()));
        let twice = (1, 7, "internal error: connection already open".to_owned());
        assert_eq!(refusal(gate.open(false)), twice);
        assert!(gate.is_open());
        gate.close();
        assert_eq!(refusal(gate.check(Procedure::DomainCreate)), not_open);
    }

    #[test]
    fn a_read_only_connection_changes_nothing_and_sees_no_secret() {
        let mut gate = Gate::new(false);
        gate.open(true).unwrap();
        assert_eq!(gate.check(Procedure::DomainGetInfo), Ok(()));
        let start = (29, 20, "operation forbidden: read only access prevents virDomainCreate".to_owned());
        assert_eq!(refusal(gate.check(Procedure::DomainCreate)), start);
        assert_eq!(refusal(gate.check(Procedure::StoragePoolDestroy)).1, 18, "the origin is the procedure's");
        assert_eq!(gate.check_xml(XmlFlags::INACTIVE), Ok(()));
        let text = "operation forbidden: virDomainGetXMLDesc with secure flag".to_owned();
        assert_eq!(refusal(gate.check_xml(XmlFlags::SECURE)), (29, 20, text.clone()));
        assert_eq!(refusal(gate.check_xml(XmlFlags::MIGRATABLE)), (29, 20, text));

        let mut socket = Gate::new(true);
        socket.open(false).unwrap();
        assert!(socket.is_read_only(), "flags do not widen what the socket allows");
    }
}

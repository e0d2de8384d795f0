//! Registering for domain events.
//!
//! Layouts only; the daemon and the client say what they do with them.

use super::DomainRef;
use crate::values::EventId;

calls! {
    ConnectDomainEventRegister {} -> i32;

    ConnectDomainEventDeregister {} -> i32;

    ConnectDomainEventRegisterAny {
        event_id: EventId,
    } -> ();

    ConnectDomainEventDeregisterAny {
        event_id: EventId,
    } -> ();

    ConnectDomainEventCallbackRegisterAny {
        event_id: EventId,
        domain: Option<DomainRef>,
    } -> i32;

    ConnectDomainEventCallbackDeregisterAny {
        callback_id: i32,
    } -> ();
}

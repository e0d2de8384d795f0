//! Registering for domain events.
//!
//! Layouts only; the daemon and the client say what they do with them.

use super::DomainRef;
use crate::values::EventId;

calls! {
    /// Registers for lifecycle events in the oldest form; its messages carry no callback id. Answered with
    /// the number of registrations.
    ConnectDomainEventRegister {} -> i32;

    ConnectDomainEventDeregister {} -> i32;

    /// Registers for an event in the older form; its messages carry no callback id.
    ConnectDomainEventRegisterAny {
        event_id: EventId,
    } -> ();

    ConnectDomainEventDeregisterAny {
        event_id: EventId,
    } -> ();

    /// Registers for an event, of one domain or of all; answered with the callback id. 8/0 for the same event
    /// and domain twice, 1/7 for an event that does not exist.
    ConnectDomainEventCallbackRegisterAny {
        event_id: EventId,
        domain: Option<DomainRef>,
    } -> i32;

    /// Takes a registration back; 1/7 for an id that is not known.
    ConnectDomainEventCallbackDeregisterAny {
        callback_id: i32,
    } -> ();
}

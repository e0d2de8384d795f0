//! Registering for domain events. The [hub](crate::events::Hub) does the work.

use ferry_rpc::error::Error;
use ferry_rpc::proto::{
    ConnectDomainEventCallbackDeregisterAny, ConnectDomainEventCallbackRegisterAny,
    ConnectDomainEventDeregister, ConnectDomainEventDeregisterAny, ConnectDomainEventRegister,
    ConnectDomainEventRegisterAny, QemuConnectDomainMonitorEventDeregister,
    QemuConnectDomainMonitorEventRegister,
};
use ferry_rpc::values::EventId;

use super::{Context, accept_flags};
use crate::events::Wanted;

/// What stock answers to the oldest calls, whatever their result's name promises.
const ANSWERED: i32 = 0;

/// The answer is the callback id. A domain that does not exist may be registered for: it may come.
pub(super) fn register(context: &Context, call: ConnectDomainEventCallbackRegisterAny) -> Result<i32, Error> {
    let domain = call.domain.map(|domain| domain.uuid);
    context.host.events.register(&context.client, &context.outbound, call.event_id, domain)
}

pub(super) fn deregister(
    context: &Context,
    call: ConnectDomainEventCallbackDeregisterAny,
) -> Result<(), Error> {
    context.host.events.deregister(&context.client, call.callback_id)
}

pub(super) fn register_bare(context: &Context, call: ConnectDomainEventRegisterAny) -> Result<(), Error> {
    context.host.events.register_bare(&context.client, &context.outbound, call.event_id)
}

pub(super) fn deregister_bare(context: &Context, call: ConnectDomainEventDeregisterAny) -> Result<(), Error> {
    context.host.events.deregister_bare(&context.client, call.event_id)
}

pub(super) fn register_lifecycle(context: &Context, _: ConnectDomainEventRegister) -> Result<i32, Error> {
    let registered =
        context.host.events.register_bare(&context.client, &context.outbound, EventId::LIFECYCLE);
    registered.map(|()| ANSWERED)
}

pub(super) fn deregister_lifecycle(context: &Context, _: ConnectDomainEventDeregister) -> Result<i32, Error> {
    context.host.events.deregister_bare(&context.client, EventId::LIFECYCLE).map(|()| ANSWERED)
}

/// QEMU's own words, as an operator wants them; the answer is the callback id. A name is a name: patterns are refused.
pub(super) fn listen(context: &Context, call: QemuConnectDomainMonitorEventRegister) -> Result<i32, Error> {
    /// `VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_NOCASE`.
    const NOCASE: u32 = 2;
    accept_flags(call.flags, NOCASE, "qemuConnectDomainQemuMonitorEventRegister")?;
    let wanted = Wanted {
        domain: call.domain.map(|domain| domain.uuid),
        name: call.event,
        any_case: call.flags & NOCASE != 0,
    };
    context.host.events.listen(&context.client, &context.outbound, wanted)
}

pub(super) fn listen_no_more(
    context: &Context,
    call: QemuConnectDomainMonitorEventDeregister,
) -> Result<(), Error> {
    context.host.events.listen_no_more(&context.client, call.callback_id)
}

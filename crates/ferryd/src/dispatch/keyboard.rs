//! Keys pressed from outside, and the interrupt that cannot be masked.

use ferry_qmp::commands::console::{Key, SendKey};
use ferry_qmp::commands::run::InjectNmi;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::{DomainInjectNmi, DomainSendKey};

use super::keycodes::{number, set_name};
use super::{Context, accept_flags, running};
use crate::refuse;

/// Presses keys together, holds them for milliseconds, lets them go.
pub(super) async fn send(context: Context, call: DomainSendKey) -> Result<(), Error> {
    accept_flags(call.flags, 0, "qemuDomainSendKey")?;
    let key = |code: &u32| {
        number(call.codeset, *code).map(Key).ok_or_else(|| {
            let set = set_name(call.codeset);
            let text = format!("cannot translate keycode {code} of {set} codeset to qnum keycode");
            Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, text)
        })
    };
    let keys = call.keycodes.iter().map(key).collect::<Result<_, _>>()?;
    let view = context.view(&call.domain)?;
    let send = SendKey { keys, hold_time: Some(call.holdtime).filter(|ms| *ms > 0) };
    running(&view)?.monitor.execute(&send).await.map_err(refuse::monitor).map(drop)
}

pub(super) async fn inject_nmi(context: Context, call: DomainInjectNmi) -> Result<(), Error> {
    accept_flags(call.flags, 0, "qemuDomainInjectNMI")?;
    let view = context.view(&call.domain)?;
    running(&view)?.monitor.execute(&InjectNmi).await.map_err(refuse::monitor).map(drop)
}

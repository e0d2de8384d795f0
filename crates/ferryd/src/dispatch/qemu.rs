//! The monitor of a guest's QEMU, raw: what an operator types goes to QEMU as it is, and QEMU's answer back.

use ferry_qmp::Request;
use ferry_qmp::commands::guest::HumanMonitorCommand;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::QemuDomainMonitorCommand;
use serde_json::{Map, Value, json};

use super::{Context, accept_flags, running};
use crate::refuse;

/// The command is for people's monitor, not for programs'.
const HMP: u32 = 1;

/// Has QEMU execute a command.
pub(super) async fn monitor_command(
    context: Context,
    call: QemuDomainMonitorCommand,
) -> Result<String, Error> {
    accept_flags(call.flags, HMP, "qemuDomainQemuMonitorCommand")?;
    let view = context.view(&call.domain)?;
    let monitor = &running(&view)?.monitor;
    if call.flags & HMP != 0 {
        let command = HumanMonitorCommand { command_line: call.cmd };
        return monitor.execute(&command).await.map_err(refuse::monitor);
    }
    let (name, arguments, id) = read(&call.cmd)?;
    let request = Request::raw(name, &arguments).map_err(|error| refuse::internal(&refuse::chain(&error)))?;
    let answer = monitor.ask(request).await.map_err(refuse::monitor)?;
    Ok(match answer.outcome {
        // As it came, so that numbers keep their digits.
        Ok(value) => format!("{{\"return\":{},\"id\":{id}}}", value.get()),
        Err(refusal) => {
            json!({"id": id, "error": {"class": refusal.class.as_str(), "desc": refusal.desc}}).to_string()
        }
    })
}

/// Name, arguments and id of a command that somebody has written out.
fn read(text: &str) -> Result<(String, Map<String, Value>, Value), Error> {
    let refused = |detail: &str| {
        Error::of(ErrorCode::INTERNAL_ERROR, Origin::NONE, format!("cannot parse json {text}: {detail}"))
    };
    let Value::Object(mut command) =
        serde_json::from_str(text).map_err(|error| refused(&error.to_string()))?
    else {
        return Err(refused("it is no object"));
    };
    let Some(Value::String(name)) = command.remove("execute") else {
        return Err(refused("it has no 'execute'"));
    };
    let arguments = match command.remove("arguments") {
        None => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err(refused("its 'arguments' are no object")),
    };
    let id = command.remove("id").unwrap_or_else(|| Value::from("ferry"));
    match command.keys().next() {
        None => Ok((name, arguments, id)),
        Some(key) => Err(refused(&format!("'{key}' belongs to no command"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_object_with_a_name() {
        let (name, arguments, id) = read(r#"{"execute":"stop","arguments":{"a":1},"id":7}"#).unwrap();
        assert_eq!((name.as_str(), arguments["a"].clone(), id), ("stop", json!(1), json!(7)));
        assert_eq!(read(r#"{"execute":"stop"}"#).unwrap().2, json!("ferry"));
        for bad in [
            "",
            "stop",
            "[]",
            "{}",
            r#"{"execute":1}"#,
            r#"{"execute":"a","arguments":[]}"#,
            r#"{"execute":"a","exec-oob":"b"}"#,
            "{\"execute\":\"a\"}x",
        ] {
            assert_eq!(read(bad).unwrap_err().code.0, 1, "{bad}");
        }
    }
}

//! What the agent inside a guest does for a client.
//!
//! The driver is not asked: it publishes whether the agent has its channel open, and no call here changes what it holds. The
//! agent is the guest's own program, so whatever it answers is read as a stranger's words.

use std::path::Path;

use ferry_domxml::chardev::{Backend, Channel, ChannelState, SocketMode};
use ferry_domxml::memory::CpuSet;
use ferry_domxml::model::Value as _;
use ferry_qmp::commands::run::RtcResetReinjection;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::AffectFlags;
use ferry_rpc::proto::{
    DomainAuthorizedSshKeysGet, DomainAuthorizedSshKeysGetReply, DomainAuthorizedSshKeysSet, DomainFsfreeze,
    DomainFsthaw, DomainFstrim, DomainGetGuestVcpus, DomainGetGuestVcpusReply, DomainGetHostname,
    DomainGetTime, DomainGetTimeReply, DomainRef, DomainSetGuestVcpus, DomainSetTime, DomainSetUserPassword,
    QemuDomainAgentCommand,
};
use ferry_rpc::typed_param::TypedParam;
use ferry_rpc::values::DomainState;
use serde_json::{Value, json};

use super::{Context, accept_flags, int, running};
use crate::driver::{DomainHandle, Live, View};
use crate::perform::agent::{AgentError, Patience};
use crate::refuse;

/// The name of the agent's channel in the guest.
pub(crate) const CHANNEL: &str = "org.qemu.guest_agent.0";

/// How long an agent may take over a command when its caller has not said.
const PATIENCE: Patience = Patience::Seconds(60);

/// Nanoseconds in a second.
const SECOND_NS: i64 = 1_000_000_000;

/// A guest whose agent can be asked.
pub(super) struct Asked<'a> {
    pub(super) live: &'a Live,
    socket: &'a Path,
}

/// The guest's agent.
///
/// # Errors
/// The guest does not run (55), has no agent's channel (74), or has not opened it (86).
pub(super) fn of(view: &View) -> Result<Asked<'_>, Error> {
    let live = running(view)?;
    if view.state != DomainState::RUNNING {
        return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, "domain is not running"));
    }
    let channels = &live.domain.devices.channels;
    let channel = channels.iter().find(|channel| is_agents(channel));
    let socket = channel.and_then(|channel| match &channel.source.backend {
        Backend::Unix { path: Some(path), mode: SocketMode::Bind } => Some((channel, Path::new(path))),
        _ => None,
    });
    let Some((channel, socket)) = socket else {
        let text = "QEMU guest agent is not configured";
        return Err(Error::of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::QEMU, text));
    };
    if channel.target.state != Some(ChannelState::Connected) {
        let text = "QEMU guest agent is not connected";
        return Err(Error::of(ErrorCode::AGENT_UNRESPONSIVE, Origin::QEMU, text));
    }
    Ok(Asked { live, socket })
}

/// Whether a channel is the agent's.
pub(crate) fn is_agents(channel: &Channel) -> bool {
    channel.target.name.as_deref() == Some(CHANNEL)
}

impl Asked<'_> {
    /// Has the agent do something; gives what it returns.
    ///
    /// # Errors
    /// It refuses or does not answer.
    pub(super) async fn run(&self, command: &str, arguments: Value) -> Result<Value, Error> {
        let command = match arguments {
            Value::Null => json!({"execute": command}),
            arguments => json!({"execute": command, "arguments": arguments}),
        };
        let mut answer = self.ask(&command, PATIENCE).await?;
        Ok(answer.get_mut("return").map(Value::take).unwrap_or_default())
    }

    async fn ask(&self, command: &Value, patience: Patience) -> Result<Value, Error> {
        self.live.agent.ask(self.socket, command, patience).await.map_err(refused)
    }
}

/// Has the guest's agent switch the guest off, or have it boot again. Returns once the agent's channel is closed.
///
/// # Errors
/// As [`of`]; the agent refuses, or the guest is still there after [`PATIENCE`].
pub(super) async fn switch_off(handle: &DomainHandle, reboot: bool) -> Result<(), Error> {
    const SECONDS: u64 = 60;
    let view = handle.view();
    let agent = of(&view)?;
    let mode = if reboot { "reboot" } else { "powerdown" };
    let command = json!({"execute": "guest-shutdown", "arguments": {"mode": mode}});
    let done = handle.until(|view| of(view).is_err());
    agent.live.agent.tell(agent.socket, &command, done, SECONDS).await.map_err(refused)
}

fn refused(error: AgentError) -> Error {
    let code = match &error {
        AgentError::Io(_) | AgentError::Sync | AgentError::Broken(_) => ErrorCode::AGENT_UNRESPONSIVE,
        AgentError::Late { .. } => ErrorCode::AGENT_COMMAND_TIMEOUT,
        AgentError::Refused { .. } => ErrorCode::INTERNAL_ERROR,
    };
    Error::of(code, Origin::QEMU, refuse::chain(&error))
}

/// The agent's answer is not what its protocol says.
pub(super) fn not_understood(command: &str) -> Error {
    Error::of(
        ErrorCode::INTERNAL_ERROR,
        Origin::QEMU,
        format!("guest agent's answer to {command} is not understood"),
    )
}

/// A command as an operator types it. The answer is the agent's own, whole.
pub(super) async fn command(context: Context, call: QemuDomainAgentCommand) -> Result<Option<String>, Error> {
    accept_flags(call.flags, 0, "qemuDomainQemuAgentCommand")?;
    let view = context.view(&call.domain)?;
    let patience = match call.timeout {
        -2 => Patience::Endless,
        -1 => Patience::Seconds(5),
        timeout => Patience::Seconds(u64::try_from(timeout).map_err(|_| {
            let text = format!("guest agent timeout '{timeout}' is less than the minimum '-2'");
            Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text)
        })?),
    };
    let agent = of(&view)?;
    let command: Value = serde_json::from_str(&call.cmd).map_err(|error| {
        let text = format!("cannot parse json {}: {error}", call.cmd);
        Error::of(ErrorCode::INTERNAL_ERROR, Origin::NONE, text)
    })?;
    agent.ask(&command, patience).await.map(|answer| Some(answer.to_string()))
}

/// Has the guest write out its file systems and hold all further writing. The answer is how many they are.
pub(super) async fn freeze(context: Context, call: DomainFsfreeze) -> Result<i32, Error> {
    accept_flags(call.flags, 0, "qemuDomainFSFreeze")?;
    let view = context.view(&call.domain)?;
    let agent = of(&view)?;
    let answer = match call.mountpoints.is_empty() {
        true => agent.run("guest-fsfreeze-freeze", Value::Null).await?,
        false => agent.run("guest-fsfreeze-freeze-list", json!({"mountpoints": call.mountpoints})).await?,
    };
    count(&answer).ok_or_else(|| not_understood("guest-fsfreeze-freeze"))
}

/// Lets the guest write again.
pub(super) async fn thaw(context: Context, call: DomainFsthaw) -> Result<i32, Error> {
    accept_flags(call.flags, 0, "qemuDomainFSThaw")?;
    if !call.mountpoints.is_empty() {
        let text = "specifying mountpoints is not supported";
        return Err(Error::of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::QEMU, text));
    }
    let view = context.view(&call.domain)?;
    let answer = of(&view)?.run("guest-fsfreeze-thaw", Value::Null).await?;
    count(&answer).ok_or_else(|| not_understood("guest-fsfreeze-thaw"))
}

fn count(answer: &Value) -> Option<i32> {
    answer.as_i64().and_then(|count| i32::try_from(count).ok())
}

/// Tells the guest's disks which of their blocks are unused.
pub(super) async fn trim(context: Context, call: DomainFstrim) -> Result<(), Error> {
    accept_flags(call.flags, 0, "qemuDomainFSTrim")?;
    if call.mount_point.is_some() {
        let text = "Specifying mount point is not supported for now";
        return Err(Error::of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::QEMU, text));
    }
    let view = context.view(&call.domain)?;
    of(&view)?.run("guest-fstrim", json!({"minimum": call.minimum})).await.map(drop)
}

/// What the guest calls itself.
pub(super) async fn hostname(context: Context, call: DomainGetHostname) -> Result<String, Error> {
    /// `VIR_DOMAIN_GET_HOSTNAME_*`: from a lease of a network, from the agent.
    const LEASE: u32 = 1;
    const AGENT: u32 = 2;
    accept_flags(call.flags, LEASE | AGENT, "qemuDomainGetHostname")?;
    let view = context.view(&call.domain)?;
    let missing = || {
        let text = format!("no hostname found for domain {}", view.name);
        Error::of(ErrorCode::NO_HOSTNAME, Origin::QEMU, text)
    };
    if call.flags & LEASE != 0 {
        // No network is ours, so nobody here has given a name to a guest.
        running(&view)?;
        return Err(missing());
    }
    let answer = of(&view)?.run("guest-get-host-name", Value::Null).await?;
    answer.get("host-name").and_then(Value::as_str).map(str::to_owned).ok_or_else(missing)
}

/// The guest's clock: seconds since 1970 and nanoseconds.
pub(super) async fn time(context: Context, call: DomainGetTime) -> Result<DomainGetTimeReply, Error> {
    accept_flags(call.flags, 0, "qemuDomainGetTime")?;
    let view = context.view(&call.domain)?;
    let answer = of(&view)?.run("guest-get-time", Value::Null).await?;
    let ns = answer.as_i64().ok_or_else(|| not_understood("guest-get-time"))?;
    let nseconds = u32::try_from(ns.rem_euclid(SECOND_NS)).unwrap_or(0);
    Ok(DomainGetTimeReply { seconds: ns.div_euclid(SECOND_NS), nseconds })
}

/// Sets the guest's clock, or has the guest set it from its hardware clock.
pub(super) async fn set_time(context: Context, call: DomainSetTime) -> Result<(), Error> {
    const SYNC: u32 = 1;
    accept_flags(call.flags, SYNC, "qemuDomainSetTime")?;
    let view = context.view(&call.domain)?;
    let agent = of(&view)?;
    let arguments = if call.flags & SYNC != 0 {
        Value::Null
    } else {
        let ns = call.seconds.checked_mul(SECOND_NS).and_then(|ns| ns.checked_add(call.nseconds.into()));
        let ns = ns.ok_or_else(|| {
            let text = format!("Time '{}' is too big for guest agent", call.seconds);
            Error::of(ErrorCode::OVERFLOW, Origin::QEMU, text)
        })?;
        json!({ "time": ns })
    };
    agent.run("guest-set-time", arguments).await?;
    // Ticks that the guest has missed meanwhile are not to be made up for.
    match agent.live.monitor.execute(&RtcResetReinjection).await {
        Ok(_) => Ok(()),
        Err(error) if error.refusal().is_some() => Ok(()),
        Err(error) => Err(refuse::monitor(error)),
    }
}

/// Sets a password of a user in the guest.
pub(super) async fn set_password(context: Context, call: DomainSetUserPassword) -> Result<(), Error> {
    const ENCRYPTED: u32 = 1;
    accept_flags(call.flags, ENCRYPTED, "qemuDomainSetUserPassword")?;
    let view = context.view(&call.domain)?;
    let arguments = json!({
        "username": call.user.unwrap_or_default(),
        "password": base64(call.password.unwrap_or_default().as_bytes()),
        "crypted": call.flags & ENCRYPTED != 0,
    });
    of(&view)?.run("guest-set-user-password", arguments).await.map(drop)
}

/// The keys with which a user of the guest may log in.
pub(super) async fn ssh_keys(
    context: Context,
    call: DomainAuthorizedSshKeysGet,
) -> Result<DomainAuthorizedSshKeysGetReply, Error> {
    accept_flags(call.flags, 0, "qemuDomainAuthorizedSSHKeysGet")?;
    let view = context.view(&call.domain)?;
    let command = "guest-ssh-get-authorized-keys";
    let answer = of(&view)?.run(command, json!({"username": call.user})).await?;
    let keys = answer.get("keys").and_then(Value::as_array).ok_or_else(|| not_understood(command))?;
    let keys = keys.iter().filter_map(|key| key.as_str().map(str::to_owned)).take(2048).collect();
    Ok(DomainAuthorizedSshKeysGetReply { keys })
}

/// Puts keys in place of a user's, or adds them, or takes them away.
pub(super) async fn set_ssh_keys(context: Context, call: DomainAuthorizedSshKeysSet) -> Result<(), Error> {
    /// `VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_*`.
    const APPEND: u32 = 1;
    const REMOVE: u32 = 2;
    accept_flags(call.flags, APPEND | REMOVE, "qemuDomainAuthorizedSSHKeysSet")?;
    let view = context.view(&call.domain)?;
    let (command, arguments) = match call.flags {
        REMOVE => ("guest-ssh-remove-authorized-keys", json!({"username": call.user, "keys": call.keys})),
        0 | APPEND => {
            let reset = call.flags & APPEND == 0;
            let arguments = json!({"username": call.user, "keys": call.keys, "reset": reset});
            ("guest-ssh-add-authorized-keys", arguments)
        }
        _ => {
            let text = "keys are either added or taken away";
            return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text));
        }
    };
    of(&view)?.run(command, arguments).await.map(drop)
}

/// One of the guest's processors, as the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GuestVcpu {
    id: u64,
    online: bool,
    can_offline: bool,
}

async fn guest_vcpus(agent: &Asked<'_>) -> Result<Vec<GuestVcpu>, Error> {
    let answer = agent.run("guest-get-vcpus", Value::Null).await?;
    let read = |entry: &Value| {
        Some(GuestVcpu {
            id: entry.get("logical-id")?.as_u64()?,
            online: entry.get("online")?.as_bool()?,
            can_offline: entry.get("can-offline").and_then(Value::as_bool).unwrap_or(false),
        })
    };
    let vcpus = answer.as_array().and_then(|entries| entries.iter().map(read).collect());
    vcpus.ok_or_else(|| not_understood("guest-get-vcpus"))
}

/// Which processors the guest has, which of them it uses, and which of those it could do without.
pub(super) async fn vcpus(
    context: Context,
    call: DomainGetGuestVcpus,
) -> Result<DomainGetGuestVcpusReply, Error> {
    accept_flags(call.flags, 0, "qemuDomainGetGuestVcpus")?;
    let view = context.view(&call.domain)?;
    let vcpus = guest_vcpus(&of(&view)?).await?;
    let list = |chosen: fn(&GuestVcpu) -> bool| {
        number_list(vcpus.iter().filter(|cpu| chosen(cpu)).map(|cpu| cpu.id))
    };
    Ok(DomainGetGuestVcpusReply {
        params: vec![
            TypedParam::new("vcpus", list(|_| true)),
            TypedParam::new("online", list(|cpu| cpu.online)),
            TypedParam::new("offlinable", list(|cpu| cpu.can_offline)),
        ],
    })
}

/// How many processors the guest uses.
pub(super) async fn number_of_vcpus(view: &View) -> Result<i32, Error> {
    let vcpus = guest_vcpus(&of(view)?).await?;
    Ok(int(vcpus.iter().filter(|cpu| cpu.online).count()))
}

/// Has the guest use so many of its processors.
pub(super) async fn set_vcpus(
    context: &Context,
    domain: &DomainRef,
    count: u32,
    affect: AffectFlags,
) -> Result<(), Error> {
    let view = context.view(domain)?;
    if affect.contains(AffectFlags::CONFIG) {
        let text = "setting vcpus via guest agent isn't supported for offline domain";
        return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text));
    }
    let agent = of(&view)?;
    let most = agent.live.domain.vcpus.current();
    if count > most {
        let text = format!(
            "requested vcpu count is greater than the count of enabled vcpus in the domain: {count} > {most}"
        );
        return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text));
    }
    let switched = switch(&guest_vcpus(&agent).await?, usize::try_from(count).unwrap_or(usize::MAX))
        .ok_or_else(|| {
            let text = "failed to set vcpus via guest agent: too few of them can be switched";
            Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text)
        })?;
    let entries = switched.iter().map(|cpu| json!({"logical-id": cpu.id, "online": cpu.online})).collect();
    set_states(&agent, entries).await
}

/// Has the guest use certain of its processors, or stop to.
pub(super) async fn switch_vcpus(context: Context, call: DomainSetGuestVcpus) -> Result<(), Error> {
    accept_flags(call.flags, 0, "qemuDomainSetGuestVcpus")?;
    let chosen = CpuSet::parse(&call.cpumap).map_err(|_| {
        let text = format!("Failed to parse bitmap '{}'", call.cpumap);
        Error::of(ErrorCode::INVALID_ARG, Origin::NONE, text)
    })?;
    let view = context.view(&call.domain)?;
    let agent = of(&view)?;
    let known = guest_vcpus(&agent).await?;
    let numbers = chosen.ranges().iter().flat_map(|&(first, last)| first..=last).map(u64::from);
    let (mut entries, mut missing) = (Vec::new(), Vec::new());
    for number in numbers {
        match known.iter().find(|cpu| cpu.id == number) {
            None => missing.push(number),
            Some(cpu) if !call.online && !cpu.can_offline => {
                let text = format!("vCPU {number} can't be offlined by the guest");
                return Err(Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, text));
            }
            Some(cpu) if cpu.online == call.online => {}
            Some(_) => entries.push(json!({"logical-id": number, "online": call.online})),
        }
    }
    if !missing.is_empty() {
        let text = format!("guest is missing vCPUs '{}'", number_list(missing.into_iter()));
        return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text));
    }
    set_states(&agent, entries).await
}

/// Switches processors to what each entry says.
async fn set_states(agent: &Asked<'_>, entries: Vec<Value>) -> Result<(), Error> {
    if entries.is_empty() {
        return Ok(());
    }
    let number = entries.len();
    let answer = agent.run("guest-set-vcpus", json!({ "vcpus": entries })).await?;
    // The agent says how many it came to; what is left it refuses when it is asked again.
    if answer.as_u64() == u64::try_from(number).ok() {
        return Ok(());
    }
    Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, "failed to set vcpus via guest agent"))
}

/// The processors that have to change so that `count` are in use; `None` when they cannot.
fn switch(vcpus: &[GuestVcpu], count: usize) -> Option<Vec<GuestVcpu>> {
    let online = vcpus.iter().filter(|cpu| cpu.online).count();
    let turn = |cpu: &GuestVcpu| GuestVcpu { online: !cpu.online, ..*cpu };
    let (missing, chosen): (usize, Vec<_>) = if count >= online {
        (count - online, vcpus.iter().filter(|cpu| !cpu.online).map(turn).collect())
    } else {
        (online - count, vcpus.iter().rev().filter(|cpu| cpu.online && cpu.can_offline).map(turn).collect())
    };
    (chosen.len() >= missing).then(|| chosen.into_iter().take(missing).collect())
}

/// `0-3,7`, as clients read sets of processors.
fn number_list(numbers: impl Iterator<Item = u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let range = |(first, last): &(u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter = LETTERS[((word >> (18 - 6 * place)) & 0x3f) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_letters() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("\u{ff}", "w78="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn sets_of_processors_are_shown_as_ranges() {
        assert_eq!(number_list([0, 1, 2, 4, 6, 7].into_iter()), "0-2,4,6-7");
        assert_eq!(number_list([].into_iter()), "");
        assert_eq!(number_list([u64::MAX, 0].into_iter()), format!("{},0", u64::MAX));
    }

    #[test]
    fn only_processors_that_can_be_switched_are() {
        let cpu = |id, online, can_offline| GuestVcpu { id, online, can_offline };
        let vcpus = [cpu(0, true, false), cpu(1, true, true), cpu(2, true, true), cpu(3, false, true)];
        let ids = |count| {
            switch(&vcpus, count).map(|cpus| cpus.iter().map(|cpu| (cpu.id, cpu.online)).collect::<Vec<_>>())
        };
        assert_eq!(ids(4), Some(vec![(3, true)]));
        assert_eq!(ids(3), Some(vec![]));
        assert_eq!(ids(1), Some(vec![(2, false), (1, false)]));
        assert_eq!(ids(5), None);
        assert_eq!(ids(0), None);
    }
}

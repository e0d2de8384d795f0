//! The loop between two hosts that answer as a test tells them.

use ferry_rpc::ParamValue;

use super::*;
use crate::driver::Lost;

const FERRYS: &str = "<qemu-migration><name>vm</name><uuid>05050505-0505-0505-0505-050505050505</uuid>\
    <hostname>a</hostname><hostuuid>06060606-0606-0606-0606-060606060606</hostuuid>\
    <ferry:handover xmlns:ferry='https://github.com/ferry-vm/ferry/ns/handover/1' \
    id='0fa00102030405060708090a0b0c0dff' epoch='1' secret='0fa00102030405060708090a0b0c0dff'/></qemu-migration>\0";

/// One host, either side: what it answers, and the calls that it got.
struct Host {
    begin: Begun,
    perform: Result<(), CallError>,
    confirm: Result<(), CallError>,
    prepare: Result<(), CallError>,
    finish: Result<(), CallError>,
    look: Result<bool, CallError>,
    /// Name, parameters, cookie, flags of each call.
    calls: Vec<(String, Vec<TypedParam>, Vec<u8>, MigrateFlags)>,
}

fn host() -> Host {
    Host {
        begin: Begun { cookie: Cookie(FERRYS.into()), xml: "<domain/>".to_owned(), paused: false },
        perform: Ok(()),
        confirm: Ok(()),
        prepare: Ok(()),
        finish: Ok(()),
        look: Err(CallError::Timeout(LOOK_LIMIT)),
        calls: Vec::new(),
    }
}

fn vm() -> DomainRef {
    DomainRef { name: "vm".to_owned(), uuid: Uuid::from_bytes([5; 16]), id: 1 }
}

impl Host {
    fn note(&mut self, name: &str, params: Vec<TypedParam>, cookie: Cookie, flags: MigrateFlags) {
        self.calls.push((name.to_owned(), params, cookie.0, flags));
    }

    fn names(&self) -> Vec<&str> {
        self.calls.iter().map(|(name, ..)| name.as_str()).collect()
    }

    fn text(&self, call: &str, param: &str) -> Option<&str> {
        let (_, params, ..) = self.calls.iter().find(|(name, ..)| name == call)?;
        params.iter().find(|found| found.name == param).and_then(|found| match &found.value {
            ParamValue::String(text) => Some(text.as_str()),
            _ => None,
        })
    }
}

impl SourceSide for Host {
    async fn begin(&mut self, params: Vec<TypedParam>, flags: MigrateFlags) -> Result<Begun, CallError> {
        self.note("begin", params, Cookie::default(), flags);
        Ok(self.begin.clone())
    }

    async fn perform(
        &mut self,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
    ) -> Result<Cookie, CallError> {
        self.note("perform", params, cookie, flags);
        self.perform.clone().map(|()| Cookie(b"performed".to_vec()))
    }

    async fn confirm(
        &mut self,
        outcome: FinishOutcome,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
    ) -> Result<(), CallError> {
        self.note(&format!("confirm {outcome:?}"), params, cookie, flags);
        self.confirm.clone()
    }
}

impl DestinationSide for Host {
    async fn prepare(
        &mut self,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
    ) -> Result<MigratePrepareReply, CallError> {
        self.note("prepare", params, cookie, flags);
        let uri = Some("tcp:b:49152".to_owned());
        self.prepare.clone().map(|()| MigratePrepareReply { cookie: Cookie(b"prepared".to_vec()), uri })
    }

    async fn finish(
        &mut self,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
        cancelled: bool,
    ) -> Result<MigrateFinishReply, CallError> {
        self.note(if cancelled { "cancel" } else { "finish" }, params, cookie, flags);
        let reply = MigrateFinishReply { domain: vm(), cookie: Cookie(b"finished".to_vec()) };
        self.finish.clone().map(|()| reply)
    }

    async fn look(&mut self, guest: Uuid) -> Result<bool, CallError> {
        assert_eq!(guest, vm().uuid);
        self.note("look", vec![], Cookie::default(), MigrateFlags::NONE);
        self.look.clone()
    }
}

fn failed(code: ErrorCode) -> CallError {
    Error::of(code, Origin::QEMU, "so").into()
}

fn lost() -> CallError {
    Lost::Eof.into()
}

async fn run(source: &mut Host, destination: &mut Host) -> Report {
    let flags = MigrateFlags::LIVE | MigrateFlags::CHANGE_PROTECTION;
    coordinate(source, destination, Request { domain: vm(), flags, params: vec![] }, |_| {}).await
}

#[tokio::test]
async fn cookies_and_addresses_go_from_call_to_call() {
    let (mut source, mut destination) = (host(), host());
    let mut watched = Vec::new();
    let request = Request { domain: vm(), flags: MigrateFlags::LIVE, params: vec![] };
    let report = coordinate(&mut source, &mut destination, request, |call| watched.push(call)).await;
    assert_eq!((report.outcome, report.domain), (Outcome::Moved, Some(vm())));
    assert!(report.failure.is_none());
    assert_eq!(watched.len(), 5);
    assert_eq!(source.names(), ["begin", "perform", "confirm Running"]);
    assert_eq!(destination.names(), ["prepare", "finish"]);
    let cookies = |host: &Host| host.calls.iter().map(|call| call.2.clone()).collect::<Vec<_>>();
    assert_eq!(cookies(&source), [b"".to_vec(), b"prepared".to_vec(), b"finished".to_vec()]);
    assert_eq!(cookies(&destination), [FERRYS.as_bytes().to_vec(), b"performed".to_vec()]);
    assert_eq!(destination.text("prepare", "destination_xml"), Some("<domain/>"));
    assert_eq!(source.text("perform", "migrate_uri"), Some("tcp:b:49152"));
    assert_eq!(destination.text("finish", "destination_name"), Some("vm"));
}

#[tokio::test]
async fn a_paused_guest_arrives_paused() {
    let (mut source, mut destination) = (host(), host());
    source.begin.paused = true;
    run(&mut source, &mut destination).await;
    let paused = |host: &Host, at: usize| host.calls[at].3.contains(MigrateFlags::PAUSED);
    assert!(!paused(&source, 0), "it is not known yet");
    assert!(paused(&destination, 0) && paused(&source, 1) && paused(&destination, 1));
    assert!(!destination.calls[0].3.contains(MigrateFlags::CHANGE_PROTECTION));
}

#[tokio::test]
async fn the_first_error_is_kept() {
    let (mut source, mut destination) = (host(), host());
    source.perform = Err(failed(ErrorCode::OPERATION_ABORTED));
    destination.finish = Err(failed(ErrorCode::OPERATION_FAILED));
    let report = run(&mut source, &mut destination).await;
    assert_eq!(report.outcome, Outcome::Stayed);
    let failure = report.failure.unwrap();
    assert_eq!((failure.call, failure.error), (Call::Perform, failed(ErrorCode::OPERATION_ABORTED)));
    assert_eq!(destination.names(), ["prepare", "cancel"]);
    assert!(destination.calls[1].2.is_empty());
}

#[tokio::test]
async fn after_a_lost_perform_only_93_says_that_the_guest_is_not_there() {
    for (answer, outcome) in [
        (failed(ErrorCode::MIGRATE_FINISH_OK), Outcome::Stayed),
        (failed(ErrorCode::OPERATION_FAILED), Outcome::InDoubt),
        (lost(), Outcome::InDoubt),
    ] {
        let (mut source, mut destination) = (host(), host());
        source.perform = Err(lost());
        destination.finish = Err(answer.clone());
        assert_eq!(run(&mut source, &mut destination).await.outcome, outcome, "{answer:?}");
    }
}

#[tokio::test]
async fn a_lost_finish_is_settled_by_a_look() {
    for (look, confirm, outcome) in [
        (Ok(true), "confirm Running", Outcome::Moved),
        (Ok(false), "confirm NotRunning", Outcome::Stayed),
        (Err(lost()), "confirm Unknown", Outcome::InDoubt),
    ] {
        let (mut source, mut destination) = (host(), host());
        destination.finish = Err(lost());
        destination.look = look;
        let report = run(&mut source, &mut destination).await;
        assert_eq!((report.outcome, source.names().last().copied()), (outcome, Some(confirm)));
        assert_eq!(destination.names(), ["prepare", "finish", "look"]);
        assert_eq!(report.failure.unwrap().call, Call::Finish { cancelled: false });
    }
}

#[tokio::test]
async fn a_source_that_would_obey_is_not_told_what_is_not_known() {
    for look in [Ok(false), Err(lost())] {
        let (mut source, mut destination) = (host(), host());
        source.begin.cookie = Cookie(b"<qemu-migration/>\0".to_vec());
        destination.finish = Err(lost());
        destination.look = look;
        let report = run(&mut source, &mut destination).await;
        assert_eq!((report.outcome, source.names()), (Outcome::InDoubt, vec!["begin", "perform"]));
    }
}

#[test]
fn a_guest_that_is_still_arriving_is_neither_here_nor_not() {
    assert_eq!(has_guest((DomainState::RUNNING, 2)), Some(true));
    assert_eq!(has_guest((DomainState::PAUSED, PausedReason::USER.0)), Some(true));
    assert_eq!(has_guest((DomainState::PAUSED, PausedReason::MIGRATION.0)), None);
    assert_eq!(has_guest((DomainState::SHUTOFF, 0)), Some(false));
}

#[tokio::test]
async fn a_destination_that_knows_why_is_heard() {
    let (mut source, mut destination) = (host(), host());
    source.perform = Err(failed(ErrorCode::OPERATION_FAILED));
    for (theirs, said) in [
        (failed(ErrorCode::OPERATION_FAILED), "operation failed: so; on the destination: so"),
        (failed(ErrorCode::MIGRATE_FINISH_OK), "operation failed: so"),
    ] {
        destination.finish = Err(theirs);
        let report = run(&mut source, &mut destination).await;
        assert_eq!(report.failure.unwrap().error.to_string(), said);
    }
    // Who aborted it knows why.
    source.perform = Err(failed(ErrorCode::OPERATION_ABORTED));
    destination.finish = Err(failed(ErrorCode::OPERATION_FAILED));
    let report = run(&mut source, &mut destination).await;
    assert_eq!(report.failure.unwrap().error.to_string(), "operation aborted: so");
}

//! What management programs say to a daemon, call by call, in the order in which they were heard to say it to stock's.
//!
//! No call may be refused, but for those that a client expects to be: then that is part of the conversation.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use ferry_rpc::error::ErrorCode;
use ferry_rpc::flags::{
    JobStatsFlags, ListFlags, MigrateFlags, StatsFlags, StatsGroups, UndefineFlags, XmlFlags,
};
use ferry_rpc::proto::{
    Arguments, ConnectClose, ConnectCompareCpu, ConnectCompareHypervisorCpu,
    ConnectDomainEventCallbackDeregisterAny, ConnectDomainEventCallbackRegisterAny, ConnectGetAllDomainStats,
    ConnectGetCapabilities, ConnectGetDomainCapabilities, ConnectGetHostname, ConnectGetLibVersion,
    ConnectGetType, ConnectGetVersion, ConnectListAllDomains, ConnectListAllInterfaces,
    ConnectListAllNetworks, ConnectListAllNodeDevices, ConnectListAllStoragePools,
    ConnectNetworkEventDeregisterAny, ConnectNetworkEventRegisterAny, ConnectNodeDeviceEventRegisterAny,
    ConnectRegisterCloseCallback, ConnectStoragePoolEventRegisterAny, ConnectSupportsFeature,
    ConnectUnregisterCloseCallback, Cookie, DomainDestroy, DomainGetAutostart, DomainGetInfo,
    DomainGetJobInfo, DomainGetJobStats, DomainGetState, DomainGetVcpus, DomainGetXmlDesc,
    DomainHasManagedSaveImage, DomainIsActive, DomainIsPersistent, DomainListAllSnapshots,
    DomainLookupByName, DomainLookupByUuid, DomainMigratePerform3Params, DomainRef, DomainUndefineFlags,
    NodeGetCpuMap, NodeGetInfo, NodeGetMemoryStats,
};
use ferry_rpc::values::{DomainState, EventId, Feature, JobType};
use ferry_tests::Pair;
use ferry_tests::wire::Wire;

/// One side of a conversation.
struct Client(Wire);

impl Client {
    /// As all of libvirt's clients begin.
    fn open(pair: &Pair, number: usize) -> Self {
        let mut client = Self(Wire::connect(pair.daemon(number)).unwrap());
        client.0.greet();
        for feature in [Feature::KEEPALIVE, Feature::EVENT_CALLBACK, Feature::CLOSE_CALLBACK] {
            assert!(client.say(&ConnectSupportsFeature { feature }), "{feature:?}");
        }
        client.say(&ConnectRegisterCloseCallback {});
        client
    }

    /// As all of them end.
    fn close(mut self) {
        self.say(&ConnectUnregisterCloseCallback {});
        self.say(&ConnectClose {});
    }

    fn say<T: Arguments>(&mut self, call: &T) -> T::Reply {
        match self.0.ask(call) {
            Ok(reply) => reply,
            Err(error) => panic!("{:?}: {error:?}", T::PROCEDURE),
        }
    }

    fn hear(&mut self, event_id: EventId) -> i32 {
        self.say(&ConnectDomainEventCallbackRegisterAny { event_id, domain: None })
    }

    fn domain(&mut self) -> DomainRef {
        let listed =
            ConnectListAllDomains { need_results: true, flags: ListFlags::ACTIVE.with(ListFlags::INACTIVE) };
        self.say(&listed).domains.remove(0)
    }

    fn xml(&mut self, domain: &DomainRef, flags: XmlFlags) -> String {
        self.say(&DomainGetXmlDesc { domain: domain.clone(), flags })
    }
}

#[test]
fn virt_manager_shows_a_host_and_its_guests() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let _serial = pair.boot_sector("vm").unwrap();
    let mut client = Client::open(&pair, 0);
    client.say(&ConnectGetCapabilities {});
    client.say(&ConnectGetLibVersion {});
    client.say(&ConnectGetVersion {});
    client.say(&NodeGetInfo {});
    assert_eq!(client.say(&ConnectGetHostname {}), pair.host(0).name());
    for id in [0, 13, 10, 15, 19, 18, 23] {
        client.hear(EventId(id));
    }
    let networks = client.say(&ConnectNetworkEventRegisterAny { event_id: 0, network: None });
    for event_id in [0, 1] {
        client.say(&ConnectStoragePoolEventRegisterAny { event_id, pool: None });
        client.say(&ConnectNodeDeviceEventRegisterAny { event_id, device: None });
    }
    assert_eq!(client.say(&ConnectListAllNetworks { need_results: true, flags: 0 }).count, 0);
    assert_eq!(client.say(&ConnectListAllStoragePools { need_results: true, flags: 0 }).count, 0);
    assert_eq!(client.say(&ConnectListAllNodeDevices { need_results: true, flags: 0 }).count, 0);
    assert_eq!(client.say(&ConnectListAllInterfaces { need_results: true, flags: 0 }).count, 0);

    let domain = client.domain();
    assert!(client.say(&DomainIsActive { domain: domain.clone() }));
    assert_eq!(client.say(&DomainGetInfo { domain: domain.clone() }).vcpus, 1);
    assert_eq!(client.say(&DomainGetState { domain: domain.clone(), flags: 0 }).state, DomainState::RUNNING);
    let (live, kept) = (
        client.xml(&domain, XmlFlags::SECURE),
        client.xml(&domain, XmlFlags::SECURE.with(XmlFlags::INACTIVE)),
    );
    assert!(live.contains("<alias") && !kept.contains("<alias"), "{live}\n{kept}");
    client.say(&DomainGetAutostart { domain: domain.clone() });
    client.say(&DomainHasManagedSaveImage { domain: domain.clone(), flags: 0 });
    assert_eq!(client.say(&DomainListAllSnapshots { domain, need_results: true, flags: 0 }).count, 0);
    for _ in 0..3 {
        let stats = ConnectGetAllDomainStats {
            domains: Vec::new(),
            stats: StatsGroups::NONE,
            flags: StatsFlags::NONE,
        };
        assert_eq!(client.say(&stats).records.len(), 1);
    }
    client.say(&ConnectNetworkEventDeregisterAny { callback_id: networks });
    client.close();
}

#[test]
fn nova_takes_a_host_into_service_and_looks_after_a_guest() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let _serial = pair.boot_sector("vm").unwrap();
    let mut client = Client::open(&pair, 0);
    let heard = [EventId::LIFECYCLE, EventId::DEVICE_REMOVED, EventId::DEVICE_REMOVAL_FAILED]
        .map(|id| client.hear(id));
    client.say(&ConnectGetLibVersion {});
    client.say(&ConnectGetVersion {});
    assert_eq!(client.say(&ConnectGetType {}), "QEMU");
    client.say(&ConnectGetHostname {});
    client.say(&NodeGetInfo {});
    client.say(&ConnectGetCapabilities {});
    let capabilities = ConnectGetDomainCapabilities {
        emulatorbin: None,
        arch: Some("x86_64".to_owned()),
        machine: Some("q35".to_owned()),
        virttype: Some("qemu".to_owned()),
        flags: 0,
    };
    assert!(client.say(&capabilities).contains("<mode name='host-model' supported='yes'>"));
    client.domain();
    let cpu = "<cpu><arch>x86_64</arch><model>qemu64</model></cpu>".to_owned();
    client.say(&ConnectCompareCpu { xml: cpu.clone(), flags: 0 });
    let compare = ConnectCompareHypervisorCpu {
        emulator: None,
        arch: None,
        machine: None,
        virttype: Some("qemu".to_owned()),
        xml_cpu: cpu,
        flags: 0,
    };
    assert!(client.say(&compare) > 0);
    client.say(&ConnectListAllNodeDevices { need_results: true, flags: 0 });
    let nparams = client.say(&NodeGetMemoryStats { nparams: 0, cell_num: -1, flags: 0 }).nparams;
    assert!(!client.say(&NodeGetMemoryStats { nparams, cell_num: -1, flags: 0 }).params.is_empty());
    client.say(&NodeGetCpuMap { need_map: true, need_online: true, flags: 0 });

    let uuid = client.domain().uuid;
    let domain = client.say(&DomainLookupByUuid { uuid });
    client.say(&DomainGetInfo { domain: domain.clone() });
    assert!(client.say(&DomainIsPersistent { domain: domain.clone() }));
    assert!(client.say(&DomainIsActive { domain: domain.clone() }));
    assert_eq!(client.say(&DomainGetVcpus { domain: domain.clone(), maxinfo: 1, maplen: 1 }).info.len(), 1);
    client.xml(&domain, XmlFlags::NONE);
    // Whether the daemon lives, again and again.
    for _ in 0..3 {
        client.say(&ConnectGetLibVersion {});
    }
    for callback_id in heard {
        client.say(&ConnectDomainEventCallbackDeregisterAny { callback_id });
    }
    client.close();
}

#[test]
fn kubevirt_moves_a_guest_and_clears_up_after_it() {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let serial = pair.boot_sector("vm").unwrap();
    let mut client = Client::open(&pair, 0);
    for id in [0, 15, 18, 19, 20, 21, 26] {
        client.hear(EventId(id));
    }
    let name = || DomainLookupByName { name: "vm".to_owned() };
    let domain = client.say(&name());
    client.say(&DomainGetState { domain: domain.clone(), flags: 0 });
    client.xml(&domain, XmlFlags::MIGRATABLE);
    let stats = DomainGetJobStats { domain: domain.clone(), flags: JobStatsFlags::NONE };
    assert_eq!(client.say(&stats).kind, JobType::NONE);
    let all = ConnectGetAllDomainStats {
        domains: vec![domain.clone()],
        stats: StatsGroups::NONE,
        flags: StatsFlags::NONE,
    };
    client.say(&all);
    assert_eq!(client.say(&DomainGetJobInfo { domain: domain.clone() }).kind, JobType::NONE);
    let perform = DomainMigratePerform3Params {
        domain: domain.clone(),
        destination_uri: Some(pair.uri(1)),
        params: Vec::new(),
        cookie: Cookie::default(),
        flags: MigrateFlags::LIVE.with(MigrateFlags::PEER2PEER).with(MigrateFlags::UNSAFE),
    };
    client.say(&perform);
    serial.wait_beats_on(pair.ear(1), 50, ferry_tests::SOON).unwrap();
    let completed = DomainGetJobStats { domain: domain.clone(), flags: JobStatsFlags::COMPLETED };
    assert_eq!(client.say(&completed).kind, JobType::COMPLETED);
    client.say(&DomainUndefineFlags { domain, flags: UndefineFlags::NONE });
    // That it is gone is what it waits for.
    assert_eq!(client.0.ask(&name()).unwrap_err().code, ErrorCode::NO_DOMAIN);
    client.close();

    let mut there = Client::open(&pair, 1);
    let domain = there.say(&name());
    there.say(&DomainDestroy { domain });
    there.close();
}

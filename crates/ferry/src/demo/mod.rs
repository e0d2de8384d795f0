//! `ferry demo`: two private hosts on this machine, a Linux guest, there and back, and what the guest saw of it.
//!
//! [`stage`] has the hosts and ends everything, [`guest`] is what is moved, [`ear`] hears its heartbeat and [`heart`]
//! judges it, [`show`] is what the spectator sees. The migrations are those of `ferry migrate`.
//!
//! ```text
//! two ferryds ─> boot on a ─> a → b, direct ─> b → a, peer to peer ─> memory and disk check ─> verdict ─> all ended
//! ```

mod ear;
mod guest;
mod heart;
mod show;
mod stage;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ferry_client::Connection;
use ferry_client::coordinate::Request;
use ferry_guest::Fields;
use ferry_rpc::flags::{ConsoleFlags, DefineFlags, MigrateFlags, StartFlags};
use ferry_rpc::proto::{DomainEventCallbackLifecycle, DomainRef};
use ferry_rpc::values::{EventId, LifecycleEvent};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::cli::Demo;
use crate::failure::{Exit, Failure};
use crate::host::{Standing, find};
use crate::interrupt::Interrupts;
use crate::migrate::figures::Span;
use crate::migrate::run::{Moved, Order, Way, carry_out};
use crate::{migrate, say};
use ear::Ear;
use heart::Proof;
use show::{Beside, Show};
use stage::Stage;

/// How long an emulated guest may take to boot on a busy machine.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// How long the guest may take for beats that are waited for, and for its check.
const GUEST_LIMIT: Duration = Duration::from_secs(60);

/// How late the news of the guest's arrival may be.
const EVENT_LATE_MAX: Duration = Duration::from_millis(50);

/// Beats that are heard before and after each migration: one second of them.
const CALM: u64 = guest::BEATS_PER_S as u64;

/// Shows it.
pub(crate) async fn demo(options: Demo) -> Result<(), Failure> {
    let began = Instant::now();
    let ferryd = ferryd(options.ferryd.as_deref())?;
    for file in [&options.kernel, &options.initrd, &options.emulator, &ferryd] {
        if !file.is_file() {
            let text = format!("{} is not there", file.display());
            return Err(Failure::refused("cannot show a migration", text));
        }
    }
    let mut interrupts = Interrupts::listen()
        .map_err(|error| Failure::refused("cannot listen to signals", error.to_string()))?;
    let mut stage = Stage::open()?;
    let mut show = Show::new();
    let result = tokio::select! {
        result = play(&mut stage, &mut show, &options, &ferryd) => result,
        () = interrupts.next() => Err(Failure::failed("stopped", "interrupted")),
    };
    // Told before the stage is cleared, since the words are in its folder.
    let result = result.map_err(|failure| explain(failure, &stage));
    show.doing("tidying up");
    let ended = stage.end().await;
    drop(show);
    let seen = result?;
    say(seen.report(began.elapsed()));
    if let Err(left) = ended {
        return Err(Failure::failed("could not tidy up", left));
    }
    if seen.is_whole() {
        return Ok(());
    }
    Err(Failure::failed("the guest is not whole", "see above").next(
        "if QEMU is older than 9.0, this is likely its own: it loses what an emulated CPU writes while it is migrated, \
         whoever manages it; `./dev demo` goes round that, or name a newer one with --emulator",
    ))
}

/// The story, from the start of the hosts to the last look.
async fn play(stage: &mut Stage, show: &mut Show, options: &Demo, ferryd: &Path) -> Result<Seen, Failure> {
    stage.start_host(ferryd, "a", 49152..=49183).await?;
    stage.start_host(ferryd, "b", 49184..=49215).await?;
    show.step("1  Two hosts, a and b: one ferryd each, with a root, a socket and a host UUID of its own.");

    let domain = boot(stage, show, options).await?;
    let ear = domain.ear;
    let domain = domain.domain;

    let mut hops = Vec::new();
    for (number, title, from, to, direct) in
        [(3, "a → b, coordinated by ferry", "a", "b", true), (4, "b → a, peer to peer", "b", "a", false)]
    {
        calm(&ear).await?;
        let rest = ear.heart().gap();
        ear.heart().mark();
        let arrival = Arrival::watch(stage.host(to)?.connection()?).await?;
        let moved = hop(stage, show, (from, to), direct).await?;
        calm(&ear).await?;
        let longest = ear.heart().gap();
        let handover = arrival.gap(&ear).await;
        only_on(stage, &domain, to, from).await?;
        show.doing(format!("running on {to}"));
        let details =
            moved.figures.map_or_else(String::new, |figures| format!(", {}", migrate::details(&figures)));
        show.step(&format!("{number}  {title}: {}{details}.", Span(moved.total)));
        ear.heart().mark();
        hops.push(Hop { title, handover, longest, rest });
    }

    show.doing("checking memory and disk");
    let check = check(stage, &ear, &domain).await?;
    only_on(stage, &domain, "a", "b").await?;
    show.step("5  Back where it began, and asked to check its memory and its disk.");
    let proof = ear.heart().proof();
    Ok(Seen { proof, hops, check })
}

/// A guest that runs, and the ear on it.
struct Booted {
    domain: DomainRef,
    ear: Ear,
}

/// Defines and boots the guest on `a`.
async fn boot(stage: &Stage, show: &mut Show, options: &Demo) -> Result<Booted, Failure> {
    let cannot = |cause: std::io::Error| Failure::failed("cannot make the guest's files", cause.to_string());
    let absolute = |path: &Path| std::path::absolute(path).map_err(cannot);
    let (disk, log) = (stage.file("disk.img"), stage.file("serial.log"));
    let image = std::fs::File::create(&disk).map_err(cannot)?;
    image.set_len(guest::DISK_SIZE).map_err(cannot)?;
    let xml = guest::xml(&guest::Parts {
        kernel: &absolute(&options.kernel)?,
        initrd: &absolute(&options.initrd)?,
        emulator: &absolute(&options.emulator)?,
        disk: &disk,
        log: &log,
    });
    let ear = Ear::open(log).map_err(cannot)?;

    let began = Instant::now();
    let connection = stage.host("a")?.connection()?;
    let defined = connection.define(&xml, DefineFlags::NONE).await;
    let domain = defined.map_err(|error| Failure::failed("cannot define the guest", error))?;
    show.doing("booting on a");
    show.follow(ear.share());
    let started = connection.create(&domain, StartFlags::NONE).await;
    let domain = started.map_err(|error| Failure::failed("cannot start the guest", error))?;
    if !ear.wait(BOOT_LIMIT, |heart| heart.is_ready() && heart.beats() > 0).await {
        let text = format!("it was not ready within {} s", BOOT_LIMIT.as_secs());
        return Err(Failure::failed("the guest does not boot", text));
    }
    show.step(&format!(
        "2  A Linux guest booted on a in {}: {} beats a second, memory and disk written all the time.",
        Span(began.elapsed()),
        guest::BEATS_PER_S
    ));
    show.doing("running on a");
    ear.heart().mark();
    Ok(Booted { domain, ear })
}

/// Hears the guest beat for a while.
async fn calm(ear: &Ear) -> Result<(), Failure> {
    let goal = ear.heart().beats() + CALM;
    if ear.wait(GUEST_LIMIT, |heart| heart.beats() >= goal).await {
        return Ok(());
    }
    Err(Failure::failed("the guest does not beat any more", "nothing came from its serial port for too long"))
}

/// One migration, as `ferry migrate --live --unsafe` does it.
async fn hop(stage: &Stage, show: &Show, (from, to): (&str, &str), direct: bool) -> Result<Moved, Failure> {
    let (from, to) = (stage.host(from)?, stage.host(to)?);
    let source = from.connection()?.clone();
    // What makes a disk unsafe to migrate is a page cache that the other host does not see. Both hosts are this machine,
    // with one page cache, so nothing can be stale.
    let flags = MigrateFlags::LIVE | MigrateFlags::UNSAFE;
    let mut request = Request { domain: find(&source, guest::NAME).await?, flags, params: Vec::new() };
    let way = if direct {
        let destination = to.connection()?.clone();
        let fit = request.fit(&source, &destination).await;
        fit.map_err(|error| Failure::failed("the hosts cannot migrate", error))?;
        Way::Direct(destination, to.uri())
    } else {
        request.flags = request.flags | MigrateFlags::PEER2PEER;
        Way::PeerToPeer(to.uri().to_string())
    };
    let order = Order { source, source_uri: from.uri(), way, request, patience: None };
    let mut watcher = Beside { show, title: format!("{} → {}", from.name, to.name) };
    carry_out(order, &mut watcher, None).await
}

/// Hears when the guest begins to run on a host, to tell the gap of the handover from others: a busy machine makes
/// some, and QEMU makes one when it starts to copy.
struct Arrival(JoinHandle<Option<Instant>>);

impl Arrival {
    async fn watch(destination: &Connection) -> Result<Self, Failure> {
        let mut events = destination.subscribe();
        let registered = destination.register_event(EventId::LIFECYCLE, None).await;
        registered.map_err(|error| Failure::failed("cannot watch the guest", error))?;
        Ok(Self(tokio::spawn(async move {
            loop {
                let event = events.next().await.ok()?.decode::<DomainEventCallbackLifecycle>();
                if matches!(event, Some(Ok(event)) if event.event == LifecycleEvent::RESUMED) {
                    return Some(Instant::now());
                }
            }
        })))
    }

    /// The gap of the handover. The event may come a little late; nothing when it did not come at all.
    async fn gap(self, ear: &Ear) -> Option<Duration> {
        let resumed = timeout(EVENT_LATE_MAX, self.0).await.ok()?.ok()??;
        ear.heart().gap_between(resumed - EVENT_LATE_MAX, resumed)
    }
}

/// Makes sure that the guest runs on one host and not on the other.
async fn only_on(stage: &Stage, domain: &DomainRef, here: &str, there: &str) -> Result<(), Failure> {
    let mut standings = Vec::new();
    for name in [here, there] {
        let standing = Standing::ask(stage.host(name)?.connection()?, domain).await;
        standings
            .push(standing.map_err(|error| Failure::failed(format!("host {name} does not answer"), error))?);
    }
    let runs = |standing: &Option<Standing>| standing.as_ref().is_some_and(Standing::is_active);
    if runs(&standings[0]) && !runs(&standings[1]) {
        return Ok(());
    }
    let shown = |standing: &Option<Standing>| {
        standing.as_ref().map_or("no such guest".to_owned(), ToString::to_string)
    };
    let text = format!("{here}: {}, {there}: {}", shown(&standings[0]), shown(&standings[1]));
    Err(Failure::new(Exit::Failed, format!("the guest should run on {here} alone"), text))
}

/// Has the guest verify all its memory and disk, by a command on its console.
async fn check(stage: &Stage, ear: &Ear, domain: &DomainRef) -> Result<Fields, Failure> {
    let cannot = |error| Failure::failed("cannot use the guest's console", error);
    let connection = stage.host("a")?.connection()?;
    let mut console = connection.open_console(domain, None, ConsoleFlags::NONE).await.map_err(cannot)?;
    console.writer.write(b"check\n").await.map_err(cannot)?;
    let answered =
        |heart: &heart::Heart| heart.reply().is_some_and(|reply| reply.text("cmd") == Some("check"));
    // What comes over the console comes to the log as well; it only has to be taken, so that the guest is not held up.
    let drain = async {
        while let Ok(Some(_)) = console.reader.read().await {}
        std::future::pending::<bool>().await
    };
    let heard = tokio::select! {
        heard = ear.wait(GUEST_LIMIT, answered) => heard,
        never = drain => never,
    };
    console.abort();
    let reply = ear.heart().reply().cloned();
    match reply {
        Some(reply) if heard => Ok(reply),
        _ => Err(Failure::failed("the guest does not check itself", "no answer on its serial port")),
    }
}

/// A migration, as the guest's beats show it.
struct Hop {
    title: &'static str,
    /// The time between the last beat on the one host and the first on the other.
    handover: Option<Duration>,
    /// The longest time between two beats from before the migration until after it.
    longest: Duration,
    /// The same for a second without a migration.
    rest: Duration,
}

/// What the guest saw.
struct Seen {
    proof: Proof,
    hops: Vec<Hop>,
    check: Fields,
}

impl Seen {
    fn is_whole(&self) -> bool {
        self.proof.is_whole() && self.check.number("ok") == Some(1)
    }

    fn report(&self, total: Duration) -> String {
        let number = |key: &str| self.check.number(key).map_or("?".to_owned(), |number| number.to_string());
        let Proof { beats, lost, repeated, anomalies, anomaly_texts } = &self.proof;
        let mut rows = vec![
            ("beats heard".to_owned(), beats.to_string()),
            ("lost".to_owned(), lost.to_string()),
            ("repeated".to_owned(), repeated.to_string()),
        ];
        for hop in &self.hops {
            let handover =
                hop.handover.map_or_else(String::new, |gap| format!("{} at the handover, ", Span(gap)));
            let text = format!("gap {handover}{} at most (at rest {})", Span(hop.longest), Span(hop.rest));
            rows.push((hop.title.to_owned(), text));
        }
        rows.extend([
            ("memory".to_owned(), format!("{} pages checked, {} bad", number("pages"), number("bad_pages"))),
            ("disk".to_owned(), format!("{} blocks checked, {} bad", number("blocks"), number("bad_blocks"))),
            ("anything else wrong".to_owned(), anomalies.to_string()),
            ("runs on".to_owned(), "a alone, where it began".to_owned()),
            ("all in all".to_owned(), Span(total).to_string()),
        ]);
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let rows = rows.iter().map(|(name, value)| format!("   {name:width$}  {value}"));
        let wrong = anomaly_texts.iter().map(|text| format!("   wrong: {text}"));
        let verdict = if self.is_whole() {
            "The guest noticed nothing but the gaps. Everything that was started has been ended."
        } else {
            "THE GUEST IS NOT WHOLE."
        };
        let lines: Vec<String> =
            std::iter::once("\nWhat the guest saw".to_owned()).chain(rows).chain(wrong).collect();
        format!("{}\n\n{verdict}", lines.join("\n"))
    }
}

/// A failure, with the daemons' last words.
fn explain(failure: Failure, stage: &Stage) -> Failure {
    let words = stage.last_words();
    if words.is_empty() || failure.doing == "stopped" {
        return failure;
    }
    Failure { next: Some(format!("see what the daemons said last:\n{words}")), ..failure }
}

/// The daemon: as named, beside this program, or from PATH.
fn ferryd(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let own = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = own.into_iter().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join("ferryd")).find(|file| file.is_file()).ok_or_else(|| {
        Failure::refused(
            "cannot show a migration",
            "there is no ferryd beside this program, and none in PATH",
        )
        .next("name it with --ferryd FILE")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(lost: u64, ok: u64) -> Seen {
        let line =
            format!("ferry-guest reply cmd=check ok={ok} pages=16384 bad_pages=0 blocks=4096 bad_blocks=0");
        let ferry_guest::Line::Reply(check) = ferry_guest::Line::parse(&line) else { panic!("a reply") };
        let ms = Duration::from_millis;
        let hops = vec![Hop { title: "a → b", handover: Some(ms(31)), longest: ms(48), rest: ms(9) }];
        Seen { proof: Proof { beats: 5812, lost, ..Proof::default() }, hops, check }
    }

    #[test]
    fn the_report_has_what_the_guest_saw() {
        let report = seen(0, 1).report(Duration::from_secs(24));
        for part in [
            "5812",
            "gap 31 ms at the handover, 48 ms at most (at rest 9 ms)",
            "16384 pages checked, 0 bad",
            "noticed nothing but the gaps",
        ] {
            assert!(report.contains(part), "{part}: {report}");
        }
    }

    #[test]
    fn anything_lost_is_no_success() {
        assert!(seen(0, 1).is_whole());
        for wrong in [seen(1, 1), seen(0, 0)] {
            assert!(!wrong.is_whole() && wrong.report(Duration::ZERO).contains("NOT WHOLE"));
        }
    }
}

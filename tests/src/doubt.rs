//! A guest of which nobody can know where it is: its source has given it away, and the network went before it could say so.

use ferry_testkit::Result;
use ferry_testkit::deadline::wait_until;
use ferry_testkit::ferryd::Options;
use ferry_testkit::serial::Serial;
use ferry_testkit::tree::Tree;

use crate::{Pair, SOON};

/// Why it is in doubt, as every place says it.
pub const REASON: &str = "the destination has not said whether it started the guest";

/// Two hosts whose daemons can be held, and the boot-sector guest `vm` on the first. `None` where there is no cable to cut.
///
/// # Errors
/// As [`Pair::with`] and [`Pair::boot_sector`].
pub fn hosts() -> Result<Option<(Pair, Serial)>> {
    let tools = Pair::distribution();
    let options = || Options { fault_points: true, ..Options::default() };
    let pair = Pair::with([&tools, &tools], [options(), options()])?;
    if !pair.host(0).is_isolated() {
        return Ok(None);
    }
    let serial = pair.boot_sector("vm")?;
    Ok(Some((pair, serial)))
}

/// Migrates the guest until its grant is on record, cuts the second host off before it is told, and waits until the doubt is
/// shown. Gives the client.
///
/// # Errors
/// virsh's, or [`ferry_testkit::Error::Late`].
pub fn fall_into(pair: &Pair) -> Result<Tree> {
    let hold = pair.daemon(0).arm("telling-granted")?;
    let uri = pair.uri(1);
    let words = ["migrate", "vm", &uri, "--live", "--unsafe", "--p2p"];
    let client = pair.virsh(0).start(words, "migrate")?;
    hold.wait(SOON)?;
    pair.host(1).cut()?;
    drop(hold);
    wait_shown(pair, 0)?;
    Ok(client)
}

/// Waits until host `number` shows its doubt.
///
/// # Errors
/// [`ferry_testkit::Error::Late`].
pub fn wait_shown(pair: &Pair, number: usize) -> Result<()> {
    let shown = || pair.virsh(number).ok(["dominfo", "vm"]).is_ok_and(|info| info.contains(REASON));
    wait_until("the doubt to be shown", SOON, shown)
}

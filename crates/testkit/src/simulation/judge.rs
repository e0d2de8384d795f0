//! What is left when everything works again and nothing more is to come. Called at the end of a schedule.

use ferry_migration::journal::{SourceStatus, Status};

use super::world::{At, Machine, Records, Violation, World};

impl World {
    /// Whether nothing more is to come but what is left to an operator.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.hosts.iter().all(|host| host.up)
            && self.steps().is_empty()
            && self.places().all(|at| {
                let side = self.side(at);
                side.present.as_ref().is_none_or(|migration| migration.machine.is_over())
                    && side.settling.is_empty()
            })
    }

    /// Whether the guest is here, as nobody but an operator can know who looks at both hosts.
    pub(crate) fn is_here(&self, at: At) -> bool {
        let qemus = &self.guests[at.guest].qemus;
        let holds =
            |fresh: bool| qemus.iter().find(move |qemu| qemu.alive && qemu.whole && qemu.stale != fresh);
        match (holds(true), holds(false)) {
            (Some(qemu), _) => qemu.host == at.host,
            // What is left is older than what has run: the guest was on the other host.
            (None, Some(old)) => old.host != at.host,
            // Nothing is left: it can be started again where it came from.
            (None, None) => matches!(self.machine(at), Some(Machine::Out(_))),
        }
    }

    /// Whether nothing is left of any migration. Gives how many guests are gone, by a fault or a wish.
    pub(crate) fn judge_end(&self) -> Result<u64, Violation> {
        let mut lost = 0;
        for at in self.places() {
            let side = self.side(at);
            // That the guest left is kept; that a migration came to nothing before it had a peer, until the next start.
            let open = |records: &Records| match records.status {
                Status::Source(SourceStatus::Done) => false,
                Status::Source(SourceStatus::Kept) => records.peer.is_some(),
                _ => true,
            };
            if side.journal.iter().any(open) {
                return Err(Violation::Left("a record of a migration that both sides know to be over"));
            }
            if side.present.as_ref().is_some_and(|migration| migration.open) {
                return Err(Violation::Left("an open job"));
            }
        }
        for (guest, each) in self.guests.iter().enumerate() {
            let alive: Vec<_> = each.qemus.iter().filter(|qemu| qemu.alive).collect();
            let unknown =
                alive.iter().any(|qemu| self.side(At { guest, host: qemu.host }).guest != Some(qemu.launch));
            if unknown {
                return Err(Violation::Left("a QEMU that no daemon knows"));
            }
            let fresh = alive.iter().filter(|qemu| !qemu.stale).count();
            match (alive.len(), fresh) {
                (1, 1) => {}
                // Both halves were lost, or the one that the other needed.
                (_, 0) if each.struck || each.given_up => lost += 1,
                (_, 0) => return Err(Violation::Zero),
                _ => return Err(Violation::Left("two QEMUs of one guest")),
            }
        }
        Ok(lost)
    }

    /// Why there is no end.
    pub(crate) fn left(&self) -> Violation {
        let doubts = self.places().filter_map(|at| self.doubt(at)).count();
        if doubts > 0 {
            return Violation::Left("a doubt that an operator's word does not settle");
        }
        let stuck = |machine: &Machine| matches!(machine, Machine::Out(_));
        let sources = self.places().filter(|at| self.machine(*at).is_some_and(stuck)).count();
        if sources > 0 {
            Violation::Left("a source that comes to no end")
        } else {
            Violation::Left("a destination that comes to no end")
        }
    }
}

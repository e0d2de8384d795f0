//! The coordinator: where it stands after each answer, each lost connection, and its own death.

use ferry_migration::{Coordination, Peer, destination, source};

use crate::world::{At, Setup, World};

pub(crate) fn crash_source(setup: &Setup, world: &mut World) {
    world.source.up = false;
    world.source.machine = None;
    world.source.resuming = false;
    world.source.client_gone = false;
    if setup.plan.coordination == Coordination::PeerToPeer {
        world.destination.client_gone |= world.client.at != At::Over && world.client.destination;
        world.client.at = At::Over;
        world.client.destination = false;
    } else {
        lose_source(world);
    }
}

pub(crate) fn crash_destination(world: &mut World) {
    world.destination.up = false;
    world.destination.machine = None;
    world.destination.client_gone = false;
    lose_destination(world);
    world.destination.client_gone = false;
}

pub(crate) fn lose_source(world: &mut World) {
    world.client.source = false;
    match world.client.at {
        At::Begin => client_over(world),
        At::Perform { called: true } => world.client.at = At::Finish { called: false, cancelled: true },
        At::Confirm { called: true, .. } => client_over(world),
        At::Prepare { .. }
        | At::Perform { called: false }
        | At::Finish { .. }
        | At::Confirm { called: false, .. }
        | At::Over => {}
    }
}

pub(crate) fn lose_destination(world: &mut World) {
    world.client.destination = false;
    match world.client.at {
        At::Prepare { called: true } => world.client.at = At::Confirm { called: false, cancelled: true },
        At::Finish { called: true, cancelled } => finish_failed(world, cancelled),
        At::Begin
        | At::Prepare { called: false }
        | At::Perform { .. }
        | At::Finish { called: false, .. }
        | At::Confirm { .. }
        | At::Over => {}
    }
}

/// Finish was answered with an error, or not at all.
pub(crate) fn finish_failed(world: &mut World, cancelled: bool) {
    if cancelled {
        client_over(world);
    } else {
        world.client.at = At::Confirm { called: false, cancelled: true };
    }
}

/// The client has nothing more to do, or is dead: its connections close.
pub(crate) fn client_over(world: &mut World) {
    world.client.at = At::Over;
    world.destination.client_gone |= world.client.destination && world.destination.up;
    // Peer to peer, it is a task of the source's own daemon.
    world.source.client_gone |= world.client.source && world.source.up;
    world.client.source = false;
    world.client.destination = false;
}

pub(crate) fn answer_from_source(setup: &Setup, world: &mut World, answer: source::Answer) {
    use source::{Answer, Call};
    let at = world.client.at;
    match answer {
        Answer::Ok(Call::Begin) if at == At::Begin => world.client.at = At::Prepare { called: false },
        Answer::Failed(Call::Begin, _) if at == At::Begin => client_over(world),
        Answer::Ok(Call::Perform) if at == (At::Perform { called: true }) => {
            world.client.granted = setup.peer == Peer::Ferry;
            world.client.at = At::Finish { called: false, cancelled: false };
        }
        Answer::Failed(Call::Perform, _) if at == (At::Perform { called: true }) => {
            world.client.at = At::Finish { called: false, cancelled: true };
        }
        Answer::Confirm(_) | Answer::InDoubt(Call::Confirm, _) | Answer::Failed(Call::Confirm, _)
            if matches!(at, At::Confirm { called: true, .. }) =>
        {
            client_over(world);
        }
        Answer::Ok(_) | Answer::Failed(..) | Answer::InDoubt(..) | Answer::Confirm(_) => {}
    }
}

pub(crate) fn answer_from_destination(world: &mut World, answer: destination::Answer) {
    use destination::{Answer, Call, Fate};
    match (answer, world.client.at) {
        (Answer::Ok(Call::Prepare), At::Prepare { called: true }) => {
            world.client.at = At::Perform { called: false };
        }
        (Answer::Failed(Call::Prepare, _), At::Prepare { called: true }) => {
            world.client.at = At::Confirm { called: false, cancelled: true };
        }
        (Answer::Finish(Fate::Arrived), At::Finish { called: true, cancelled: false }) => {
            world.client.running = true;
            world.client.at = At::Confirm { called: false, cancelled: false };
        }
        (
            Answer::Finish(_) | Answer::InDoubt(Call::Finish, _) | Answer::Failed(Call::Finish, _),
            At::Finish { called: true, cancelled },
        ) => finish_failed(world, cancelled),
        _ => {}
    }
}

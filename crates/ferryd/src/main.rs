//! The daemon: the room of sockets, processes and files.

fn main() {}

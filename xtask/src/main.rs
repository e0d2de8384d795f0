//! Chores that are not worth a shell script.

fn main() {}

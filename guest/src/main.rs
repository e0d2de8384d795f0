//! The test guest's init.

fn main() {}

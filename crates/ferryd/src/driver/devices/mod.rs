//! Devices of a running guest: what the guest or QEMU does with them.

mod observed;

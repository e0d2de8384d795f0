//! virsh

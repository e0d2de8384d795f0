//! What to ask a QEMU binary, and the fold of its answers into [`crate::capabilities::Capabilities`].

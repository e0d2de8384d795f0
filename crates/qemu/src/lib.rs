//! What a domain means to QEMU: capabilities, aliases and addresses, command line, block graph.

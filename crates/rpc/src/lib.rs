//! The wire: header, framing, procedures, typed parameters, errors, streams, keepalive.

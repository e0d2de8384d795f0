//! QMP: codec, pure session, the typed commands and events in use.

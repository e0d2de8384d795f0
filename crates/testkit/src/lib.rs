//! Real hosts for tests.

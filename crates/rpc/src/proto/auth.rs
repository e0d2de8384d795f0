//! Authentication, before a connection is opened.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use crate::values::AuthType;

calls! {
    /// How the client may authenticate. The first call of every stock client.
    AuthList {} -> AuthListReply;

    AuthSaslInit {} -> String;

    AuthSaslStart {
        mech: String,
        nil: i32,
        data: Vec<i8> as Array<65536>,
    } -> AuthSaslStartReply;

    AuthSaslStep {
        nil: i32,
        data: Vec<i8> as Array<65536>,
    } -> AuthSaslStepReply;

    AuthPolkit {} -> i32;
}

parts! {
    pub struct AuthListReply {
        pub types: Vec<AuthType> as Array<20>,
    }

    pub struct AuthSaslStartReply {
        pub complete: i32,
        pub nil: i32,
        pub data: Vec<i8> as Array<65536>,
    }

    pub struct AuthSaslStepReply {
        pub complete: i32,
        pub nil: i32,
        pub data: Vec<i8> as Array<65536>,
    }
}

//! The procedures of the wire: what a number means, before anyone looks at its arguments.
//!
//! The sessions use the table to tell a number that does not exist from one that is not built; the daemon
//! dispatches on [`Procedure`]. Arguments and results are in [`proto`](crate::proto).

use crate::error::Origin;

/// A set of procedures with numbers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// The main program, 0x20008086.
    Remote,
    /// The QEMU extras, 0x20008087.
    Qemu,
    /// Our own, 0x46657272: what two Ferry daemons say to each other about a migration, and what only `ferry` asks.
    Ferry,
}

impl Program {
    /// The number in the frame.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Remote => 0x2000_8086,
            Self::Qemu => 0x2000_8087,
            Self::Ferry => 0x4665_7272,
        }
    }

    /// The program of a frame, if it is one of these.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0x2000_8086 => Some(Self::Remote),
            0x2000_8087 => Some(Self::Qemu),
            0x4665_7272 => Some(Self::Ferry),
            _ => None,
        }
    }
}

/// Whether stock runs a call in its small extra pool when all ordinary workers are stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// May wait behind other calls.
    Low,
    /// Answered even when everything else waits: it never waits for a guest.
    High,
}

/// Which way stream frames flow after the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The call opens no stream.
    None,
    /// The client sends.
    ToServer,
    /// The server sends.
    ToClient,
    /// Both send.
    BothWays,
}

/// Who may use a procedure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A call that changes nothing: any connection.
    Read,
    /// A call that changes something, or reveals a secret: not a read-only connection.
    Write {
        /// The function's name in the refusal, `read only access prevents virDomainCreate`.
        api: &'static str,
        /// The origin of the refusal.
        origin: Origin,
    },
    /// A message from the server; nobody may call it.
    Event,
}

/// One row of the table.
struct Row {
    program: Program,
    number: i32,
    name: &'static str,
    priority: Priority,
    stream: Stream,
    access: Access,
}

/// Builds the enum and its rows from the table.
macro_rules! procedures {
    ($($program:ident $number:literal $variant:ident = $name:ident,
       $priority:ident, $stream:ident, $access:tt;)*) => {
        /// A procedure or an event that a stock client may use.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Procedure {
            $(
                #[doc = concat!("`", stringify!($name), "`, ", stringify!($number), ".")]
                $variant,
            )*
        }

        impl Procedure {
            /// All of them, in the order of their programs and numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The procedure with this number, if there is one.
            #[must_use]
            pub const fn from_number(program: Program, number: i32) -> Option<Self> {
                match (program, number) {
                    $((Program::$program, $number) => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        pub(super) const ROWS: &[Row] = &[$(Row {
            program: Program::$program,
            number: $number,
            name: stringify!($name),
            priority: Priority::$priority,
            stream: Stream::$stream,
            access: procedures!(@access $access),
        }),*];
    };
    (@access [read]) => { Access::Read };
    (@access [event]) => { Access::Event };
    (@access [write $origin:ident $api:literal]) => { Access::Write { api: $api, origin: Origin::$origin } };
}

mod table;

pub use table::Procedure;

impl Procedure {
    /// The program that it belongs to.
    #[must_use]
    pub const fn program(self) -> Program {
        self.row().program
    }

    /// Its number within the program.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.row().number
    }

    /// Its name in the protocol description, without the program's prefix: `domain_create`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Whether it may wait behind other calls.
    #[must_use]
    pub const fn priority(self) -> Priority {
        self.row().priority
    }

    /// Which way stream frames flow after its reply.
    #[must_use]
    pub const fn stream(self) -> Stream {
        self.row().stream
    }

    /// Who may use it.
    #[must_use]
    pub const fn access(self) -> Access {
        self.row().access
    }

    const fn row(self) -> &'static Row {
        &table::ROWS[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_where_their_variants_say() {
        for procedure in Procedure::ALL {
            assert_eq!(Procedure::from_number(procedure.program(), procedure.number()), Some(*procedure));
        }
        assert_eq!(Procedure::ALL.len(), 308);
    }

    #[test]
    fn facts_of_the_protocol() {
        let start = Procedure::DomainCreate;
        assert_eq!((start.number(), start.name(), start.priority()), (9, "domain_create", Priority::Low));
        assert_eq!(start.access(), Access::Write { api: "virDomainCreate", origin: Origin::DOMAIN });
        assert_eq!(Procedure::DomainOpenConsole.stream(), Stream::BothWays);
        assert_eq!(Procedure::DomainMigratePrepareTunnel3Params.stream(), Stream::ToServer);
        assert_eq!(Procedure::DomainEventCallbackLifecycle.access(), Access::Event);
        assert_eq!(Procedure::from_number(Program::Qemu, 1), Some(Procedure::QemuDomainMonitorCommand));
        assert_eq!(Procedure::from_number(Program::Remote, 9999), None);
    }
}

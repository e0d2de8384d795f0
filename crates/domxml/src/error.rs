//! Why a domain XML is not accepted. The daemon maps these to wire errors through [`ParseError::code`].

/// Number of an error on libvirt's wire (`virErrorNumber`).
pub type WireCode = u32;

/// The document is not a domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not well-formed XML, or XML that we do not read (document type, entities).
    #[error("(domain_definition):{line}: {reason}")]
    Malformed {
        /// Line of the document, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A bound on the document was passed before it was read to its end.
    #[error("domain definition exceeds {limit} {what}")]
    TooLarge {
        /// The bound's unit: bytes, levels, nodes.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// The root is something else.
    #[error("XML error: unexpected root element <{found}>, expecting <domain>")]
    RootElement {
        /// Name of the root element.
        found: String,
    },
    /// The domain type is not one of QEMU's.
    #[error("XML error: invalid domain type '{found}', expecting one of: qemu kvm")]
    DomainType {
        /// The value of the attribute.
        found: String,
    },
    /// A domain without a name, or with an unusable one.
    #[error("{0}")]
    Name(NameError),
    /// No `<os><type>`.
    #[error("XML error: an os <type> must be specified")]
    MissingOsType,
    /// An OS type other than `hvm`.
    #[error("unsupported os type '{found}', only 'hvm' is supported")]
    OsType {
        /// The text of `<os><type>`.
        found: String,
    },
    /// An element that every domain has is not there.
    #[error("XML error: missing required element '{element}'")]
    MissingElement {
        /// Name of the element.
        element: String,
    },
    /// An attribute that the element cannot be without is not there.
    #[error("XML error: Missing required attribute '{attribute}' in element '{element}'")]
    MissingAttribute {
        /// Name of the attribute.
        attribute: String,
        /// Name of its element.
        element: String,
    },
    /// An attribute's value is none of its kind.
    #[error("XML error: Invalid value for attribute '{attribute}' in element '{element}': '{value}'.")]
    InvalidAttribute {
        /// Name of the attribute.
        attribute: String,
        /// Name of its element.
        element: String,
        /// The value as written.
        value: String,
    },
    /// An element's text is none of its kind.
    #[error("XML error: Invalid value for element '{element}': '{value}'.")]
    InvalidText {
        /// Name of the element.
        element: String,
        /// The text as written.
        value: String,
    },
    /// Two parts of the definition contradict each other.
    #[error("XML error: {0}")]
    Contradiction(String),
    /// A contradiction that stock reports as an unsupported configuration.
    #[error("unsupported configuration: {0}")]
    Unsupported(String),
}

/// What is wrong with the name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No `<name>`.
    #[error("missing name information")]
    Missing,
    /// `<name>` is empty.
    #[error("XML error: name cannot be empty string")]
    Empty,
    /// A `/` or a line break: the name becomes part of paths.
    #[error("XML error: name {name} cannot contain '{character}'")]
    Character {
        /// The name.
        name: String,
        /// The offending character, escaped.
        character: String,
    },
}

impl ParseError {
    /// The number of this error on the wire. Its origin there is the domain's (20) but for `Malformed` and
    /// `TooLarge`, which are raised by whatever read the document.
    pub fn code(&self) -> WireCode {
        match self {
            Self::Malformed { .. } | Self::TooLarge { .. } => 35,
            Self::Name(NameError::Missing) => 21,
            Self::OsType { .. } => 16,
            Self::Unsupported(_) => 67,
            Self::RootElement { .. }
            | Self::DomainType { .. }
            | Self::Name(NameError::Empty | NameError::Character { .. })
            | Self::MissingOsType
            | Self::MissingElement { .. }
            | Self::MissingAttribute { .. }
            | Self::InvalidAttribute { .. }
            | Self::InvalidText { .. }
            | Self::Contradiction(_) => 27,
        }
    }
}

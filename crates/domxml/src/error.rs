//! Why a domain XML is not accepted. The daemon maps these to wire errors through [`ParseError::code`].

/// Number of an error on libvirt's wire (`virErrorNumber`).
pub type WireCode = u32;

/// The document is not a domain. Texts are those of stock (observed with 9.0) where it has one.
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
    #[error("(domain_definition): more than {limit} {what}")]
    TooLarge {
        /// The bound's unit: bytes, levels, nodes.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// The root is something else.
    #[error("XML error: expecting root element of 'domain', not '{found}'")]
    RootElement {
        /// Name of the root element.
        found: String,
    },
    /// `<domain>` does not say what runs it.
    #[error("internal error: missing domain type attribute")]
    MissingDomainType,
    /// The domain type is not one of QEMU's.
    #[error("unsupported configuration: invalid domain type {found}")]
    DomainType {
        /// The value of the attribute.
        found: String,
    },
    /// A domain without a name.
    #[error("missing name information")]
    MissingName,
    /// A `/` or a line break: the name becomes part of paths.
    #[error("XML error: name {name} cannot contain '{character}'")]
    NameCharacter {
        /// The name.
        name: String,
        /// The offending character, escaped.
        character: &'static str,
    },
    /// No `<memory>`.
    #[error("XML error: Memory size must be specified via <memory> or in the <numa> configuration")]
    MissingMemory,
    /// No `<os><type>`.
    #[error("XML error: an os <type> must be specified")]
    MissingOsType,
    /// An OS type other than `hvm`.
    #[error("unknown OS type {found}")]
    OsType {
        /// The text of `<os><type>`.
        found: String,
    },
    /// A disk without `<target>`.
    #[error("missing target information for device")]
    MissingTarget,
    /// A disk without `<source>` that is no removable drive.
    #[error("missing source information for device {target}")]
    MissingSource {
        /// The disk's target.
        target: String,
    },
    /// An element that its parent cannot be without is not there.
    #[error("XML error: missing element '{element}' in element '{parent}'")]
    MissingElement {
        /// Name of the element.
        element: &'static str,
        /// Where it should be.
        parent: String,
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
        /// The value as written, cut off when it is long.
        value: String,
    },
    /// An element's text is none of its kind.
    #[error("XML error: Invalid value '{value}' for element '{element}'")]
    InvalidText {
        /// Name of the element.
        element: String,
        /// The text as written, cut off when it is long.
        value: String,
    },
    /// A contradiction that stock reports as an internal error.
    #[error("internal error: {0}")]
    Internal(String),
    /// A value that its kind allows and its meaning does not, in stock's bare words.
    #[error("{0}")]
    Detail(String),
    /// Two parts of the definition contradict each other.
    #[error("XML error: {0}")]
    Contradiction(String),
    /// A contradiction that stock reports as an unsupported configuration.
    #[error("unsupported configuration: {0}")]
    Unsupported(String),
}

impl ParseError {
    /// The number of this error on the wire.
    pub fn code(&self) -> WireCode {
        match self {
            Self::MissingDomainType | Self::Internal(_) => 1,
            Self::OsType { .. } => 16,
            Self::MissingSource { .. } => 19,
            Self::MissingTarget => 20,
            Self::MissingName => 21,
            Self::RootElement { .. }
            | Self::NameCharacter { .. }
            | Self::MissingMemory
            | Self::MissingOsType
            | Self::MissingElement { .. }
            | Self::MissingAttribute { .. }
            | Self::InvalidAttribute { .. }
            | Self::InvalidText { .. }
            | Self::Contradiction(_) => 27,
            Self::Malformed { .. } | Self::TooLarge { .. } | Self::Detail(_) => 35,
            Self::DomainType { .. } | Self::Unsupported(_) => 67,
        }
    }
}

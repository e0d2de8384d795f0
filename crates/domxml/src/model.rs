//! How typed elements are declared: one table per element, read and written from the same rows.
//!
//! `element!` declares a struct together with where each field stands in the XML; `values!` declares the
//! words of an attribute. The order of the rows is the order of the output. What a table does not name is
//! kept in the struct's [`Rest`], is written back, and is what `check_supported` refuses. A word that an enum
//! does not know is treated the same way: an optional attribute stays in `Rest`, and an element that cannot be
//! understood without it stays whole in its parent's `Rest`.
//!
//! Only the family modules of this crate use it. It knows nothing of any particular element.

mod fields;
mod input;
mod output;
mod scalar;

pub use scalar::{Mac, OnOff, Value, ValueError, YesNo};

pub(crate) use fields::{
    Attr, AttrOr, Child, ChildAttr, ChildOrDefault, Flag, FlagState, Flatten, NeededText, Text, TextChild,
    Unwritten,
};
pub(crate) use input::Input;
pub(crate) use output::{Output, Piece};
pub(crate) use scalar::parse_integer;

use crate::{Element, Node, ParseError};

/// What stands in an element beyond its modelled fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// Attributes that are not modelled, or whose value is not.
    pub attributes: Vec<(String, String)>,
    /// Elements and stray text that are not modelled.
    children: Vec<Kept>,
}

/// A piece of content that is not modelled.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    node: Node,
    /// How many elements of the same name stood before it, so that it goes back among them.
    place: usize,
}

impl Rest {
    /// Nothing was left over.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty() && self.children.is_empty()
    }

    /// How many kept elements are called `name`.
    pub fn count(&self, name: &str) -> usize {
        self.children.iter().filter(|kept| kept.name() == Some(name)).count()
    }

    /// The first kept element called `name`.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find_map(|kept| match &kept.node {
            Node::Element(element) if element.name == name => Some(element),
            Node::Element(_) | Node::Text(_) | Node::Comment(_) | Node::Instruction(_) => None,
        })
    }
}

impl Kept {
    /// The name of the element, if it is one.
    fn name(&self) -> Option<&str> {
        match &self.node {
            Node::Element(element) => Some(&element.name),
            Node::Text(_) | Node::Comment(_) | Node::Instruction(_) => None,
        }
    }
}

/// Why an element did not become its type.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Not wrong, but not modelled: the parent keeps the element as it is.
    Unmodelled,
    /// Wrong in any libvirt dialect.
    Invalid(ParseError),
}

impl From<ParseError> for Refusal {
    fn from(error: ParseError) -> Self {
        Self::Invalid(error)
    }
}

/// A type with an XML element of its own.
pub(crate) trait Model: Sized {
    /// Takes from `input` what the type knows; keeps the rest.
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal>;
    /// Writes attributes and content into the open element.
    fn write(&self, out: &mut Output);
}

/// Reads `element` as a `T`.
pub(crate) fn read<T: Model>(element: &Element) -> Result<T, Refusal> {
    T::read(&mut Input::new(element))
}

/// Declares a struct and its element. A row is `field: Type => Place("name", …)`; the places are the traits of
/// [`fields`]. An `order` sorts the children on output, for elements whose kept children belong between rows.
macro_rules! element {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* $field:ident : $type:ty => $place:ident ( $($argument:expr),* ) ),* $(,)?
        }
        $( attributes [ $($attribute:literal),* $(,)? ] )?
        $( order [ $($child:literal),* $(,)? ] )?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
            /// What is written here and not modelled above.
            pub rest: $crate::model::Rest,
        }

        impl $crate::model::Model for $name {
            fn read(input: &mut $crate::model::Input<'_>) -> Result<Self, $crate::model::Refusal> {
                Ok(Self {
                    $( $field: <$type as $crate::model::$place>::take(input, $($argument),*)?, )*
                    rest: input.rest(),
                })
            }

            fn write(&self, out: &mut $crate::model::Output) {
                $( <$type as $crate::model::$place>::put(&self.$field, out, $($argument),*); )*
                out.rest(&self.rest);
                $( out.sort_attributes(&[$($attribute),*]); )?
                $( out.sort_children(&[$($child),*]); )?
            }
        }
    };
}
pub(crate) use element;

/// Declares an enum whose variants are words of the XML.
macro_rules! values {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $word:literal ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant, )*
        }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            /// The word in the XML.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::model::Value for $name {
            fn parse(text: &str) -> Result<Self, $crate::model::ValueError> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text)
                    .ok_or($crate::model::ValueError::Unknown)
            }

            fn to_text(&self) -> String {
                self.as_str().to_owned()
            }
        }
    };
}
pub(crate) use values;

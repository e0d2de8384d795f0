//! The places where a field may stand: the traits named in the rows of [`super::element!`].
//!
//! Every place has `take` (from the element being read) and `put` (into the element being written).

use super::{Input, Model, Output, Refusal, Value, read};
use crate::Element;

/// An attribute: required for a plain type, optional for `Option`.
pub(crate) trait Attr: Sized {
    fn take(input: &mut Input<'_>, name: &'static str) -> Result<Self, Refusal>;
    fn put(&self, out: &mut Output, name: &'static str);
}

impl<T: Value> Attr for T {
    fn take(input: &mut Input<'_>, name: &'static str) -> Result<Self, Refusal> {
        input.required(name)
    }

    fn put(&self, out: &mut Output, name: &'static str) {
        out.attribute(name, self);
    }
}

impl<T: Value> Attr for Option<T> {
    fn take(input: &mut Input<'_>, name: &'static str) -> Result<Self, Refusal> {
        input.attribute(name)
    }

    fn put(&self, out: &mut Output, name: &'static str) {
        out.optional(name, self);
    }
}

/// An attribute with a default when it is absent; always written.
pub(crate) trait AttrOr: Sized {
    fn take(input: &mut Input<'_>, name: &'static str, default: Self) -> Result<Self, Refusal>;
    fn put(&self, out: &mut Output, name: &'static str, default: Self);
}

impl<T: Value> AttrOr for T {
    fn take(input: &mut Input<'_>, name: &'static str, default: Self) -> Result<Self, Refusal> {
        input.attribute_or(name, default)
    }

    fn put(&self, out: &mut Output, name: &'static str, _default: Self) {
        out.attribute(name, self);
    }
}

/// A child element: at most one for `Option`, any number for `Vec`, exactly one for a plain type.
pub(crate) trait Child: Sized {
    fn take(input: &mut Input<'_>, name: &'static str) -> Result<Self, Refusal>;
    fn put(&self, out: &mut Output, name: &'static str);
}

impl<T: Model> Child for T {
    fn take(input: &mut Input<'_>, name: &'static str) -> Result<Self, Refusal> {
        if !input.has_child(name) {
            return Err(input.missing_child(name));
        }
        input.first(name, read)?.ok_or(Refusal::Unmodelled)
    }

    fn put(&self, out: &mut Output, name: &'static str) {
        out.model(name, self);
    }
}

/// A child element that means its default when it is absent; written unless it is empty.
pub(crate) trait ChildOrDefault: Sized {
    fn take(input: &mut Input<'_>, name: &'static str) -> Result<Self, Refusal>;
    fn put(&self, out: &mut Output, name: &'static str);
}

impl<T: Model + Default> ChildOrDefault for T {
    fn take(input: &mut Input<'_>, name: &'static str) -> Result<Self, Refusal> {
        Ok(input.first(name, read)?.unwrap_or_default())
    }

    fn put(&self, out: &mut Output, name: &'static str) {
        out.model(name, self);
    }
}

impl<T: Model> Child for Option<T> {
    fn take(input: &mut Input<'_>, name: &'static str) -> Result<Self, Refusal> {
        input.first(name, read)
    }

    fn put(&self, out: &mut Output, name: &'static str) {
        if let Some(model) = self {
            out.model(name, model);
        }
    }
}

impl<T: Model> Child for Vec<T> {
    fn take(input: &mut Input<'_>, name: &'static str) -> Result<Self, Refusal> {
        input.each(name, read)
    }

    fn put(&self, out: &mut Output, name: &'static str) {
        for model in self {
            out.model(name, model);
        }
    }
}

/// A child element that is nothing but one attribute: `<mtu size='1500'/>`. With anything else in it, it is
/// not this field and stays in the rest.
pub(crate) trait ChildAttr: Sized {
    fn take(input: &mut Input<'_>, child: &'static str, attribute: &'static str) -> Result<Self, Refusal>;
    fn put(&self, out: &mut Output, child: &'static str, attribute: &'static str);
}

impl<T: Value> ChildAttr for Option<T> {
    fn take(input: &mut Input<'_>, child: &'static str, attribute: &'static str) -> Result<Self, Refusal> {
        input.first(child, |element| only_attribute(element, attribute))
    }

    fn put(&self, out: &mut Output, child: &'static str, attribute: &'static str) {
        if let Some(value) = self {
            out.child(child, |out| out.attribute(attribute, value));
        }
    }
}

impl<T: Value> ChildAttr for Vec<T> {
    fn take(input: &mut Input<'_>, child: &'static str, attribute: &'static str) -> Result<Self, Refusal> {
        input.each(child, |element| only_attribute(element, attribute))
    }

    fn put(&self, out: &mut Output, child: &'static str, attribute: &'static str) {
        for value in self {
            out.child(child, |out| out.attribute(attribute, value));
        }
    }
}

/// A child element that is a switch: `<vmport state='off'/>`, or on when it says nothing.
pub(crate) trait FlagState: Sized {
    fn take(input: &mut Input<'_>, child: &'static str) -> Result<Self, Refusal>;
    fn put(&self, out: &mut Output, child: &'static str);
}

impl FlagState for Option<crate::OnOff> {
    fn take(input: &mut Input<'_>, child: &'static str) -> Result<Self, Refusal> {
        input.first(child, |element| {
            let mut input = Input::new(element);
            let state = input.attribute_or("state", crate::OnOff::On)?;
            input.finish()?;
            Ok(state)
        })
    }

    fn put(&self, out: &mut Output, child: &'static str) {
        ChildAttr::put(self, out, child, "state");
    }
}

/// The element's own text.
pub(crate) trait Text: Sized {
    fn take(input: &mut Input<'_>) -> Result<Self, Refusal>;
    fn put(&self, out: &mut Output);
}

impl<T: Value> Text for T {
    fn take(input: &mut Input<'_>) -> Result<Self, Refusal> {
        match input.text()? {
            Some(value) => Ok(value),
            None if input.is_blank() => Err(input.invalid_text("")),
            None => Err(Refusal::Unmodelled),
        }
    }

    fn put(&self, out: &mut Output) {
        out.text(self);
    }
}

impl<T: Value> Text for Option<T> {
    fn take(input: &mut Input<'_>) -> Result<Self, Refusal> {
        input.text()
    }

    fn put(&self, out: &mut Output) {
        if let Some(value) = self {
            out.text(value);
        }
    }
}

/// A child element that is nothing but text: `<serial>X1</serial>`.
pub(crate) trait TextChild: Sized {
    fn take(input: &mut Input<'_>, name: &'static str) -> Result<Self, Refusal>;
    fn put(&self, out: &mut Output, name: &'static str);
}

impl<T: Value> TextChild for Option<T> {
    fn take(input: &mut Input<'_>, name: &'static str) -> Result<Self, Refusal> {
        input.first(name, |element| {
            let mut inner = Input::new(element);
            let value = <T as Text>::take(&mut inner)?;
            inner.finish()?;
            Ok(value)
        })
    }

    fn put(&self, out: &mut Output, name: &'static str) {
        if let Some(value) = self {
            out.child(name, |out| out.text(value));
        }
    }
}

/// A child element that is nothing but text and must be there.
pub(crate) trait NeededText: Sized {
    fn take(input: &mut Input<'_>, name: &'static str) -> Result<Self, Refusal>;
    fn put(&self, out: &mut Output, name: &'static str);
}

impl<T: Value> NeededText for T {
    fn take(input: &mut Input<'_>, name: &'static str) -> Result<Self, Refusal> {
        <Option<T> as TextChild>::take(input, name)?.ok_or_else(|| input.missing_child(name))
    }

    fn put(&self, out: &mut Output, name: &'static str) {
        out.child(name, |out| out.text(self));
    }
}

/// An empty child element whose presence is the value: `<readonly/>`.
pub(crate) trait Flag: Sized {
    fn take(input: &mut Input<'_>, name: &'static str) -> Result<Self, Refusal>;
    fn put(&self, out: &mut Output, name: &'static str);
}

impl Flag for bool {
    fn take(input: &mut Input<'_>, name: &'static str) -> Result<Self, Refusal> {
        Ok(input.first(name, |element| Input::new(element).finish())?.is_some())
    }

    fn put(&self, out: &mut Output, name: &'static str) {
        if *self {
            out.child(name, |_| {});
        }
    }
}

/// A group of fields that stand in the parent's own element.
pub(crate) trait Flatten: Sized {
    fn take(input: &mut Input<'_>) -> Result<Self, Refusal>;
    fn put(&self, out: &mut Output);
}

/// A field that the XML does not carry.
pub(crate) trait Unwritten: Sized {
    fn take(input: &mut Input<'_>) -> Result<Self, Refusal>;
    fn put(&self, out: &mut Output);
}

impl<T: Default> Unwritten for T {
    fn take(_input: &mut Input<'_>) -> Result<Self, Refusal> {
        Ok(T::default())
    }

    fn put(&self, _out: &mut Output) {}
}

fn only_attribute<T: Value>(element: &Element, attribute: &'static str) -> Result<T, Refusal> {
    let mut input = Input::new(element);
    let value = input.required(attribute)?;
    input.finish()?;
    Ok(value)
}

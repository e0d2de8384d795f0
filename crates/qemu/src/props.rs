//! Ordered properties: what stands behind `-device`, `-blockdev`, `-netdev` and `-object`.
//!
//! The command line and device hotplug say the same thing in two places, so both are built from a
//! [`Props`] and written out at the edge. The order of insertion is kept, because a command line that
//! can be laid beside stock's is easier to trust. This file knows nothing of any device.

use std::fmt;

/// A value as QEMU's JSON options take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// JSON null: `"backing": null` ends a chain.
    Null,
    /// A switch.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A string; PCI addresses are strings too (`"0x2.0x1"`).
    Str(String),
    /// A list.
    List(Vec<Value>),
    /// A nested object.
    Object(Props),
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<u64> for Value {
    /// Sizes above 2^63 do not exist in a domain; they saturate.
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Str(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Str(value)
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Str(value.clone())
    }
}

impl From<Props> for Value {
    fn from(value: Props) -> Self {
        Self::Object(value)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

/// Named values in the order in which they were set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Props(Vec<(String, Value)>);

impl Props {
    /// No property yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Properties of a device: `driver` comes first.
    #[must_use]
    pub fn driver(driver: impl Into<Value>) -> Self {
        Self::new().with("driver", driver)
    }

    /// Properties of an object: `qom-type` and `id` come first.
    #[must_use]
    pub fn object(qom_type: &str, id: impl Into<Value>) -> Self {
        Self::new().with("qom-type", qom_type).with("id", id)
    }

    /// Adds a property.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// Adds a property when there is a value for it.
    pub fn set_some<T: Into<Value>>(&mut self, name: &str, value: Option<T>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// [`Props::set`], for chains.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// [`Props::set_some`], for chains.
    #[must_use]
    pub fn with_some<T: Into<Value>>(mut self, name: &str, value: Option<T>) -> Self {
        self.set_some(name, value);
        self
    }

    /// The value of a property.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// All properties in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The same properties as a JSON value, for QMP (`device_add`, `blockdev-add`, …).
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        self.0.iter().map(|(name, value)| (name.clone(), value.to_json())).collect()
    }
}

impl Value {
    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Str(value) => value.as_str().into(),
            Self::List(values) => values.iter().map(Self::to_json).collect(),
            Self::Object(props) => props.to_json(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Int(value) => write!(out, "{value}"),
            // serde_json escapes; a string alone has no order to lose.
            Self::Str(value) => write!(out, "{}", serde_json::Value::from(value.as_str())),
            Self::List(values) => {
                out.write_str("[")?;
                for (index, value) in values.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(out, "{comma}{value}")?;
                }
                out.write_str("]")
            }
            Self::Object(props) => write!(out, "{props}"),
        }
    }
}

/// JSON without spaces, in order.
impl fmt::Display for Props {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("{")?;
        for (index, (name, value)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(out, "{comma}{}:{value}", serde_json::Value::from(name.as_str()))?;
        }
        out.write_str("}")
    }
}

/// An option in QEMU's older `a,b=c` form, for the few options that have no JSON form in QEMU 7.2
/// (`-machine`, `-chardev`, `-smbios`, …). A comma inside a value is doubled, which is the only escape
/// that form has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyValue(String);

impl KeyValue {
    /// Begins with a bare word (`pty`, `node`), or with nothing when `head` is empty.
    #[must_use]
    pub fn new(head: &str) -> Self {
        Self(escape(head))
    }

    /// Adds `name=value`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&escape(&value.to_string()));
        self
    }

    /// Adds `name=value` when there is a value.
    #[must_use]
    pub fn with_some<T: fmt::Display>(self, name: &str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds `name=on` or `name=off`.
    #[must_use]
    pub fn switch(self, name: &str, on: bool) -> Self {
        self.with(name, on_off(on))
    }
}

impl fmt::Display for KeyValue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// `on` or `off`, the words of QEMU's switches.
#[must_use]
pub fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_the_order_and_escapes_strings() {
        let props = Props::driver("virtio-blk-pci")
            .with("bus", "pci.0")
            .with("bootindex", 1)
            .with("serial", "a\"b\\c\n")
            .with("share-rw", true)
            .with("backing", Value::Null)
            .with("vqs", vec![1, 3]);
        let expected = r#"{"driver":"virtio-blk-pci","bus":"pci.0","bootindex":1,"serial":"a\"b\\c\n","share-rw":true,"backing":null,"vqs":[1,3]}"#;
        assert_eq!(props.to_string(), expected);
        let parsed: serde_json::Value = serde_json::from_str(&props.to_string()).unwrap();
        assert_eq!(parsed, props.to_json());
    }

    #[test]
    fn a_comma_cannot_begin_a_new_option() {
        let option = KeyValue::new("file").with("path", "/tmp/a,id=evil").switch("append", true);
        assert_eq!(option.to_string(), "file,path=/tmp/a,,id=evil,append=on");
    }
}

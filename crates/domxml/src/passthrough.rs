//! `<qemu:commandline>`: words for QEMU that no element has, and variables of its environment.
//!
//! They are what stands in [`NAMESPACE`], whichever prefix a document has for it; written, the prefix is `qemu`.

use crate::model::element;
use crate::{Element, Node, ParseError};

/// The namespace of QEMU's own elements.
pub const NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// Its prefix, as we and stock write it.
const PREFIX: &str = "qemu";

element! {
    /// Words and variables for QEMU. What they do to the guest nobody checks.
    #[derive(Default)]
    pub struct QemuCommandLine {
        /// Words at the end of the command line.
        arguments: Vec<QemuArgument> => Child("qemu:arg"),
        /// Variables of the environment.
        variables: Vec<QemuVariable> => Child("qemu:env"),
    }
}

element! {
    /// `<qemu:arg>`
    pub struct QemuArgument {
        /// One word. `None` is refused when the definition is read.
        value: Option<String> => Attr("value"),
    }
}

element! {
    /// `<qemu:env>`
    pub struct QemuVariable {
        /// Its name. `None` is refused when the definition is read.
        name: Option<String> => Attr("name"),
        /// Its value. `None`: empty.
        value: Option<String> => Attr("value"),
    }
}

/// Gives the elements of QEMU's namespace our prefix, wherever the document declares it.
///
/// # Errors
/// An element has our prefix in another namespace.
pub(crate) fn settle_prefix(root: &mut Element) -> Result<(), ParseError> {
    let around: Vec<(String, String)> = root.attributes.clone();
    let mut is_used = false;
    root.children.retain_mut(|node| {
        let Node::Element(child) = node else { return true };
        let Some((prefix, name)) = child.name.split_once(':') else { return true };
        let declaration = format!("xmlns:{prefix}");
        let of_root = around.iter().find(|(name, _)| *name == declaration).map(|(_, uri)| uri.as_str());
        if child.attribute(&declaration).or(of_root) != Some(NAMESPACE) {
            return true;
        }
        // Nothing is asked for.
        if name == "commandline" && child.children.is_empty() {
            return false;
        }
        let prefix = prefix.to_owned();
        child.attributes.retain(|(name, _)| *name != declaration);
        rename(child, &prefix);
        is_used = true;
        true
    });
    root.attributes.retain(|(name, uri)| !name.starts_with("xmlns:") || uri != NAMESPACE);
    if is_used {
        root.attributes.push((format!("xmlns:{PREFIX}"), NAMESPACE.to_owned()));
        return Ok(());
    }
    match root.elements().find(|child| child.name.starts_with("qemu:")) {
        Some(child) => {
            let name = crate::reader::shorten(&child.name);
            let text = format!("element '{name}' is not in the namespace {NAMESPACE}");
            Err(ParseError::Unsupported(text))
        }
        None => Ok(()),
    }
}

fn rename(element: &mut Element, prefix: &str) {
    if let Some((found, name)) = element.name.split_once(':')
        && found == prefix
    {
        element.name = format!("{PREFIX}:{name}");
    }
    for node in &mut element.children {
        if let Node::Element(child) = node {
            rename(child, prefix);
        }
    }
}

/// The first word or variable that is none.
pub(crate) fn check(line: &QemuCommandLine) -> Result<(), ParseError> {
    let refuse = |text: &str| Err(ParseError::Internal(text.to_owned()));
    if line.arguments.iter().any(|argument| argument.value.as_ref().is_none_or(String::is_empty)) {
        return refuse("No qemu command-line argument specified");
    }
    for variable in &line.variables {
        let Some(name) = &variable.name else { return refuse("No qemu environment name specified") };
        if !name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_') {
            return refuse("Invalid environment name, it must begin with a letter or underscore");
        }
        if !name.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'_') {
            return refuse("Invalid environment name, it must contain only alphanumerics and underscore");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{Domain, FormatOptions};

    fn read(namespace: &str, inside: &str) -> Result<Domain, String> {
        let text = format!(
            "<domain type='qemu' {namespace}><name>a</name><memory>9</memory><os><type>hvm</type></os>{inside}</domain>"
        );
        let domain = Domain::parse(&text).map_err(|error| error.to_string())?;
        domain.check_supported().map_err(|error| error.to_string())?;
        Ok(domain)
    }

    const OURS: &str = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'";

    #[test]
    fn words_are_found_by_their_namespace_and_written_with_our_prefix() {
        let words = |p: &str| {
            format!(
                "<{p}:commandline><{p}:arg value='-S'/><{p}:env name='A' value='b'/><{p}:env name='C'/></{p}:commandline>"
            )
        };
        let ours = read(OURS, &words("qemu")).unwrap();
        let line = ours.qemu_command_line.as_ref().unwrap();
        assert_eq!((line.arguments.len(), line.variables.len()), (1, 2));
        let other = read("xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'", &words("q")).unwrap();
        assert_eq!(other, ours);
        let inner = words("q").replacen('>', " xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>", 1);
        assert_eq!(read("", &inner).unwrap(), ours);
        let text = ours.format(FormatOptions::INACTIVE);
        assert!(text.starts_with("<domain type='qemu' xmlns:qemu='http"), "{text}");
        assert!(text.contains("  <qemu:commandline>\n    <qemu:arg value='-S'/>\n    <qemu:env"), "{text}");
        assert_eq!(Domain::parse(&text).unwrap(), ours);
        assert_eq!(read(OURS, "<qemu:commandline/>").unwrap().qemu_command_line, None);
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let refusal = |namespace, inside: &str| read(namespace, inside).unwrap_err();
        assert_eq!(
            refusal("xmlns:qemu='urn:x'", "<qemu:commandline><qemu:arg value='-S'/></qemu:commandline>"),
            "unsupported configuration: element 'qemu:commandline' is not in the namespace \
             http://libvirt.org/schemas/domain/qemu/1.0"
        );
        for (inside, text) in [
            (
                "<qemu:capabilities><qemu:add capability='x'/></qemu:capabilities>",
                "element 'qemu:capabilities'",
            ),
            ("<qemu:deprecation behavior='reject'/>", "element 'qemu:deprecation'"),
            ("<qemu:override><qemu:device alias='x'/></qemu:override>", "element 'qemu:override'"),
            ("<qemu:commandline><qemu:foo/></qemu:commandline>", "element 'qemu:commandline/qemu:foo'"),
        ] {
            let refused = refusal(OURS, inside);
            assert!(refused.starts_with(&format!("unsupported configuration: {text}")), "{refused}");
        }
    }
}

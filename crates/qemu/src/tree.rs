//! Documents that say what a host can do, put together element by element. Used by [`crate::host_caps`],
//! [`crate::domain_caps`] and [`crate::cpu_match`].

use ferry_domxml::{Element, Node};

/// An element under construction.
pub(crate) struct Tree(Element);

/// An element with neither attributes nor content.
pub(crate) fn element(name: &str) -> Tree {
    Tree(Element::new(name))
}

impl Tree {
    pub(crate) fn attribute(mut self, name: &str, value: impl ToString) -> Self {
        self.0.attributes.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn text(mut self, text: impl ToString) -> Self {
        self.0.children.push(Node::Text(text.to_string()));
        self
    }

    pub(crate) fn with(mut self, child: Self) -> Self {
        self.0.children.push(Node::Element(child.0));
        self
    }

    pub(crate) fn with_all(self, children: impl IntoIterator<Item = Self>) -> Self {
        children.into_iter().fold(self, Self::with)
    }

    pub(crate) fn format(&self) -> String {
        self.0.format()
    }
}

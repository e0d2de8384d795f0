//! What the devices of the virtio family have in common: their generation and the options of `<driver>`.

use crate::model::{Attr, Flatten, Input, OnOff, Output, Refusal, element};

/// Options that every virtio device takes, as attributes of its `<driver>`. All are features that the guest
/// negotiates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtioOptions {
    /// Whether the device goes through the guest's IOMMU.
    pub iommu: Option<OnOff>,
    /// Whether it may cache the IOMMU's translations.
    pub ats: Option<OnOff>,
    /// Whether it offers packed queues.
    pub packed: Option<OnOff>,
    /// Whether each queue has a page of its own.
    pub page_per_vq: Option<OnOff>,
}

impl VirtioOptions {
    /// Nothing was asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Flatten for VirtioOptions {
    fn take(input: &mut Input<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            iommu: Attr::take(input, "iommu")?,
            ats: Attr::take(input, "ats")?,
            packed: Attr::take(input, "packed")?,
            page_per_vq: Attr::take(input, "page_per_vq")?,
        })
    }

    fn put(&self, out: &mut Output) {
        Attr::put(&self.iommu, out, "iommu");
        Attr::put(&self.ats, out, "ats");
        Attr::put(&self.packed, out, "packed");
        Attr::put(&self.page_per_vq, out, "page_per_vq");
    }
}

element! {
    /// `<driver>` of a virtio device that has no further settings.
    #[derive(Default)]
    pub struct VirtioDriver {
        /// What all virtio devices take.
        virtio: VirtioOptions => Flatten(),
    }
}

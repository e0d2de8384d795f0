//! What the devices of the virtio family have in common.

use ferry_domxml::disk::VirtioModel;
use ferry_domxml::virtio::{VirtioDriver, VirtioOptions};

use crate::props::Props;

/// A virtio device of the generation that the definition asks for.
pub(super) fn virtio_driver(driver: &str, model: Option<VirtioModel>) -> String {
    match model {
        None | Some(VirtioModel::Virtio) => driver.to_owned(),
        Some(VirtioModel::Transitional) => format!("{driver}-transitional"),
        Some(VirtioModel::NonTransitional) => format!("{driver}-non-transitional"),
    }
}

/// Adds the options that every virtio device takes.
pub(super) fn virtio_options(props: Props, options: Option<&VirtioOptions>) -> Props {
    let Some(options) = options else { return props };
    props
        .with_some("iommu_platform", options.iommu.map(|on| on.is_on()))
        .with_some("ats", options.ats.map(|on| on.is_on()))
        .with_some("packed", options.packed.map(|on| on.is_on()))
        .with_some("page-per-vq", options.page_per_vq.map(|on| on.is_on()))
}

/// The same for a device whose `<driver>` has nothing else.
pub(super) fn plain_options(props: Props, driver: Option<&VirtioDriver>) -> Props {
    virtio_options(props, driver.map(|driver| &driver.virtio))
}

//! The control plane's doors: [`link`] for boxes, [`public`] for viewers.

pub mod link;
pub mod public;

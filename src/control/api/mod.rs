//! The control plane's doors: [`link`] for boxes.

pub mod link;

//! The control plane's doors: [`link`] for boxes, [`admin`] for its operator.

pub mod admin;
pub mod link;

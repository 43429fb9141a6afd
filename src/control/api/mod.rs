//! The control plane's doors: [`link`] for boxes, [`public`] for viewers, [`admin`] for its
//! operator.

pub mod admin;
mod bind;
mod crowd;
pub mod link;
pub mod public;

//! The control plane's doors: [`admin`] for its operator.

pub mod admin;

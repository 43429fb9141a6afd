//! The machine against values.

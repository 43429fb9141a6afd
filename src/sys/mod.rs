//! The only unsafe code: one system call family a file, safe types out.
#![allow(unsafe_code)]

pub mod allocations;
pub mod arrivals;
pub mod clock_sync;
pub mod ktls;
pub mod outq;
pub mod pacing;
pub mod page_cache;
pub mod priority;
mod socket_option;
pub mod tcp;

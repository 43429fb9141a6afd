//! The only unsafe code: one system call family a file, safe types out.
#![allow(unsafe_code)]

pub mod allocations;
pub mod arrivals;
pub mod blocks;
pub mod clock_sync;
pub mod hops;
pub mod ktls;
pub mod md5;
pub mod netlink;
pub mod outq;
pub mod pacing;
pub mod page_cache;
pub mod priority;
pub mod ring;
mod socket_option;
pub mod tcp;
pub mod tcp_ao;

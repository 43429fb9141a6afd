//! The only unsafe code: one system call family a file, safe types out.
#![allow(unsafe_code)]

pub mod clock_sync;
pub mod ktls;
pub mod pacing;

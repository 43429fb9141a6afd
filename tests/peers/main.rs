//! Real peers against a real box: curl, ffmpeg as a player, Chromium with hls.js.
//!
//! Each test starts its own box on loopback; one plays from a disk that others read to its limit
//! (root). `tests/run` installs the peers; without them the
//! tests fail and say what to install.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

#[path = "../support/loop_disk.rs"]
mod loop_disk;
#[path = "../support/mod.rs"]
mod support;

mod browser;
mod curl;
mod ffmpeg;
mod second_client;
mod share;
mod web;

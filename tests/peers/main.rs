//! Real peers against a real box: curl, ffmpeg as a player, Chromium with hls.js.
//!
//! Each test starts its own box on loopback. `tests/run` installs the peers; without them the
//! tests fail and say what to install.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod browser;
mod curl;
mod ffmpeg;

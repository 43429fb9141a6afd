//! `oca`: an open video-cache appliance. This file is the map.
//!
//! # Reading order
//!
//! 1. Vocabulary, which imports nothing of ours but itself: [`units`], [`clock`], [`object`],
//!    [`key`], [`media_type`], [`ids`], [`prefix`], [`prefix_map`], [`route`], [`route_table`],
//!    [`set_hash`], [`window`], [`gate`], [`command`], [`help`].
//! 2. Plumbing: [`task`] (shutdown, heartbeats), [`telemetry`], [`tls`], [`local`] (sockets of
//!    operators), [`tree`] (a directory of media), [`origin`] (where content comes from), `sys`
//!    (every unsafe block).
//! 3. The rooms of a box: [`store`], [`serve`], [`bgp`], [`fill`], [`load`], [`peer`],
//!    [`health`], [`admin`]; each opens with its path in ten lines. [`link`] is the wire to the
//!    control plane, which both sides import.
//! 4. The wiring of a box: [`appliance`], and [`config`], the only room that knows TOML.
//! 5. The control plane: [`control`], with its wiring in `control::run` and `control::parts`.
//! 6. The outside: [`cli`], [`demo`].
//!
//! # Five questions and where they are answered
//!
//! * *A viewer gets a segment*: [`serve`], from `listener` to `access`.
//! * *What is on the disks*: [`store`], from `prefill` to `index`.
//! * *A router announces a prefix*: [`bgp`], from `listener` to `publish`; [`health`] reports it;
//!   `control::fleet` takes it; `control::steer` weighs it.
//! * *At 2 AM*: [`fill`], from `plan` to `fetch`; [`peer`] gives to other boxes.
//! * *What each box holds, and which box each viewer gets*: [`control`], from `import` to `steer`.
//!
//! # Layers
//!
//! `main, cli, demo` → `appliance` → `admin, health` → `serve, bgp, fill, peer` → `link, store` →
//! `sys`; `control` → `link, origin`, and no room of the box; everybody → vocabulary.
//! `tests/tidy.rs` holds it so. docs/ARCHITECTURE.md has the invariants.

#![deny(unsafe_code)]

pub mod admin;
pub mod appliance;
pub mod bgp;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod control;
pub mod demo;
pub mod durable;
pub mod fill;
pub mod gate;
pub mod health;
pub mod help;
pub mod ids;
pub mod key;
pub mod link;
pub mod load;
pub mod local;
pub mod lock;
pub mod media_type;
pub mod object;
pub mod origin;
pub mod pacer;
pub mod peer;
pub mod prefix;
pub mod prefix_map;
pub mod route;
pub mod route_table;
pub mod serve;
pub mod set_hash;
pub mod store;
pub mod sys;
pub mod task;
pub mod telemetry;
pub mod tls;
pub mod tree;
pub mod units;
pub mod window;

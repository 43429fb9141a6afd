//! `oca`: an open video-cache appliance.
#![deny(unsafe_code)]

pub mod admin;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod demo;
pub mod gate;
pub mod health;
pub mod help;
pub mod ids;
pub mod key;
pub mod media_type;
pub mod object;
pub mod serve;
pub mod store;
pub mod sys;
pub mod task;
pub mod telemetry;
pub mod tls;
pub mod units;

//! The command line: one file a command.
//!
//! Exit codes: 0 ok, 1 failed, 2 usage, 3 daemon unreachable, 4 not found, 5 refused by state,
//! 78 bad configuration.

mod act;
mod bgp;
mod certificate;
mod check;
pub mod client;
mod control;
mod extras;
mod fill;
mod prefill;
mod run;
mod show;
mod show_routing;
mod speedtest;
mod table;
mod token;

use certificate::CertificateVerb;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use std::path::PathBuf;
use std::process::ExitCode;

/// An open video-cache appliance.
#[derive(Debug, Parser)]
#[command(name = "oca", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// How a command ended, as the process tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    NotFound = 4,
    Refused = 5,
    /// `EX_CONFIG`: systemd is told not to restart on it.
    Config = 78,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the appliance.
    Run(ConfigArgs),
    /// Check the configuration and print every problem at once.
    Check(check::CheckArgs),
    /// Show what a running box is and does.
    Show(show::ShowArgs),
    /// Take no new viewers; those being served finish.
    Drain {
        /// Open again by itself after this time, for example `3h`.
        #[arg(long = "for", value_name = "TIME")]
        time: Option<String>,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Take viewers again.
    Undrain {
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Read the configuration again; a bad one changes nothing.
    Reload {
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Change the log filter of a running box until it restarts.
    LogLevel {
        /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `oca::serve=debug,info`.
        level: String,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Start, pause or resume the fill.
    Fill {
        #[command(subcommand)]
        verb: FillVerb,
    },
    /// BGP sessions: take one down or up, have routes sent again, write MRT.
    #[command(subcommand)]
    Bgp(bgp::BgpCommand),
    /// Take a disk that was refused at first, or make a blank one ours.
    Disk {
        #[command(subcommand)]
        verb: DiskVerb,
    },
    /// Measure the way to a box: latency, download, upload.
    Speedtest(speedtest::SpeedtestArgs),
    /// Put a directory of media on the disks: hash, place, publish, write the manifest.
    Prefill(prefill::PrefillArgs),
    /// Signed URLs: make one, tell why one is refused, make a box's key file.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Run a control plane, and tell it what to do.
    Control(control::ControlArgs),
    /// Run the whole system on loopback and prove what it does.
    Demo(crate::demo::DemoArgs),
    /// A router of the demo, started by it.
    #[command(hide = true)]
    DemoRouter { script: PathBuf },
    /// Print shell completions.
    Completions { shell: clap_complete::Shell },
    /// Write manual pages into a directory.
    Man { dir: PathBuf },
}

/// What the fill is told.
#[derive(Debug, Subcommand)]
enum FillVerb {
    /// Plan and ask for sources at once; refused outside the window.
    Start {
        /// Without window and cap, until all is there; for a box that the control plane has as
        /// prefilling. Writes the certificate of content.
        #[arg(long)]
        prefill: bool,
        /// Do not wait for its end, nor show how far it is.
        #[arg(long, requires = "prefill")]
        no_wait: bool,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Receive nothing until it is resumed, restarts included.
    Pause {
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Show the certificate of what was held when a prefill was done, or check one.
    #[command(args_conflicts_with_subcommands = true)]
    Certificate {
        #[command(subcommand)]
        verb: Option<CertificateVerb>,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Go on after a pause.
    Resume {
        #[command(flatten)]
        socket: SocketArgs,
    },
}

/// What is done with a disk: one that `oca show disks` calls refused or suspect, or one that is to
/// leave.
#[derive(Debug, Subcommand)]
enum DiskVerb {
    /// Look at it again, now that the remedy was applied; it joins with all it holds.
    Adopt(DiskArgs),
    /// The same for a blank disk: it is made ours. Nothing is erased.
    Format(DiskArgs),
    /// Take a suspect disk back that somebody looked at: it is tried, scanned and read again.
    Check(DiskArgs),
    /// Empty a disk that is to leave the box: it takes no more objects, and those it has go to
    /// the other disks, restarts included. `oca show disks` says when it may be pulled.
    Retire {
        /// It stays after all.
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        disk: DiskArgs,
    },
}

#[derive(Debug, Args)]
struct DiskArgs {
    /// Its `path` in the configuration.
    path: PathBuf,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// The main file; `conf.d/*.toml` beside it is merged in lexical order.
    #[arg(long, value_name = "FILE", default_value = "/etc/oca/oca.toml")]
    pub config: PathBuf,
}

/// Where the daemon is asked.
#[derive(Clone, Debug, Args)]
pub struct SocketArgs {
    /// The admin socket. Questions fall back to the read-only twin beside it.
    #[arg(
        long,
        value_name = "PATH",
        env = "OCA_SOCKET",
        default_value = "/run/oca/oca.sock"
    )]
    pub socket: PathBuf,
    /// Print JSON.
    #[arg(short, long)]
    pub json: bool,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Parses the arguments, runs the command, tells the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Show(args) => show::show(&args),
        Command::Drain { time, socket } => act::drain(time.as_deref(), &socket),
        Command::Undrain { socket } => act::undrain(&socket),
        Command::Reload { socket } => act::reload(&socket),
        Command::LogLevel { level, socket } => act::log_level(&level, &socket),
        Command::Fill { verb } => match verb {
            FillVerb::Start {
                prefill: true,
                no_wait,
                socket,
            } => certificate::prefill(&socket, no_wait),
            FillVerb::Start { socket, .. } => act::fill(&socket, "/v1/fill/start"),
            FillVerb::Certificate { verb, socket } => match verb {
                Some(CertificateVerb::Check { file, socket }) => certificate::check(&file, &socket),
                None => certificate::show(&socket),
            },
            FillVerb::Pause { socket } => act::fill(&socket, "/v1/fill/pause"),
            FillVerb::Resume { socket } => act::fill(&socket, "/v1/fill/resume"),
        },
        Command::Bgp(command) => bgp::bgp(&command),
        Command::Disk { verb } => match verb {
            DiskVerb::Adopt(disk) => act::disk(&disk.socket, "/v1/disks/adopt", &disk.path),
            DiskVerb::Check(disk) => act::disk(&disk.socket, "/v1/disks/check", &disk.path),
            DiskVerb::Format(disk) => act::disk(&disk.socket, "/v1/disks/format", &disk.path),
            DiskVerb::Retire { undo, disk } => act::retire(&disk.socket, &disk.path, undo),
        },
        Command::Speedtest(args) => speedtest::speedtest(&args),
        Command::Prefill(args) => prefill::prefill(&args),
        Command::Token(command) => token::token(&command),
        Command::Control(args) => control::control(args),
        Command::Demo(args) => crate::demo::run(&args),
        Command::DemoRouter { script } => crate::demo::run_router(&script).map(|()| Exit::Ok),
        Command::Completions { shell } => extras::completions(shell),
        Command::Man { dir } => extras::man(&dir),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("oca: {}", told(&error));
            Exit::Failed.into()
        }
    }
}

/// The error and its causes. Many messages carry their cause in their own words already; it is not
/// told twice.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot listen: {source}")]
    struct Carries {
        source: std::io::Error,
    }

    #[test]
    fn a_cause_that_is_told_already_is_not_told_twice() {
        let source = std::io::Error::other("in use");
        let error = anyhow::Error::from(Carries { source });
        assert_eq!(told(&error), "cannot listen: in use");
        let error = Err::<(), _>(std::io::Error::other("in use")).context("cannot start");
        assert_eq!(told(&error.unwrap_err()), "cannot start: in use");
    }
}

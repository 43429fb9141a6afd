//! `oca control …`: the control plane itself, and every order and question to a running one.
//!
//! `run` is the daemon; the others speak to its socket: `partner`, `site`, `cluster` with policies,
//! `appliance` boxes, `title`, `import` content, `show` what there is. `ask` is how they all do
//! it. `secret` works on the file that viewers' URLs are signed with.

mod appliance;
mod ask;
mod cluster;
mod import;
mod partner;
mod quality;
mod run;
mod secret;
mod show;
mod site;
mod title;

use super::Exit;
use clap::Args;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct ControlArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the control plane.
    Run(run::RunArgs),
    /// Take content in: each file is read once for its digest.
    Import(import::ImportArgs),
    /// Replace the popularity of bundles by a CSV file: `bundle,popularity`.
    Popularity(import::PopularityArgs),
    /// Who may announce prefixes to our boxes.
    #[command(subcommand)]
    Partner(partner::PartnerCommand),
    /// Places where boxes stand.
    #[command(subcommand)]
    Site(site::SiteCommand),
    /// Boxes that hold one content plan between them.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// How the nights of clusters go: masters, waits, when a title is live.
    #[command(subcommand)]
    Policy(cluster::PolicyCommand),
    /// What may be shown, what is to come at once, what is to go.
    #[command(subcommand)]
    Title(title::TitleCommand),
    /// Boxes, and the tokens that make them who they are.
    #[command(subcommand)]
    Appliance(appliance::ApplianceCommand),
    /// The secret that viewers' URLs are signed with.
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// How the control plane is.
    Status(SocketArgs),
    /// What the boxes say of themselves.
    Boxes(SocketArgs),
    /// Routes that boxes learned.
    Routes(show::RoutesArgs),
    /// How content reaches the clients of boxes: throughput, empty buffers, losses.
    Quality(quality::QualityArgs),
    /// Which boxes a client gets for a key.
    Steer(show::SteerArgs),
    /// The same, with every box that was considered and why it lost.
    Explain(show::SteerArgs),
}

/// Where the control plane is asked.
#[derive(Clone, Debug, Args)]
struct SocketArgs {
    /// The admin socket. Questions fall back to the read-only twin beside it.
    #[arg(
        long,
        value_name = "PATH",
        env = "OCA_CONTROL_SOCKET",
        default_value = "/run/oca-control/control.sock"
    )]
    socket: PathBuf,
    /// Print JSON.
    #[arg(short, long)]
    json: bool,
}

pub(super) fn control(args: ControlArgs) -> anyhow::Result<Exit> {
    match args.command {
        Command::Run(args) => run::run(&args),
        Command::Import(args) => import::import(&args),
        Command::Popularity(args) => import::popularity(&args),
        Command::Partner(command) => partner::partner(command),
        Command::Site(command) => site::site(command),
        Command::Cluster(command) => cluster::cluster(command),
        Command::Policy(command) => cluster::policy(command),
        Command::Title(command) => title::title(command),
        Command::Appliance(command) => appliance::appliance(command),
        Command::Secret(command) => secret::secret(&command),
        Command::Status(socket) => show::status(&socket),
        Command::Boxes(socket) => show::boxes(&socket),
        Command::Routes(args) => show::routes(&args),
        Command::Quality(args) => quality::quality(&args),
        Command::Steer(args) => show::steer(&args, false),
        Command::Explain(args) => show::steer(&args, true),
    }
}

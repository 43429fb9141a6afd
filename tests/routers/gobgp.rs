//! GoBGP in the router's namespace.
//!
//! I/O: starts processes, writes below a temporary directory.

use crate::harness::Host;
use crate::harness::Process;
use crate::harness::until;
use crate::ours::PATIENCE;
use crate::pair::OURS;
use crate::pair::Pair;
use crate::pair::ROUTER;
use crate::router::Router;
use crate::router::Settings;
use crate::router::ipv4;
use crate::support;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

#[derive(Debug)]
pub(crate) struct Gobgp {
    process: Process,
    settings: Settings,
    host: Host,
    dir: tempfile::TempDir,
}

impl Gobgp {
    pub(crate) fn start(pair: &Pair, settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("gobgp.toml"), text(&settings)).unwrap();
        let daemon = support::peer("gobgpd", "gobgpd");
        let command = [
            daemon.get_program().to_str().unwrap(),
            "-t",
            "toml",
            "-f",
            &path("gobgp.toml"),
            "--api-hosts",
            "127.0.0.1:50051",
            "--pprof-disable",
        ];
        let process = Process::new(&pair.router(), &command, path("gobgp.log").into());
        let mut gobgp = Self {
            process,
            host: pair.router(),
            dir,
            settings,
        };
        gobgp.start_again();
        gobgp
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let client = support::peer("gobgp", "gobgpd");
        let mut all = vec![client.get_program().to_str().unwrap()];
        all.extend(arguments);
        let command = self.host.wrap(&all);
        let output = Command::new(&command[0])
            .args(&command[1..])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// One process of the client a route: all in one shell.
    fn change_routes(&self, verb: &str, range: std::ops::Range<u32>) {
        let client = support::peer("gobgp", "gobgpd");
        let client = client.get_program().to_str().unwrap().to_owned();
        let mut script = String::new();
        for n in range {
            let prefix = ipv4(n);
            let _ = writeln!(
                script,
                "{client} global rib {verb} {prefix} nexthop {ROUTER}"
            );
        }
        let command = self.host.wrap(&["sh", "-e", "-c", &script]);
        let output = Command::new(&command[0])
            .args(&command[1..])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

fn text(settings: &Settings) -> String {
    let mut neighbour = String::new();
    if let Some(password) = settings.password {
        let _ = writeln!(neighbour, "auth-password = \"{password}\"");
    }
    let _ = writeln!(
        neighbour,
        "[neighbors.timers.config]\nconnect-retry = 1\nidle-hold-time-after-reset = 1\n\
         hold-time = {}\nkeepalive-interval = {}",
        settings.hold_s,
        settings.hold_s / 3
    );
    let _ = writeln!(
        neighbour,
        "[neighbors.transport.config]\nlocal-address = \"{ROUTER}\"\npassive-mode = {}",
        settings.passive
    );
    if settings.ttl_security {
        neighbour += "[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n";
    }
    if settings.graceful_restart {
        neighbour += "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 20\n\
                      notification-enabled = true\n";
    }
    for family in ["ipv4-unicast", "ipv6-unicast"] {
        let _ = writeln!(
            neighbour,
            "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\""
        );
        if settings.graceful_restart {
            neighbour += "[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n";
        }
        if settings.add_paths {
            neighbour += "[neighbors.afi-safis.add-paths.config]\nsend-max = 8\n";
        }
    }
    format!(
        "[global.config]\nas = 64500\nrouter-id = \"{ROUTER}\"\nport = 179\n\
         local-address-list = [\"{ROUTER}\"]\n\
         [[neighbors]]\n[neighbors.config]\nneighbor-address = \"{OURS}\"\npeer-as = 64510\n\
         {neighbour}"
    )
}

impl Router for Gobgp {
    fn announced(&self) -> BTreeSet<String> {
        (0..self.settings.routes).map(ipv4).collect()
    }

    fn announce(&mut self, routes: u32) {
        let before = self.settings.routes;
        self.settings.routes = routes;
        if routes > before {
            self.change_routes("add", before..routes);
        } else {
            self.change_routes("del", routes..before);
        }
    }

    fn disable(&self, words: &str) {
        let neighbour = OURS.to_string();
        // `disable` alone says nothing.
        self.ask(&["neighbor", &neighbour, "shutdown", "--reason", words]);
        self.ask(&["neighbor", &neighbour, "disable"]);
    }

    fn enable(&self) {
        self.ask(&["neighbor", &OURS.to_string(), "enable"]);
    }

    fn daemon(&mut self) -> &mut Process {
        &mut self.process
    }

    fn start_again(&mut self) {
        self.process.start();
        until(
            "GoBGP",
            PATIENCE,
            || (self.ask(&["global"]), self.process.tail()),
            |(status, _)| status.contains("64500"),
        );
        self.change_routes("add", 0..self.settings.routes);
    }

    fn says(&self) -> String {
        self.ask(&["neighbor", &OURS.to_string()])
    }

    fn is_established(&self) -> bool {
        self.says().contains("state = ESTABLISHED")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("gobgp.log")).unwrap_or_default()
    }
}

//! BIRD 2 in the router's namespace.
//!
//! I/O: starts processes, writes below a temporary directory.

use crate::harness::Process;
use crate::harness::until;
use crate::ours::PATIENCE;
use crate::pair::OURS;
use crate::pair::OURS_LINK_LOCAL;
use crate::pair::Pair;
use crate::pair::ROUTER;
use crate::pair::ROUTER_LINK_LOCAL;
use crate::router::Router;
use crate::router::Settings;
use crate::router::ipv4;
use crate::router::ipv6;
use crate::support;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::path::PathBuf;

#[derive(Debug)]
pub(crate) struct Bird {
    process: Process,
    settings: Settings,
    dir: tempfile::TempDir,
}

impl Bird {
    pub(crate) fn start(pair: &Pair, settings: Settings) -> Self {
        let ends = format!("local {ROUTER} as 64500; neighbor {OURS} as 64510; strict bind yes;");
        Self::between(pair, settings, &ends)
    }

    /// The session runs between the addresses that only the wire knows.
    pub(crate) fn start_link_local(pair: &Pair, settings: Settings) -> Self {
        let ends = format!(
            "local {ROUTER_LINK_LOCAL} as 64500; neighbor {OURS_LINK_LOCAL} as 64510; interface \
             \"eth0\"; strict bind yes;"
        );
        Self::between(pair, settings, &ends)
    }

    fn between(pair: &Pair, settings: Settings, ends: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("bird.conf"), text(&settings, ends, dir.path())).unwrap();
        let program = program("bird");
        let command = [
            program.to_str().unwrap(),
            "-f",
            "-c",
            &path("bird.conf"),
            "-s",
            &path("bird.ctl"),
        ];
        let process = Process::new(&pair.router(), &command, path("out").into());
        let mut bird = Self {
            process,
            dir,
            settings,
        };
        bird.write_routes();
        bird.start_again();
        bird
    }

    pub(crate) fn ask(&self, question: &str) -> String {
        let output = support::peer("birdc", "bird2")
            .arg("-s")
            .arg(self.dir.path().join("bird.ctl"))
            .args(question.split('~'))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn write_routes(&self) {
        let (mut four, mut six) = (String::new(), String::new());
        for n in 0..self.settings.routes {
            let mut path = String::new();
            for hop in 0..n % 4 {
                let _ = write!(path, "bgp_path.prepend({}); ", 65536 + (n / 7 + hop) % 16);
            }
            let _ = writeln!(four, "route {} blackhole {{ {path} }};", ipv4(n));
            if n % 2 == 0 {
                let _ = writeln!(six, "route {} blackhole {{ {path} }};", ipv6(n / 2));
            }
        }
        std::fs::write(self.dir.path().join("ipv4.inc"), four).unwrap();
        std::fs::write(self.dir.path().join("ipv6.inc"), six).unwrap();
    }
}

fn text(settings: &Settings, ends: &str, dir: &Path) -> String {
    let when = |is: bool, text: &str| if is { text } else { "" }.to_owned();
    let mut session = when(settings.passive, "passive;\n");
    session += &when(settings.ttl_security, "ttl security on;\n");
    session += &when(settings.extended_messages, "enable extended messages on;\n");
    session += &when(!settings.four_octets, "enable as4 off;\n");
    session += match settings.graceful_restart {
        true => "graceful restart on; graceful restart time 20;\n",
        false => "graceful restart off;\n",
    };
    if let Some(password) = settings.password {
        let _ = writeln!(session, "password \"{password}\";");
    }
    let add_paths = when(settings.add_paths, "add paths tx;");
    // The second source of one prefix makes two paths to it.
    let second = match settings.add_paths {
        true => format!(
            "protocol static second {{ ipv4 {{ preference 90; }}; route {} blackhole {{ \
             bgp_path.prepend(64999); }}; }}\n",
            ipv4(0)
        ),
        false => String::new(),
    };
    format!(
        "log \"{dir}/bird.log\" all;\ndebug protocols {{ states, events }};\n\
         router id {ROUTER};\n\
         protocol device {{}}\n\
         protocol static s4 {{ ipv4;\ninclude \"{dir}/ipv4.inc\";\n}}\n\
         protocol static s6 {{ ipv6;\ninclude \"{dir}/ipv6.inc\";\n}}\n{second}\
         protocol bgp to_oca {{\n\
         {ends}\n\
         hold time {hold}; connect retry time 1; connect delay time 1; error wait time 1,2;\n\
         {session}\
         ipv4 {{ import all; export all; next hop address {ROUTER}; {add_paths} }};\n\
         ipv6 {{ import all; export all; next hop address 2001:db8:77::1; {add_paths} }};\n\
         }}\n",
        dir = dir.display(),
        hold = settings.hold_s,
    )
}

fn program(name: &str) -> PathBuf {
    support::peer(name, "bird2").get_program().into()
}

impl Router for Bird {
    fn announced(&self) -> BTreeSet<String> {
        let six = (0..self.settings.routes.div_ceil(2)).map(ipv6);
        (0..self.settings.routes).map(ipv4).chain(six).collect()
    }

    fn announce(&mut self, routes: u32) {
        self.settings.routes = routes;
        self.write_routes();
        let answer = self.ask("configure");
        assert!(answer.contains("Reconfigur"), "{answer}");
    }

    fn disable(&self, words: &str) {
        self.ask(&format!("disable~to_oca~\"{words}\""));
    }

    fn enable(&self) {
        self.ask("enable~to_oca");
    }

    fn daemon(&mut self) -> &mut Process {
        &mut self.process
    }

    fn start_again(&mut self) {
        self.process.start();
        until(
            "BIRD",
            PATIENCE,
            || (self.ask("show status"), self.process.tail()),
            |(status, _)| status.contains("up and running") || status.contains("recovery"),
        );
    }

    fn says(&self) -> String {
        self.ask("show protocols all to_oca")
    }

    fn is_established(&self) -> bool {
        self.says().contains("Established")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("bird.log")).unwrap_or_default()
    }
}

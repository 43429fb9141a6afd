//! Disks pulled and hung under load: who notices, how soon, and who must not.
//!
//! A box on four disks with viewers on each. Two are pulled, one of them put back, and one hangs
//! for `OCA_HANG_SECONDS`. Viewers of the sound disk keep their times, the control plane knows
//! within a second, nothing is fetched again before the hold-down, and then only what is lost.

#![allow(clippy::print_stdout, reason = "the figures are told")]

use crate::ailing_disk::AilingDisk;
use crate::harness;
use crate::harness::Box;
use crate::harness::Host;
use crate::harness::OCA;
use crate::harness::PATIENCE;
use crate::harness::Plan;
use crate::harness::Plane;
use crate::harness::until;
use crate::loop_disk::LoopDisk;
use crate::loop_disk::forget;
use crate::sick_viewers;
use crate::sick_viewers::Kind;
use crate::sick_viewers::Stage;
use oca::clock;
use oca::clock::Instant;
use oca::demo::Scratch;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the disk hangs; `OCA_HANG_SECONDS` for longer.
const HANG_SECONDS: u64 = 12;

/// `[store] deadline` of this box: the default of ten seconds would be most of the short run.
const DEADLINE: Duration = Duration::from_secs(3);

/// From the hang's end to the refill of what is lost.
const HOLD_AFTER: Duration = Duration::from_secs(6);

/// From the fault of a pulled disk, or the isolation of one that hangs, to the control plane's
/// knowledge.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// Beyond the deadline: a question four times a second, a look as often, and a busy machine.
const ISOLATE_WITHIN: Duration = Duration::from_secs(2);

const WARM_UP: Duration = Duration::from_secs(2);
const BEFORE: Duration = Duration::from_secs(3);
const DISK_MEGABYTES: u64 = 128;
const OBJECTS: usize = 320;
const OBJECT_BYTES: u64 = 200_000;

/// The bar of what a viewer of a sound disk may lose: times of before, twice, and what a busy
/// machine takes for itself. Beside them is told what whoever reads past the box waits.
const TIMES_MAX: f64 = 2.0;
const NOISE: Duration = Duration::from_millis(25);

/// No request of a sound disk waits for so long: that is a worker that waits for another disk.
const STALL_MAX: Duration = Duration::from_secs(5);

/// `WatchdogSec` of the unit is 30 s; systemd would kill the process that is silent for so long.
const WATCHDOG: Duration = Duration::from_secs(10);

/// Faults in the order of the disks: sound, pulled for good, hanging, pulled and put back.
const DISKS: usize = 4;
const SOUND: usize = 0;
const LOST: usize = 1;
const HANGING: usize = 2;
const BACK: usize = 3;

/// What was seen at a moment.
#[derive(Debug, Default)]
struct Seen {
    /// Objects that the control plane knows of the box.
    told: Vec<(Option<Instant>, u64)>,
    /// States of the disks, and bytes that the fill received.
    disks: Vec<(Option<Instant>, Vec<String>)>,
    received: Vec<(Option<Instant>, u64)>,
    pings: Vec<Instant>,
    /// What the fill says of itself, when it says something else.
    words: Vec<(Option<Instant>, String)>,
}

struct Lab {
    _plane: Plane,
    it: Box,
    sound: LoopDisk,
    ailing: Vec<AilingDisk>,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    watchers: Vec<JoinHandle<()>>,
    /// The directory goes last.
    scratch: Scratch,
}

/// One question to an admin socket; `Null` while nobody answers.
fn ask(socket: &Path, path: &str) -> Value {
    let answer = UnixStream::connect(socket).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    let answer = answer.unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or(Value::Null)
}

fn hang_time() -> Duration {
    let seconds = std::env::var("OCA_HANG_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(HANG_SECONDS))
}

impl Lab {
    fn start() -> Self {
        let scratch = Scratch::new("t-sick").unwrap();
        let plane = Plane::start(&scratch, Host::loopback(60));
        for number in 0..OBJECTS {
            let key = format!("title-{number:03}/part.m4s");
            harness::sparse(&plane.media.join(key), OBJECT_BYTES);
        }
        plane.control(&["import", plane.media.to_str().unwrap()]);
        harness::add_cluster_at_once(&plane, "TLS001.example.isp", "toulouse");
        let plan = Plan {
            site: "TLS001.example.isp",
            cluster: "toulouse",
            number: 1,
            rate: "200 Mbit/s",
            disks: DISKS,
        };
        let mut it = Box::make(&scratch, &plane, Host::loopback(61), &plan);
        let place = |number: usize| it.dir.join(format!("disk{}", number + 1));
        let image = |number: usize| it.dir.join(format!("image{}", number + 1));
        let sound = LoopDisk::mount(&image(SOUND), &place(SOUND), DISK_MEGABYTES);
        let ailing = (1..DISKS)
            .map(|n| AilingDisk::mount(&image(n), &place(n), DISK_MEGABYTES))
            .collect();
        configure(&it);
        it.prefill(&plane.media);
        (0..DISKS).for_each(|number| forget(&place(number)));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let watchdog = watch_pings(&mut it, &seen);
        it.start();
        let mut lab = Self {
            _plane: plane,
            it,
            sound,
            ailing,
            seen,
            stop,
            watchers: vec![watchdog],
            scratch,
        };
        lab.ready();
        lab.watch();
        lab
    }

    fn ailing(&mut self, number: usize) -> &mut AilingDisk {
        &mut self.ailing[number - 1]
    }

    fn ready(&self) {
        let told = || self.told();
        until("the whole catalogue", PATIENCE, told, |told| {
            *told == OBJECTS as u64
        });
        let state = || self.it.show(&["status"])["gate"]["state"].clone();
        until("the gate", PATIENCE, state, |state| *state == "serving");
    }

    /// Objects that the control plane knows the box to have.
    fn told(&self) -> u64 {
        told(&self.scratch.path().join("plane/control.sock"))
    }

    /// Looks at the control plane and at the box all the time.
    fn watch(&mut self) {
        let socket = self.scratch.path().join("plane/control.sock");
        let (seen, stop) = (Arc::clone(&self.seen), Arc::clone(&self.stop));
        self.watchers.push(std::thread::spawn(move || {
            while !stop.load(Relaxed) {
                let told = told(&socket);
                seen.lock().unwrap().told.push((Some(clock::now()), told));
                clock::block_for(Duration::from_millis(20));
            }
        }));
        let socket = self.it.socket();
        let (seen, stop) = (Arc::clone(&self.seen), Arc::clone(&self.stop));
        self.watchers.push(std::thread::spawn(move || {
            while !stop.load(Relaxed) {
                let (disks, fill) = (ask(&socket, "/v1/disks"), ask(&socket, "/v1/fill"));
                let now = Some(clock::now());
                let mut seen = seen.lock().unwrap();
                if let Some(disks) = disks["disks"].as_array() {
                    let states = disks.iter().map(|disk| disk["state"].to_string());
                    seen.disks.push((now, states.collect()));
                }
                seen.received.push((now, received(&fill)));
                let words = format!("{} {} {}", fill["reason"], fill["problem"], fill["wanted"]);
                if seen.words.last().is_none_or(|(_, last)| *last != words) {
                    seen.words.push((now, words));
                }
                drop(seen);
                clock::block_for(Duration::from_millis(50));
            }
        }));
    }

    /// Keys by the disk that holds them.
    fn by_disk(&self) -> BTreeMap<usize, Vec<String>> {
        let mut keys: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        let told = self.it.show(&["catalogue"]);
        for row in told["catalogue"].as_array().unwrap() {
            let disk = row["disk"].as_str().unwrap();
            let number: usize = disk[disk.len() - 1..].parse().unwrap();
            let key = row["key"].as_str().unwrap().to_owned();
            keys.entry(number - 1).or_default().push(key);
        }
        keys
    }

    /// From `from` until the control plane knew at most so many objects.
    fn left(&self, from: Instant, most: usize) -> Option<Duration> {
        let seen = self.seen.lock().unwrap();
        let told = seen
            .told
            .iter()
            .filter_map(|(at, told)| Some(((*at)?, *told)));
        let mut after = told.filter(|(at, _)| *at >= from);
        let (at, _) = after.find(|(_, told)| *told <= most as u64)?;
        Some(at - from)
    }

    /// From `from` until the box itself said that the disk hangs.
    fn isolated(&self, from: Instant) -> Duration {
        let seen = self.seen.lock().unwrap();
        let mut known = { seen.disks.iter() }
            .filter(|(_, states)| states[HANGING].contains("isolated"))
            .filter_map(|(at, _)| Some(at.filter(|at| *at >= from)? - from));
        known.next().expect("the hanging disk was not isolated")
    }

    fn disk(&self, number: usize) -> Value {
        ask(&self.it.socket(), "/v1/disks")["disks"][number].clone()
    }

    fn received(&self) -> u64 {
        received(&ask(&self.it.socket(), "/v1/fill"))
    }

    fn await_state(&self, number: usize, state: &str) -> Value {
        until(
            &format!("disk {number} {state}"),
            PATIENCE,
            || self.disk(number),
            |disk| disk["state"] == state,
        )
    }

    /// `oca fill start`: what may be fetched is looked at now, and not at the next survey.
    fn plan(&self) {
        self.it.tell_fill("start");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // A daemon that waits for a disk could not be ended.
        self.ailing.iter().for_each(AilingDisk::recover);
        self.it.process.kill();
    }
}

fn told(socket: &Path) -> u64 {
    let boxes = ask(socket, "/v1/boxes");
    boxes["boxes"][0]["objects"].as_u64().unwrap_or(u64::MAX)
}

fn received(fill: &Value) -> u64 {
    let bytes = fill["bytes"].as_object();
    let each = bytes.into_iter().flat_map(|bytes| bytes.values());
    each.filter_map(Value::as_u64).sum()
}

/// Real mount points, a short hold-down, two workers, no second copies (they need no refill).
fn configure(it: &Box) {
    let config = it.dir.join("oca.toml");
    let hold = (hang_time() + HOLD_AFTER).as_secs();
    let text = fs::read_to_string(&config).unwrap();
    let text = text
        .replace("plain_directory = true\n", "")
        .replace("workers = 1\n", "workers = 2\n");
    let store = format!(
        "[store]\nreplicas_percent = 0\ndeadline = \"{}s\"\nrefill_after = \"{hold}s\"\n\
         refill_hot_after = \"{hold}s\"\n",
        DEADLINE.as_secs()
    );
    fs::write(config, text + &store).unwrap();
}

/// What systemd would hear from the process.
fn watch_pings(it: &mut Box, seen: &Arc<Mutex<Seen>>) -> JoinHandle<()> {
    let path = it.dir.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let environment = [
        format!("NOTIFY_SOCKET={}", path.display()),
        format!("WATCHDOG_USEC={}", WATCHDOG.as_micros()),
    ];
    let config = it.dir.join("oca.toml");
    let [notify, watchdog] = &environment;
    let command = [
        "env",
        notify,
        watchdog,
        OCA,
        "run",
        "--config",
        config.to_str().unwrap(),
    ];
    it.process = harness::Process::new(&it.host, &command, it.dir.join("oca.log"));
    let seen = Arc::clone(seen);
    socket.set_read_timeout(Some(WATCHDOG * 3)).unwrap();
    std::thread::spawn(move || {
        let mut text = [0; 4096];
        while let Ok(length) = socket.recv(&mut text) {
            if text[..length].starts_with(b"WATCHDOG=1") {
                seen.lock().unwrap().pings.push(clock::now());
            }
        }
    })
}

#[test]
fn disks_pulled_and_hung_under_load_harm_their_own_viewers_alone_and_are_refilled_after_the_hold() {
    let _turn = harness::alone();
    let mut lab = Lab::start();
    let keys = lab.by_disk();
    let counts: Vec<usize> = (0..DISKS).map(|disk| keys[&disk].len()).collect();
    println!("objects on the disks: {counts:?}");
    let process = lab.it.process.id();
    let received = lab.received();
    // Opening what nobody asked for yet has to ask the disk.
    fs::write("/proc/sys/vm/drop_caches", "2").expect("dropping names needs root");
    lab.ailing.iter().for_each(AilingDisk::forget_names);
    let stage = Stage::new(&lab.it, lab.sound.place(), &keys).hold(&keys[&HANGING]);
    let stage = Arc::new(stage);
    let mut viewers = sick_viewers::start(&stage);
    clock::block_for(WARM_UP);
    stage.forget_times();
    clock::block_for(BEFORE);

    let faulty = clock::now();
    stage.is_faulty.store(true, Relaxed);
    lab.ailing(LOST).pull();
    lab.ailing(BACK).pull();
    let place = lab.it.dir.join(format!("disk{}", HANGING + 1));
    let files = sick_viewers::open_held(&stage, &lab.it, &place);
    lab.ailing(HANGING).hang();
    viewers.push(sick_viewers::squeeze(&stage, files));
    lab.await_state(HANGING, "isolated");
    for number in [LOST, BACK] {
        let disk = lab.await_state(number, "suspect");
        let reason = disk["reason"].as_str().unwrap();
        assert!(
            reason.contains("cannot be read") || reason.contains("failed"),
            "{disk}"
        );
        assert!(!disk["since"].as_str().unwrap().is_empty(), "{disk}");
    }
    let hanging = lab.disk(HANGING);
    let reason = hanging["reason"].as_str().unwrap();
    assert!(reason.contains("did not return within"), "{hanging}");
    lab.ailing(BACK).put_back();
    lab.plan();
    let hang_end = faulty + hang_time();
    clock::block_for(hang_end.saturating_duration_since(clock::now()));
    lab.ailing(HANGING).recover();
    lab.await_state(HANGING, "online");
    let (healed, during) = (clock::now(), stage.times());
    stage.stop.store(true, Relaxed);
    for viewer in viewers {
        viewer.join().unwrap();
    }
    lab.await_state(BACK, "online");
    lab.plan();
    // Nothing is fetched in the hold-down.
    assert_eq!(lab.received(), received);
    refilled(&lab, faulty, received, counts[LOST]);
    judge(&lab, faulty, &counts);
    judge_times(&during);
    assert_eq!(lab.it.process.id(), process);
    assert!(lab.it.process.is_alive(), "{}", lab.it.process.tail());
    assert_eq!(*stage.wrongs.lock().unwrap(), Vec::<String>::new());
    println!(
        "back in service after {:.1} s; {}",
        (healed - faulty).as_secs_f64(),
        stage.told()
    );
}

/// After the hold-down what the lost disk held is fetched, and nothing else.
fn refilled(lab: &Lab, faulty: Instant, before: u64, lost: usize) {
    let hold = hang_time() + HOLD_AFTER;
    let held = || {
        lab.plan();
        lab.it.held().len()
    };
    until("the refill", PATIENCE, held, |held| *held == OBJECTS);
    let seen = lab.seen.lock().unwrap();
    let first = seen.received.iter().find(|(_, bytes)| *bytes > before);
    let began = first.and_then(|(at, _)| *at).unwrap_or_else(clock::now) - faulty;
    drop(seen);
    for (at, words) in &lab.seen.lock().unwrap().words {
        let after = at.map(|at| at.saturating_duration_since(faulty));
        println!("fill at {after:?}: {words}");
    }
    assert!(
        began >= hold - Duration::from_secs(1),
        "refill began after {began:?}"
    );
    let (bytes, wanted) = (lab.received() - before, lost as u64 * OBJECT_BYTES);
    println!(
        "hold-down {hold:?}: refill began after {:.1} s and took {bytes} B for {wanted} B lost",
        began.as_secs_f64()
    );
    assert!(bytes >= wanted, "{bytes} B for {wanted} B");
    assert!(bytes <= wanted + wanted / 5, "{bytes} B for {wanted} B");
}

/// Who knew when, and whether the process was ever silent.
fn judge(lab: &Lab, faulty: Instant, counts: &[usize]) {
    let without = OBJECTS - counts[LOST] - counts[BACK];
    let pulled = lab
        .left(faulty, without)
        .expect("the pulled disks were not told");
    let hung = lab.left(faulty, without - counts[HANGING]);
    let hung = hung.expect("the hanging disk was not told");
    let isolated = lab.isolated(faulty);
    let told = hung.saturating_sub(isolated);
    println!(
        "out of the control plane's catalogue: pulled after {:.2} s; hung isolated after {:.2} s \
         (deadline {DEADLINE:?}) and told {:.2} s later",
        pulled.as_secs_f64(),
        isolated.as_secs_f64(),
        told.as_secs_f64()
    );
    let seen = lab.seen.lock().unwrap();
    let gaps = seen.pings.windows(2).map(|two| two[1] - two[0]);
    let last = seen.pings.last().expect("the watchdog heard nothing");
    let silent = clock::now() - *last;
    let longest = gaps.chain([silent]).max().unwrap_or(silent);
    println!(
        "watchdog: {} pings, {longest:?} apart at most",
        seen.pings.len()
    );
    drop(seen);
    assert!(pulled <= LEAVE_WITHIN, "told after {pulled:?}");
    assert!(isolated <= DEADLINE + ISOLATE_WITHIN, "after {isolated:?}");
    assert!(told <= LEAVE_WITHIN, "told after {told:?}");
    assert!(longest < WATCHDOG, "systemd would have killed it");
}

fn judge_times(times: &sick_viewers::Times) {
    let direct = times.during(Kind::Direct);
    println!("its files, read past the box: {direct}");
    for kind in [Kind::Hot, Kind::Cold] {
        let (before, during) = (times.before(kind), times.during(kind));
        println!("{kind:?} of the sound disk: before {before}, during {during}");
        assert!(before.count > 30 && during.count > 100, "{before} {during}");
        let bar = |before: Duration| before.mul_f64(TIMES_MAX) + NOISE;
        assert!(during.median <= bar(before.median), "{kind:?}: {during}");
        assert!(during.p99 <= bar(before.p99), "{kind:?}: {during}");
        // A worker that waits for a sick disk stops all of its few viewers once: no percentile.
        assert!(during.worst <= STALL_MAX, "{kind:?}: {during}");
    }
}

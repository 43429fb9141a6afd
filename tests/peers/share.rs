//! A viewer gets its share of a disk that others read to its limit.
//!
//! Chromium with hls.js plays a CMAF film from another origin, with a token in the path, while a
//! second client reads cold objects of the same throttled disk over many connections. Nothing of
//! the film is in memory either. The film needs two thirds of what an equal share of the disk is.
//! Afterwards the disk is throttled far below what all of them need, and the same page must notice.
//!
//! Needs root: loop devices, and the blkio controller of cgroup v1.

#![allow(clippy::print_stdout, reason = "the figures of a run")]

use crate::loop_disk::LoopDisk;
use crate::second_client::SecondClient;
use crate::support::OCA;
use crate::support::finished;
use crate::support::peer;
use crate::web;
use crate::web::Browser;
use oca::clock;
use oca::clock::Instant;
use oca::demo::Appliance;
use oca::demo::Member;
use oca::demo::Role;
use oca::demo::Scratch;
use oca::demo::Settings;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// What the disk is allowed.
const DISK_BYTES_PER_SECOND: u64 = 8_000_000;

/// Connections of the second client. With the film's that is 720 kB/s for each: a player that
/// begins with its first segment of two seconds must have the next within them, at any moment.
const READERS: usize = 10;

/// Picture and sound: 312 kB/s, in segments of 600 and 25 kB.
const PICTURE: &str = "2400k";
const SOUND: &str = "96k";

/// Long enough for what is played, what is buffered, and what is asked of it afterwards.
const FILM_SECONDS: u32 = 34;
const PLAYED_SECONDS: f64 = 20.0;

/// Each is read once, so that none is ever in memory before it is asked for.
const OBJECTS: usize = 65;
const OBJECT_BYTES: usize = 4 << 20;
const DISK_MEGABYTES: u64 = 400;

/// A film that runs in real time may end this much later: events come four times a second.
const LATE_MS_MAX: f64 = 1_000.0;

/// A busy machine's start of a browser and of a film.
const PATIENCE: Duration = Duration::from_secs(30);

/// A box on one disk, and what it holds. Field order is drop order.
struct Stage {
    appliance: Appliance,
    disk: LoopDisk,
    scratch: Scratch,
}

/// The counters at one moment.
struct Look {
    at: Instant,
    disk: u64,
    second: u64,
}

impl Stage {
    async fn make() -> Self {
        let scratch = Scratch::new("t-share").unwrap();
        let media = scratch.path().join("media");
        let (film, load) = (media.join("film"), media.join("load"));
        std::thread::scope(|scope| {
            scope.spawn(|| make_film(&film));
            make_load(&load);
        });
        let member = Member {
            id: "c001-tls001-example-isp".to_owned(),
            site: "TLS001.example.isp".to_owned(),
            https: "127.0.0.1:0".parse().unwrap(),
            sections: sections(scratch.path()),
        };
        let settings = Settings {
            workers: 2,
            disks: 1,
            access_log: true,
            role: Role::Member(member),
        };
        let program = synchronised(scratch.path());
        let mut appliance = Appliance::new(&program, scratch.path(), settings).unwrap();
        let place = scratch.path().join("disk1");
        let disk = LoopDisk::mount(&scratch.path().join("image"), &place, DISK_MEGABYTES);
        appliance.prefill(&media).await.unwrap();
        fs::remove_dir_all(&media).unwrap();
        disk.forget();
        appliance.start().await.unwrap();
        Self {
            appliance,
            disk,
            scratch,
        }
    }

    /// The URL of a key with a token for everything below its first segment.
    fn signed(&self, key: &str) -> String {
        let port = self.appliance.addresses().unwrap().https.port();
        let secret = self.scratch.path().join("secret");
        let (below, _) = key.split_once('/').unwrap();
        let output = finished(
            Command::new(OCA)
                .args(["token", "make", "--below", below, "--for", "1h"])
                .args(["--host", &format!("localhost:{port}"), key, "--secret"])
                .arg(secret),
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What the second client asks for.
    fn load_paths(&self) -> Vec<String> {
        let first = self.signed(&load_key(0));
        let (_, path) = first.split_once("://localhost:").unwrap();
        let path = &path[path.find('/').unwrap()..];
        let token = path.strip_suffix(&load_key(0)).unwrap();
        let keys = (0..OBJECTS).map(load_key);
        keys.map(|key| format!("{token}{key}")).collect()
    }

    fn look(&self, second: &SecondClient) -> Look {
        Look {
            at: clock::now(),
            disk: self.disk.bytes_read(),
            second: second.bytes(),
        }
    }
}

/// A film in CMAF: one picture and a sound track of its own, pieces of two seconds.
fn make_film(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    // Noise, so that the encoder needs all the bits it may have.
    let picture = format!(
        "testsrc2=size=640x360:rate=24:duration={FILM_SECONDS},noise=alls=18:allf=t,format=yuv420p"
    );
    let sound = format!("sine=frequency=330:sample_rate=48000:duration={FILM_SECONDS}");
    let mut command = peer("ffmpeg", "ffmpeg");
    command
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", &picture])
        .args(["-f", "lavfi", "-i", &sound, "-map", "0:v", "-map", "1:a"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "48"])
        .args(["-keyint_min", "48", "-sc_threshold", "0", "-bf", "0"])
        .args(["-b:v", PICTURE, "-minrate", PICTURE, "-maxrate", PICTURE])
        .args(["-bufsize", PICTURE, "-c:a", "aac", "-b:a", SOUND])
        .args(["-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod"])
        .args(["-hls_segment_type", "fmp4", "-hls_list_size", "0"])
        .args(["-hls_flags", "independent_segments"])
        .args(["-master_pl_name", "master.m3u8"])
        .args(["-hls_fmp4_init_filename", "init.mp4", "-var_stream_map"])
        .arg("a:0,agroup:sound,default:yes,name:sound v:0,agroup:sound,name:picture")
        .arg("-hls_segment_filename")
        .arg(dir.join("%v/seg-%d.m4s"))
        .arg(dir.join("%v/index.m3u8"));
    finished(&mut command);
}

fn load_key(number: usize) -> String {
    format!("load/part-{number:03}.m4s")
}

fn make_load(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let mut bytes = vec![0; OBJECT_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    for number in 0..OBJECTS {
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        let key = load_key(number);
        let (_, name) = key.split_once('/').unwrap();
        fs::write(dir.join(name), &bytes).unwrap();
    }
}

/// Makes the secret and the box's key file; the sections of its configuration.
fn sections(dir: &Path) -> String {
    let (secret, keys) = (dir.join("secret"), dir.join("viewer-keys"));
    let oca = || Command::new(OCA);
    finished(oca().args(["control", "secret", "make"]).arg(&secret));
    finished(
        oca()
            .args(["token", "derive", "localhost", "--secret"])
            .arg(&secret)
            .arg("--output")
            .arg(&keys),
    );
    let keys = keys.display();
    format!(
        "\n[gate]\nrequire = []\n\n[serve.tokens]\nmode = \"required\"\nkey_file = \"{keys}\"\n"
    )
}

/// Without a clock that is set a box takes no token, and nobody disciplines the clock of a machine
/// that tests. A program that runs `oca` with the kernel's word on it replaced.
fn synchronised(dir: &Path) -> std::path::PathBuf {
    let (source, library) = (dir.join("adjtimex.c"), dir.join("adjtimex.so"));
    fs::write(
        &source,
        "#include <string.h>\n#include <sys/timex.h>\n\
         int adjtimex(struct timex *t) { memset(t, 0, sizeof *t); return TIME_OK; }\n",
    )
    .unwrap();
    let mut compiler = peer("cc", "gcc");
    finished(
        compiler
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(&source),
    );
    let program = dir.join("oca");
    let script = format!(
        "#!/bin/sh\nLD_PRELOAD='{}' exec '{OCA}' \"$@\"\n",
        library.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    program
}

/// The page's next report, which must be `what`.
fn report(reports: &Receiver<String>, browser: &Browser, what: &str) -> Value {
    let told = reports.recv_timeout(PATIENCE);
    let told = told.unwrap_or_else(|_| panic!("the page never told {what}: {}", browser.log()));
    let told: Value = serde_json::from_str(&told).unwrap();
    println!("{told}");
    assert_eq!(told["what"], what, "{told}");
    told
}

#[tokio::test]
async fn a_film_plays_on_while_a_second_client_reads_its_disk_to_the_limit() {
    let begun = clock::now();
    let _turn = web::TURN.lock().await;
    let mut stage = Stage::make().await;
    println!("ready after {:?}", begun.elapsed());
    stage.disk.throttle(DISK_BYTES_PER_SECOND);
    let plain = stage.appliance.addresses().unwrap().plain;
    let load = stage.load_paths();
    let master = stage.signed("film/master.m3u8");
    let port = stage.appliance.addresses().unwrap().https.port();
    let page = include_str!("share.html.txt")
        .replace(
            "UNSIGNED",
            &format!("https://localhost:{port}/film/master.m3u8"),
        )
        .replace("MASTER", &master)
        .replace("SECONDS", &PLAYED_SECONDS.to_string());
    let (site, reports) = web::serve(page);
    let key = &stage.appliance.authority().public_key_info;
    let browser = Browser::start(stage.scratch.path(), key, &format!("http://{site}/"));

    let refused = report(&reports, &browser, "refused");
    assert_eq!(refused["code"], 403, "{refused}");
    let second = SecondClient::start(plain, load, READERS);
    let playing = report(&reports, &browser, "playing");
    assert_eq!(playing["errors"], json!([]), "{playing}");
    let first = stage.look(&second);
    let played = report(&reports, &browser, "played");
    let last = stage.look(&second);
    println!("{}", stage.appliance.ask("/v1/disks").await.unwrap());
    judge_disk(&first, &last, &second, &played);
    judge_film(&played);

    // The same page notices a disk that is too slow for all of them.
    stage.disk.throttle(DISK_BYTES_PER_SECOND / 6);
    let stalled = report(&reports, &browser, "stalled");
    assert!(stalled["at"].as_f64() > Some(PLAYED_SECONDS), "{stalled}");
    stage.disk.release();
    println!("all of it took {:?}", begun.elapsed());
}

/// The second client had the disk at its limit, and nothing that was read was in memory.
fn judge_disk(first: &Look, last: &Look, second: &SecondClient, played: &Value) {
    let seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
    let (disk, client) = (last.disk - first.disk, last.second - first.second);
    let share = disk as f64 / seconds / DISK_BYTES_PER_SECOND as f64;
    println!(
        "{seconds:.1} s: the disk gave {disk} B, {:.1} % of its limit; the second client got \
         {client} B, {:.0} B/s each reader",
        share * 100.0,
        client as f64 / seconds / READERS as f64,
    );
    assert!(
        (0.9..1.1).contains(&share),
        "the disk is not at its limit: {share:.3}"
    );
    let film = played["bytes"].as_u64().unwrap();
    assert!(film as f64 > PLAYED_SECONDS * 300_000.0, "{played}");
    // What is on its way at the edges is a small part of it.
    assert!(
        last.disk as f64 > 0.95 * (last.second + film) as f64,
        "{} B were read from the disk for {} B that came: some of them were not cold",
        last.disk,
        last.second + film
    );
    let waits = played["disk"]["waits"].as_array().unwrap().len();
    let asked = played["disk"]["asked"].as_u64().unwrap();
    assert!(waits as u64 > asked / 2, "the film was in memory: {played}");
    assert_eq!(second.failed(), 0, "the second client was turned away");
    assert!(!second.ran_out(), "the second client had nothing to read");
}

fn judge_film(played: &Value) {
    assert_eq!(played["errors"], json!([]), "hls.js: {played}");
    assert_eq!(played["stalls"], json!([]), "rebuffers: {played}");
    let number = |name: &str| played[name].as_f64().unwrap();
    let late = number("took") - number("seconds") * 1000.0;
    // Where it stood still with seconds of film at hand, the machine was too busy to decode.
    if played["pauses"] == json!([]) {
        assert!(late < LATE_MS_MAX, "{late} ms late: {played}");
    }
    assert!(number("frames") > PLAYED_SECONDS * 12.0, "{played}");
}

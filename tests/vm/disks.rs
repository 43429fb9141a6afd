//! A disk that fails under a served object: device-mapper puts the fault where it is wanted.
//!
//! The box's disk is a `linear` target from the start; a check reloads its table while the file
//! system is mounted and puts the whole disk back at the end.
//!
//! I/O: runs dmsetup, filefrag and dd.

use crate::stage;
use crate::stage::Offload;
use crate::stage::Stage;
use crate::stage::sha256;
use crate::stage::until;
use crate::support::finished;
use crate::support::peer;
use crate::viewer;
use crate::viewer::End;
use crate::viewer::Viewer;
use crate::viewer::request;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

const LARGE: &str = "film/large.mp4";
const OTHER: &str = "film/other.mp4";

/// The device-mapper's name of the box's disk, and its node. No udev makes a second name for it.
const NAME: &str = "box";
const NODE: &str = "/dev/dm-0";

/// What is below it.
const BELOW: &str = "/dev/ram0";

/// 256 MiB.
const SECTORS: u64 = 524_288;

const SECTOR_BYTES: u64 = 512;

/// How much of an object is lost.
const LOST_SECTORS: u64 = 64;

/// A real file system on a disk of memory, behind the device-mapper, mounted on a directory.
pub(crate) fn mount(at: &Path) {
    let kib = format!("rd_size={}", SECTORS * SECTOR_BYTES / 1024);
    stage::load(&["brd", "rd_nr=1", &kib]);
    stage::load(&["dm-mod"]);
    dmsetup(&["create", NAME, "--table", &linear(0, SECTORS)]);
    finished(peer("mkfs.ext4", "e2fsprogs").args(["-q", NODE]));
    finished(Command::new("mount").arg(NODE).arg(at));
}

fn dmsetup(arguments: &[&str]) {
    let mut command = peer("dmsetup", "dmsetup");
    finished(command.env("DM_DISABLE_UDEV", "1").args(arguments));
}

fn linear(from: u64, to: u64) -> String {
    format!("{from} {} linear {BELOW} {from}", to - from)
}

/// Another table for the disk, under the mounted file system.
fn becomes(table: &str) {
    dmsetup(&["suspend", "--nolockfs", "--noflush", NAME]);
    dmsetup(&["reload", NAME, "--table", table]);
    dmsetup(&["resume", NAME]);
}

/// Nothing of this file is in memory any more.
pub(crate) fn forget(file: &Path) {
    let mut command = peer("dd", "coreutils");
    command.arg(format!("if={}", file.display()));
    finished(command.args(["iflag=nocache", "count=0"]));
}

/// The file of an object, known by its length.
fn file_of(stage: &Stage, key: &str) -> PathBuf {
    let length = format!("{}c", stage.media[key].len());
    let mut command = Command::new("find");
    command
        .arg(stage.disk())
        .args(["-type", "f", "-size", &length]);
    let found = String::from_utf8(finished(&mut command).stdout).unwrap();
    let mut lines = found.lines();
    let file = PathBuf::from(lines.next().expect("no such object on the disk"));
    assert_eq!(lines.next(), None, "two files of this length");
    file
}

/// The sector of the disk that has this byte of a file.
pub(crate) fn sector_of(file: &Path, byte: u64) -> u64 {
    let mut command = peer("filefrag", "e2fsprogs");
    let output = finished(command.args(["-v", "-b512"]).arg(file));
    let text = String::from_utf8(output.stdout).unwrap();
    let wanted = byte / SECTOR_BYTES;
    // `  0:        0..   16383:     270336..    286719:  16384: ...`
    let rows = text.lines().filter_map(|line| {
        let mut numbers = line.split(['.', ':', ' ']).filter(|word| !word.is_empty());
        let mut next = || numbers.next()?.parse::<u64>().ok();
        next()?;
        Some((next()?, next()?, next()?))
    });
    let mut rows = rows.filter(|(first, last, _)| (*first..=*last).contains(&wanted));
    let (first, _, at) = rows.next().unwrap_or_else(|| panic!("no extent: {text}"));
    at + wanted - first
}

/// An unreadable piece in the middle of one object: that response is cut, everything before the
/// piece was right, other objects of the same disk are served, and the store knows.
pub(crate) fn unreadable(stage: &mut Stage) -> String {
    stage.serve(Offload::Require);
    let middle = stage.media[LARGE].len() as u64 / 2;
    let file = file_of(stage, LARGE);
    let lost = sector_of(&file, middle);
    let rest = lost + LOST_SECTORS;
    let error = format!("{lost} {LOST_SECTORS} error");
    becomes(&[linear(0, lost), error, linear(rest, SECTORS)].join("\n"));
    forget(&file);

    let mut viewer = Viewer::open(stage, &viewer::usual(stage));
    viewer.send(&request("GET", LARGE, ""));
    let (status, body, end) = viewer.cut_answer();
    let other = Viewer::open(stage, &viewer::usual(stage)).get(OTHER, "");
    let mut objects = 0;
    until("the loss in the store's view", || {
        let disks = stage.ask("/v1/disks");
        objects = disks["disks"][0]["objects"].as_u64().unwrap();
        let whole = stage.media.len() as u64;
        if objects == whole - 1 {
            Ok(())
        } else {
            Err(disks.to_string())
        }
    });
    let gone = Viewer::open(stage, &viewer::usual(stage))
        .get(LARGE, "")
        .status;
    becomes(&linear(0, SECTORS));

    assert_eq!(status, 200);
    let read = body.len() as u64;
    assert!(
        read <= middle && read > middle / 2,
        "cut after {read} B, lost at {middle}"
    );
    assert!(
        body == stage.media[LARGE][..body.len()],
        "other bytes before the cut"
    );
    assert_eq!(
        (other.status, sha256(&other.body)),
        (200, sha256(&stage.media[OTHER]))
    );
    assert_eq!(gone, 503);
    assert!(stage.log().contains("lost"), "{}", stage.log());
    // The next start finds it whole again.
    stage.stop();
    stage.serve(Offload::Require);
    let body = Viewer::open(stage, &viewer::usual(stage))
        .get(LARGE, "")
        .body;
    assert_eq!(sha256(&body), sha256(&stage.media[LARGE]));
    let kind = if end == End::CloseNotify {
        "an orderly end"
    } else {
        "a cut"
    };
    format!("{kind} after {read} B of a body lost at {middle}; {objects} objects left")
}

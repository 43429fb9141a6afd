//! ffmpeg as a player: every frame of every bit rate is fetched over HTTPS and decoded.

use crate::support::Lab;
use crate::support::finished;
use crate::support::peer;
use serde_json::Value;
use std::process::Command;

/// 16 s of 24 frames, as `tests/media/make` says.
const FRAMES: u64 = 384;

/// 16 s of AAC at 48 kHz, 1024 samples a frame.
const SOUND_FRAMES: u64 = 750;

fn ffmpeg(program: &str, lab: &Lab) -> Command {
    let mut command = peer(program, "ffmpeg");
    command.args(["-v", "error", "-rw_timeout", "30000000"]);
    command.args(["-tls_verify", "1", "-ca_file", lab.ca()]);
    command
}

#[tokio::test]
async fn ffmpeg_decodes_every_variant_of_the_hls_title_without_a_complaint() {
    let lab = Lab::start("oca-ffmpeg").await;
    let mut command = ffmpeg("ffmpeg", &lab);
    command.args(["-nostdin", "-xerror", "-i", &lab.url("master.m3u8")]);
    let output = finished(command.args(["-map", "0", "-f", "null", "-"]));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(complaints, "", "ffmpeg complained");
}

#[tokio::test]
async fn ffmpeg_plays_the_same_segments_as_dash() {
    let lab = Lab::start("oca-ffmpeg").await;
    let mut command = ffmpeg("ffmpeg", &lab);
    command.args(["-nostdin", "-xerror", "-i", &lab.url("manifest.mpd")]);
    finished(command.args(["-map", "0", "-f", "null", "-"]));
}

#[tokio::test]
async fn ffprobe_counts_every_frame_of_three_bit_rates_and_the_sound() {
    let lab = Lab::start("oca-ffprobe").await;
    let mut command = ffmpeg("ffprobe", &lab);
    command.args(["-count_frames", "-show_entries"]);
    command.args(["stream=codec_name,width,nb_read_frames", "-of", "json"]);
    let output = finished(command.arg(lab.url("master.m3u8")));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let streams = told["streams"].as_array().unwrap();
    let mut found: Vec<(&str, u64, u64)> = streams
        .iter()
        .map(|stream| {
            let frames = stream["nb_read_frames"].as_str().unwrap();
            (
                stream["codec_name"].as_str().unwrap(),
                stream["width"].as_u64().unwrap_or(0),
                frames.parse().unwrap(),
            )
        })
        .collect();
    found.sort_unstable();
    let expected = [
        ("aac", 0, SOUND_FRAMES),
        ("h264", 426, FRAMES),
        ("h264", 640, FRAMES),
        ("h264", 854, FRAMES),
    ];
    assert_eq!(found, expected);
}

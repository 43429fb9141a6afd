//! Chromium with hls.js plays the title from another origin.
//!
//! The page comes from a plain HTTP server on another port, as a player's web site would; the
//! media come from the box over HTTPS, so that CORS decides. The page reports with a POST.

use crate::support::Lab;
use crate::web;
use crate::web::Browser;
use serde_json::Value;
use std::time::Duration;

/// Three plays of 16 s at four times the speed, and a slow machine's start of a browser.
const PLAYED_WITHIN: Duration = Duration::from_secs(120);

/// 16 s at 24 frames a second are 384; a slow machine may drop some, which is its own affair.
const FRAMES_MIN: u64 = 100;

#[tokio::test]
async fn chromium_with_hls_js_plays_every_bit_rate_from_another_origin() {
    let _turn = web::TURN.lock().await;
    let lab = Lab::start("oca-browser").await;
    let page = include_str!("player.html.txt").replace("MASTER", &lab.url("master.m3u8"));
    let (site, results) = web::serve(page);
    let key = &lab.appliance.authority().public_key_info;
    let browser = Browser::start(lab.scratch.path(), key, &format!("http://{site}/"));
    let told = results.recv_timeout(PLAYED_WITHIN);
    let told = told.unwrap_or_else(|_| panic!("the page never reported: {}", browser.log()));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["errors"], serde_json::json!([]), "hls.js: {told}");
    let plays = told["plays"].as_array().unwrap();
    let heights: Vec<u64> = plays.iter().filter_map(|p| p["height"].as_u64()).collect();
    assert_eq!(heights, [240, 360, 480], "{told}");
    for play in plays {
        let number = |name: &str| play[name].as_f64().unwrap();
        assert!(number("duration") > 15.9, "{play}");
        assert!(number("currentTime") >= number("duration") - 0.1, "{play}");
        assert!(number("buffered") >= number("duration") - 0.1, "{play}");
        assert!(play["frames"].as_u64().unwrap() >= FRAMES_MIN, "{play}");
    }
    // A range and a condition need a preflight; the page may read the headers a player needs.
    let part = &told["part"];
    assert_eq!(part["status"], 206, "{told}");
    assert_eq!(part["bytes"], 10, "{told}");
    let range = part["range"].as_str().unwrap();
    assert!(range.starts_with("bytes 0-9/"), "{told}");
}

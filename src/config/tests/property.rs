//! Properties: what is written is what is read, however it is spread over files; no text panics.

use super::any;
use super::any::certificate;
use super::any::numbered;
use super::any::path;
use super::any::time;
use super::*;
use crate::health::Requirement;
use crate::ids::BoxId;
use crate::ids::Profile;
use crate::ids::SiteName;
use crate::serve::Offload;
use crate::store::DiskClass;
use crate::store::Zone;
use crate::tls;
use crate::units::Bytes;
use crate::units::BytesPerSecond;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::sample::select;
use proptest::sample::subsequence;
use std::net::IpAddr;
use std::net::SocketAddr;

fn identity() -> impl Strategy<Value = Identity> {
    let site = "[A-Z]{3}[0-9]{3}(\\.[a-z0-9]{1,10})?\\.(isp|IX)";
    let zones = ["Europe/Paris", "UTC", "Asia/Kathmandu", "America/Sao_Paulo"];
    let profiles = vec![Profile::Storage, Profile::Global, Profile::Flash];
    (
        site,
        1_u32..100_000,
        select(profiles),
        select(zones.to_vec()),
    )
        .prop_map(|(site, number, profile, zone)| {
            let site = SiteName::parse(&site).unwrap();
            let id = BoxId::parse(&format!("c{number:03}-{}", site.label())).unwrap();
            Identity {
                id,
                site,
                profile,
                timezone: zone.to_owned(),
            }
        })
}

fn limits() -> impl Strategy<Value = serve::Limits> {
    let counts = (
        1_usize..=10_000_000,
        1_usize..=10_000_000,
        8_usize..=128,
        1_u32..=1_000_000_000,
        1_usize..=10_000_000,
    );
    let sizes = (1_024_usize..=1 << 20, 1_u64..=1 << 30);
    let times = (
        time(100, 600),
        time(100, 600),
        time(100, 3_600),
        time(100, 600),
        time(0, 86_400),
        time(0, 7 * 86_400),
    );
    (counts, sizes, times).prop_map(|(counts, sizes, times)| serve::Limits {
        connections: counts.0,
        connections_per_address: counts.1,
        handshakes_per_address: counts.4,
        head: sizes.0,
        headers: counts.2,
        handshake_time: times.0,
        head_time: times.1,
        idle_time: times.2,
        progress_time: times.3,
        progress: sizes.1,
        requests: counts.3,
        linger_time: times.4,
        linger_limit: times.5,
    })
}

fn pacing() -> impl Strategy<Value = serve::Pacing> {
    let rate_limit = option::of(1_000_000_u64..=100_000_000_000 / 8);
    (rate_limit, proptest::bool::ANY).prop_map(|(rate_limit, cmcd)| serve::Pacing {
        rate_limit: rate_limit.map(BytesPerSecond),
        cmcd,
    })
}

/// HTTPS on distinct ports from 1, plain on distinct ports from 1,001.
fn serving() -> impl Strategy<Value = serve::Config> {
    let offloads = select(vec![Offload::Auto, Offload::Off, Offload::Require]);
    let log = (option::of(path()), 1_u64..=1_000_000);
    let more = (
        0_usize..=1_024,
        log,
        proptest::bool::ANY,
        (limits(), pacing()),
        speedtest(),
        tokens(),
        offloads,
    );
    (numbered(1), numbered(1_001), vec(certificate(), 1..4), more).prop_map(
        |(
            listen,
            plain_listen,
            certificates,
            (workers, log, drop_behind, (limits, pacing), speedtest, tokens, tls_offload),
        )| {
            serve::Config {
                listen,
                plain_listen,
                workers,
                access_log: log.0,
                access_log_sample: log.1,
                drop_behind,
                limits,
                pacing,
                tls: tls::Config { certificates },
                speedtest,
                tokens,
                tls_offload,
            }
        },
    )
}

/// With a file, whatever else is configured.
fn tokens() -> impl Strategy<Value = serve::TokensConfig> {
    use serve::TokenMode;
    let modes = vec![TokenMode::Off, TokenMode::Optional, TokenMode::Required];
    (select(modes), path()).prop_map(|(mode, path)| serve::TokensConfig {
        mode,
        key_file: Some(path),
    })
}

fn speedtest() -> impl Strategy<Value = serve::SpeedtestConfig> {
    let rate = 125_000_u64..=50_000_000_000;
    let rest = (1_usize..=100_000, 1_024_u64..=1 << 30);
    (proptest::bool::ANY, rate, rest).prop_map(|(enabled, rate, (connections, upload_max))| {
        serve::SpeedtestConfig {
            enabled,
            rate_limit: BytesPerSecond(rate),
            connections,
            upload_max: Bytes(upload_max),
        }
    })
}

/// Disks under names that cannot overlap.
fn store() -> impl Strategy<Value = store::Config> {
    let classes = vec![
        (DiskClass::Nvme, Zone::None),
        (DiskClass::Ssd, Zone::None),
        (DiskClass::Hdd, Zone::None),
        (DiskClass::Hdd, Zone::Outer),
        (DiskClass::Hdd, Zone::Inner),
    ];
    let disks = vec((path(), select(classes), proptest::bool::ANY), 1..5);
    let all = (disks, path(), time(100, 300), upkeep());
    all.prop_map(|(disks, state_dir, deadline, upkeep)| {
        let disk = |(index, (path, (class, zone), plain_directory)): (usize, (PathBuf, _, _))| {
            let path = format!("/disk{index}{}", path.display());
            store::DiskConfig {
                path: PathBuf::from(path),
                class,
                zone,
                plain_directory,
            }
        };
        store::Config {
            disks: disks.into_iter().enumerate().map(disk).collect(),
            state_dir,
            deadline,
            upkeep,
        }
    })
}

fn upkeep() -> impl Strategy<Value = store::Upkeep> {
    const DAY: u64 = 24 * 3_600;
    let scrub = (time(3_600_000, 30 * DAY), 1_000_000_u64..=1_250_000_000);
    let quarantine = (time(3_600_000, 90 * DAY), 1_u64..=1_000_000_000_000);
    let refill = (time(0, 7 * DAY), time(0, 7 * DAY));
    let moves = (0_u64..=10_000_000_000_000, 0_u32..=50);
    let all = (scrub, quarantine, refill, moves);
    all.prop_map(|(scrub, quarantine, refill, moves)| store::Upkeep {
        scrub_every: scrub.0,
        scrub_rate: BytesPerSecond(scrub.1),
        quarantine_time: quarantine.0,
        quarantine_bytes: Bytes(quarantine.1),
        refill_after: refill.0,
        refill_hot_after: refill.1,
        moves_per_night: Bytes(moves.0),
        replicas_percent: moves.1,
    })
}

fn config() -> impl Strategy<Value = Config> {
    let requirements = vec![Requirement::Control, Requirement::Bgp, Requirement::Clock];
    let health = subsequence(requirements, 0..=3).prop_shuffle();
    let admin = (path(), option::of(proptest::arbitrary::any::<IpAddr>()));
    // What the gate waits for must be configured.
    let peers = (any::bgp(), any::control(), vec(proptest::bool::ANY, 2));
    let peers = (health, peers).prop_map(|(require, (bgp, control, wished))| {
        let needs = |what| require.contains(&what);
        let bgp = (wished[0] || needs(Requirement::Bgp)).then_some(bgp);
        let control = (wished[1] || needs(Requirement::Control)).then_some(control);
        (health::Config { require }, bgp, control)
    });
    let rest = (peers, admin, any::telemetry(), any::night());
    (identity(), time(0, 600), serving(), store(), rest).prop_map(
        |(appliance, stop_time, serve, store, (peers, (socket, metrics), telemetry, night))| {
            let read_only = format!("{}.ro", socket.display());
            let (health, bgp, control) = peers;
            let (fill, peer) = night.at(&appliance);
            Config {
                fill,
                peer,
                appliance,
                stop_time,
                serve,
                store,
                health,
                bgp,
                control,
                admin: admin::Config {
                    socket,
                    read_only_socket: PathBuf::from(read_only),
                    metrics_listen: metrics.map(|ip| SocketAddr::new(ip, 0)),
                },
                telemetry,
            }
        },
    )
}

/// Every place lies in its file.
fn well_placed(problems: &Problems, texts: &[(&str, &str)]) -> bool {
    !problems.0.is_empty()
        && problems.0.iter().all(|problem| {
            let found = texts.iter().find(|(name, _)| *name == problem.file);
            let mut lines = found.map_or("", |(_, text)| *text).split('\n');
            let line = lines.nth(problem.line - 1);
            let width = line.map(|line| line.chars().count());
            width.is_some_and(|width| (1..=width + 1).contains(&problem.column))
                && !problem.problem.is_empty()
                && !problem.remedy.is_empty()
        })
}

/// `noise` instead of some characters of `text`.
fn damaged(text: &str, at: Index, length: usize, noise: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let start = at.index(chars.len());
    let end = (start + length).min(chars.len());
    let before: String = chars[..start].iter().collect();
    let after: String = chars[end..].iter().collect();
    format!("{before}{noise}{after}")
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(config in config()) {
        let text = to_toml(&config);
        let loaded = load_text(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(&loaded.config, &config);
        prop_assert!(changes(&loaded.config, &config).is_empty());
    }

    #[test]
    fn a_configuration_may_be_spread_over_files(config in config(), cuts in vec(0_usize..4, 20)) {
        let text = to_toml(&config);
        let mut files = [const { String::new() }; 4];
        for (section, cut) in text.split("\n\n").zip(cuts.into_iter().cycle()) {
            // Repeated sections keep their order by staying in one file.
            let cut = if section.starts_with("[[") { 2 } else { cut };
            files[cut].push_str(&format!("{section}\n\n"));
        }
        let names = ["oca.toml", "1.toml", "2.toml", "3.toml"];
        let texts: Vec<(&str, &str)> =
            names.into_iter().zip(files.iter().map(String::as_str)).collect();
        let loaded = load_texts(&texts).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(loaded.config, config);
    }

    #[test]
    fn what_is_written_for_a_control_plane_is_what_is_read(config in any::plane()) {
        let text = to_toml(&config);
        let loaded = load_plane(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(&loaded.config, &config);
        prop_assert!(changes(&loaded.config, &config).is_empty());
    }

    #[test]
    fn no_damage_to_a_file_panics_and_every_problem_lies_in_it(
        at in proptest::arbitrary::any::<Index>(),
        length in 0_usize..40,
        noise in "[\\[\\]{}=\"'.,#\\n a-z0-9_\u{7}é-]{0,12}",
    ) {
        let text = damaged(Config::EXAMPLE, at, length, &noise);
        if let Err(problems) = load_text(&text) {
            prop_assert!(well_placed(&problems, &[("oca.toml", &text)]), "{problems:?}\n{text}");
        }
        let text = damaged(control::Config::EXAMPLE, at, length, &noise);
        if let Err(problems) = load_plane(&text) {
            let texts = [("control.toml", text.as_str())];
            prop_assert!(well_placed(&problems, &texts), "{problems:?}\n{text}");
        }
    }

    #[test]
    fn no_soup_of_tokens_panics(words in vec(select(TOKENS.to_vec()), 0..60)) {
        let text = words.concat();
        if let Err(problems) = load_text(&text) {
            prop_assert!(well_placed(&problems, &[("oca.toml", &text)]), "{problems:?}\n{text}");
        }
    }

    #[test]
    fn no_bytes_panic(bytes in vec(proptest::num::u8::ANY, 0..300)) {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("oca.toml");
        std::fs::write(&main, bytes).unwrap();
        prop_assert!(load(&main).is_err());
    }
}

const TOKENS: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ",",
    ".",
    "\n",
    "\"",
    "'",
    "\"\"\"",
    "#",
    " ",
    "\\",
    "\t",
    "serve",
    "listen",
    "limits",
    "tls",
    "certificate",
    "disk",
    "path",
    "class",
    "appliance",
    "id",
    "\"x\"",
    "1",
    "-1",
    "0x1F",
    "1.5",
    "true",
    "1979-05-27",
    "é",
    "\u{1}",
    "\r",
    "\r\n",
    "99999999999999999999",
    "[serve]\n",
    "[[disk]]\n",
    "serve.listen = []\n",
    "\u{feff}",
];

#[test]
fn hostile_megabytes_end_soon_and_are_bounded() {
    let most = 1 << 20;
    let fill = |unit: &str| unit.repeat(most / unit.len());
    for text in [
        fill("="),
        fill("=\n"),
        fill("["),
        fill("[[a]]\n"),
        fill("a.").trim_end_matches('.').to_owned() + "=1",
        format!("a={}", fill("{a=")),
        format!("a={}", fill("[")),
        format!("serve.listen=[{}]", fill("\"[::1]:1\",")),
        format!("[[disk]]\n{}", fill("[[disk]]\npath='/a'\n")),
        (0..80_000).map(|n| format!("key{n} = 1\n")).collect(),
        format!(
            "serve = {{ {} }}",
            (0..80_000).map(|n| format!("k{n}=1,")).collect::<String>()
        ),
    ] {
        let started = crate::clock::now();
        let problems = load_text(&text).unwrap_err();
        let start: String = text.chars().take(20).collect();
        assert!(problems.0.len() <= 201, "{start}: {}", problems.0.len());
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{start}: {:?}",
            started.elapsed()
        );
        eprintln!(
            "{start:?}: {} problems in {:?}",
            problems.0.len(),
            started.elapsed()
        );
    }
}

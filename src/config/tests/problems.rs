//! What is told of wrong files: where, what, and what to write.

use super::*;

fn remedies(text: &str) -> Vec<String> {
    remedies_of(load_text(text))
}

#[test]
fn problems_of_every_sort_come_together_with_their_places() {
    let text = file_with(&[
        ("appliance.stop_time", "\"30 sec\""),
        ("serve.workers", "\"four\""),
        ("serve.limits.head", "\"2 GiB\""),
        ("gate.require", "[\"clock\", \"bpg\"]"),
    ]);
    let text = text.replace("[serve]\n", "[serve]\nlisen = []\n") + "[teletmetry]\nx = 1\n";
    assert_eq!(
        told(&text),
        [
            "6:13: appliance.stop_time: `sec` is not a unit known here",
            "8:1: serve.lisen: is not a known key of `[serve]`",
            "9:11: serve.workers: must be a whole number, not the text `four`",
            "15:8: serve.limits.head: `2 GiB` is outside the range from 1 KiB to 1 MiB",
            "38:21: gate.require: `bpg` is not known here",
            "41:2: teletmetry: is not a known section",
        ]
    );
    let remedies = remedies(&text);
    assert_eq!(remedies[0], "use one of ms, s, m, h, d");
    assert_eq!(remedies[1], "did you mean `listen`?");
    assert_eq!(remedies[2], "write for example `workers = 0`");
    assert_eq!(remedies[3], "write a value from 1 KiB to 1 MiB");
    assert!(
        remedies[4].starts_with("did you mean `\"bgp\"`?"),
        "{}",
        remedies[4]
    );
    assert_eq!(remedies[5], "did you mean `telemetry`?");
}

#[test]
fn broken_syntax_tells_each_line_once_and_the_rest_is_still_checked() {
    let text = "[serve]\nworkers = \nlisten = [\"[::]:443\"]\nlisen = 1\n\
                [admin]\nsocket = \"/a\nsocket = \"relative\"\n[gate\n";
    let told = told(text);
    let starts = [
        "2:11: serve.workers: not TOML: ",
        "4:1: serve.lisen: is not a known key",
        "6:13: admin.socket: not TOML: ",
        "7:",
        "8:",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{told}");
    }
    assert!(!remedies(text).iter().any(String::is_empty));
}

#[test]
fn one_key_twice_in_one_file_is_refused() {
    let text = file_with(&[("serve.workers", "1\nworkers = 2")]);
    assert_eq!(told(&text), ["8:1: serve.workers: not TOML: duplicate key"]);
    assert_eq!(remedies(&text), ["keep one of them"]);
}

#[test]
fn a_missing_key_points_at_its_section_and_shows_the_line_to_write() {
    let text = "[serve]\nlisten = []\nplain_listen = [\"[::]:80\"]\n\n[appliance]\n\
                id = \"c009-tls001-example-isp\"\nprofile = \"flash\"\ntimezone = \"UTC\"\n\
                [gate]\nrequire = []\n[[disk]]\npath = \"/d\"\n";
    assert_eq!(
        told(text),
        [
            "5:1: appliance.site: is missing: the place where this box stands",
            "11:1: disk.class: is missing: the kind of disk; the more popular an object the \
             faster its disk",
        ]
    );
    assert_eq!(
        remedies(text)[0],
        "add `site = \"TLS001.example.ISP\"` to `[appliance]`"
    );
}

#[test]
fn an_empty_file_lacks_what_every_box_needs() {
    let told = told("");
    let keys: Vec<&str> = told
        .iter()
        .filter_map(|one| one.split(": ").nth(1))
        .collect();
    assert_eq!(
        keys,
        [
            "appliance.id",
            "appliance.site",
            "appliance.profile",
            "appliance.timezone",
            "disk",
            "serve.listen",
            "gate.require",
            "gate.require"
        ]
    );
    assert!(told.iter().all(|one| one.starts_with("1:1: ")), "{told:#?}");
}

#[test]
fn a_key_in_the_wrong_section_is_told_where_it_belongs() {
    let text = format!("timezone = \"UTC\"\n{}", file_with(&[]));
    assert_eq!(told(&text), ["1:1: timezone: is not a known key"]);
    assert_eq!(remedies(&text), ["move it to `[appliance]`"]);
}

#[test]
fn a_section_of_a_later_version_is_not_taken_for_a_slip() {
    for later in ["[origin]\n", "[[origin]]\nx = 1\n"] {
        let problems = load_text(&(file_with(&[]) + later)).unwrap_err().0;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].problem.contains("later version"),
            "{}",
            problems[0]
        );
        assert_eq!(problems[0].remedy, "remove the section");
    }
}

#[test]
fn sections_of_the_wrong_shape_are_told_their_header() {
    let text = file_with(&[])
        .replace("[[disk]]", "[disk]")
        .replace("\"nvme\"", "1");
    assert_eq!(
        told(&text),
        [
            "16:1: disk: is a section that may be repeated: its header is `[[disk]]`",
            "18:9: disk.class: must be a word in quotes, not the number `1`",
        ]
    );
    for (before, name, wrong) in [
        ("", "disk", "disk = 1\n"),
        ("", "appliance", "appliance = true\n"),
        (
            "[serve.tls]\n",
            "serve.tls.certificate",
            "certificate = [2]\n",
        ),
    ] {
        let rest = without(&file_with(&[]), name).replace("[serve.tls]\n", "");
        let found = told(&format!("{before}{wrong}{rest}"));
        assert_eq!(found.len(), 1, "{found:?}");
        let start = format!(": {name}: is a section");
        assert!(found[0].contains(&start), "{found:?}");
    }
    let text = file_with(&[]).replace("[store]", "[[store]]");
    assert_eq!(
        told(&text),
        ["19:1: store: is a section, not a value or a list"]
    );
    let text = format!("gate = 3\n{}", file_with(&[]).replace("[gate]\n", ""));
    assert_eq!(
        told(&text),
        ["1:8: gate: is a section, not a value or a list"]
    );
}

#[test]
fn inline_and_dotted_forms_are_the_same_file() {
    let written = file_with(&[("store.deadline", "\"5s\""), ("serve.workers", "2")]);
    let inline = written
        .replace("[store]\ndeadline = \"5s\"\n", "")
        .replace("[serve]\nworkers = 2\n", "");
    let inline = format!("store.deadline = \"5s\"\nserve.workers = 2\n{inline}");
    let (written, inline) = (load_text(&written).unwrap(), load_text(&inline).unwrap());
    assert_eq!(written.config, inline.config);
    let disks = "disk = [{ path = \"/a\", class = \"hdd\" }, { path = \"/b\", class = \"ssd\" }]\n";
    let text = file_with(&[]);
    let (before, after) = text.split_once("[[disk]]").unwrap();
    let rest = after.split_once("[store]").unwrap().1;
    let config = load_text(&format!("{disks}{before}[store]{rest}"))
        .unwrap()
        .config;
    assert_eq!(config.store.disks.len(), 2);
}

#[test]
fn values_that_contradict_each_other_are_told_at_the_later_one() {
    let told_with = |overrides: &[(&str, &str)]| told(&file_with(overrides));
    assert_eq!(
        told_with(&[("appliance.site", "\"LHR001.ix\"")]),
        ["2:6: appliance.id: box `c009-tls001-example-isp` does not belong to site `LHR001.ix`"]
    );
    assert_eq!(
        told_with(&[
            ("serve.listen", "[\"[::]:443\", \"[::]:0\"]"),
            ("serve.plain_listen", "[\"[::]:0\", \"[::]:443\"]"),
        ]),
        ["8:27: serve.plain_listen: `[::]:443` is already used by `serve.listen`"]
    );
    assert_eq!(
        told_with(&[("serve.listen", "[\"[::]:1\", \"[::]:1\"]")]),
        ["7:21: serve.listen: `[::]:1` is already used by `serve.listen`"]
    );
    assert_eq!(
        told_with(&[("serve.listen", "[]")]),
        ["7:10: serve.listen: no address to serve viewers on: \
             `listen` and `plain_listen` are empty"]
    );
    assert_eq!(
        told_with(&[("admin.socket", "\"/run/oca/oca-ro.sock\"")]),
        ["35:10: admin.socket: `socket` and `read_only_socket` are one path"]
    );
    let second = "[[disk]]\npath = \"/srv/oca/disk1/\"\nclass = \"hdd\"\n";
    assert_eq!(
        told(&(file_with(&[]) + second)),
        ["37:8: disk.path: `/srv/oca/disk1/` is the path of two disks"]
    );
    let inside = "[[disk]]\npath = \"/srv/oca/disk1/b\"\nclass = \"hdd\"\n";
    assert_eq!(
        told(&(file_with(&[]) + inside)),
        ["37:8: disk.path: `/srv/oca/disk1/b` overlaps with disk `/srv/oca/disk1`"]
    );
}

#[test]
fn a_zone_of_what_is_no_hard_disk_is_refused() {
    for class in ["nvme", "ssd"] {
        let with = |zone: &str| {
            let class = format!("\"{class}\"");
            file_with(&[("disk.class", &class), ("disk.zone", zone)])
        };
        let told = told(&with("\"outer\""));
        let [told] = &told[..] else {
            panic!("{told:?}")
        };
        let problem = format!("`outer` is a part of a hard disk, and this one is `{class}`");
        assert!(told.ends_with(&format!("disk.zone: {problem}")), "{told}");
        let remedies = remedies(&with("\"inner\""));
        assert_eq!(remedies, ["leave the key out, or write `class = \"hdd\"`"]);
        assert!(load_text(&with("\"none\"")).is_ok());
    }
    let hdd = |zone| file_with(&[("disk.class", "\"hdd\""), ("disk.zone", zone)]);
    assert!(load_text(&hdd("\"outer\"")).is_ok() && load_text(&hdd("\"inner\"")).is_ok());
    assert_eq!(told(&hdd("\"rim\"")).len(), 1);
}

#[test]
fn a_fill_rate_above_the_profiles_cap_is_refused_with_the_cap() {
    let with = |profile: &str, rate: &str| {
        file_with(&[("appliance.profile", profile), ("fill.rate_limit", rate)])
    };
    for (profile, cap) in [
        ("storage", "1.2 Gbit/s"),
        ("global", "400 Mbit/s"),
        ("flash", "300 Mbit/s"),
    ] {
        let profile = format!("\"{profile}\"");
        let at_cap = load_text(&with(&profile, &format!("\"{cap}\"")))
            .unwrap()
            .config;
        assert_eq!(at_cap.fill.rate_limit, at_cap.appliance.profile.cap());
    }
    let above = with("\"flash\"", "\"301 Mbit/s\"");
    let problem = "fill.rate_limit: `301 Mbit/s` is above the cap of profile `flash`, 300 Mbit/s";
    assert!(told(&above)[0].ends_with(problem), "{:?}", told(&above));
    assert_eq!(told(&above).len(), 1);
    assert_eq!(
        remedies(&above),
        ["write at most `\"300 Mbit/s\"`, or leave the key out"]
    );
}

#[test]
fn https_without_a_certificate_is_told_at_the_listen_key_or_its_section() {
    let no_certificate = |text: String| {
        let (before, after) = text.split_once("[[serve.tls.certificate]]").unwrap();
        format!(
            "{before}{}",
            &after[after.find("[serve.limits]").unwrap()..]
        )
    };
    let text = no_certificate(file_with(&[]));
    assert_eq!(told(&text), ["6:1: serve.listen: HTTPS has no certificate"]);
    let text = no_certificate(file_with(&[("serve.listen", "[\"[::]:8443\"]")]));
    assert_eq!(
        told(&text),
        ["7:10: serve.listen: HTTPS has no certificate"]
    );
    let plain = [
        ("serve.listen", "[]"),
        ("serve.plain_listen", "[\"[::]:80\"]"),
    ];
    assert!(load_text(&no_certificate(file_with(&plain))).is_ok());
}

#[test]
fn words_and_names_are_told_their_neighbours() {
    let remedy = |key, value| remedies(&file_with(&[(key, value)])).join("|");
    assert_eq!(
        remedy("appliance.timezone", "\"Europe/Pariss\""),
        "did you mean `\"Europe/Paris\"`?"
    );
    assert_eq!(
        remedy("telemetry.log_level", "\"inof\""),
        "did you mean `\"info\"`?"
    );
    assert!(remedy("disk.class", "\"nvm\"").contains("`\"nvme\"`"));
    assert!(remedy("serve.listen", "[\"localhost:443\"]").contains("names are not looked up"));
    assert!(remedy("disk.path", "\"srv\"").contains("beginning with `/`"));
    assert!(remedy("appliance.site", "\"TLS1\"").starts_with("write `<IATA>NNN"));
    assert!(remedy("appliance.id", "\"c9\"").starts_with("write `c<number>-<site>`"));
    let long = format!("\"/{}\"", "x".repeat(103));
    assert_eq!(
        remedy("admin.socket", &long),
        "write one of at most 103 bytes"
    );
    let zone = load_text(&file_with(&[("appliance.timezone", "\"europe/paris\"")])).unwrap();
    assert_eq!(zone.config.appliance.timezone, "Europe/Paris");
}

#[test]
fn later_files_merge_append_and_override_and_every_value_keeps_its_place() {
    let main = file_with(&[
        ("serve.workers", "2"),
        ("serve.listen", "[\"[::]:1\", \"[::]:2\"]"),
    ]);
    let first = "[serve]\nlisten = [\"[::]:3\"]\n[[disk]]\npath = \"/b\"\nclass = \"ssd\"\n";
    let second = "[serve.limits]\nheaders = 99\n[store]\ndeadline = \"1s\"\n";
    let files = [
        ("oca.toml", main.as_str()),
        ("10.toml", first),
        ("20.toml", second),
    ];
    let loaded = load_texts(&files).unwrap();
    let config = &loaded.config;
    assert_eq!(config.serve.workers, 2);
    assert_eq!(config.serve.listen, ["[::]:3".parse().unwrap()]);
    assert_eq!(config.serve.limits.headers, 99);
    let disks: Vec<_> = config
        .store
        .disks
        .iter()
        .map(|disk| disk.path.as_path())
        .collect();
    assert_eq!(disks, [Path::new("/srv/oca/disk1"), Path::new("/b")]);
    let origin = |key: &str| {
        let setting = loaded.settings.iter().find(|one| one.key == key).unwrap();
        setting
            .origin
            .as_ref()
            .map(|at| format!("{}:{}:{}", at.file, at.line, at.column))
    };
    assert_eq!(origin("serve.workers").unwrap(), "oca.toml:8:11");
    assert_eq!(origin("serve.listen").unwrap(), "10.toml:2:10");
    assert_eq!(origin("disk[1].path").unwrap(), "10.toml:4:8");
    assert_eq!(origin("store.deadline").unwrap(), "20.toml:4:12");
    assert_eq!(origin("serve.limits.head"), None);
}

#[test]
fn problems_between_files_point_into_the_file_that_makes_them() {
    let main = file_with(&[("serve.workers", "9999")]);
    let first = "[[disk]]\npath = \"/srv/oca/disk1\"\nclass = \"ssd\"\n";
    let second = "[admin]\nmetrics_listen = \"[::]:443\"\nsoket = \"/x\"\n";
    let files = [
        ("oca.toml", main.as_str()),
        ("10.toml", first),
        ("20.toml", second),
    ];
    assert_eq!(
        told_of(load_texts(&files)),
        [
            "7:11: serve.workers: `9999` is outside the range from 0 to 1024",
            "10.toml:2:8: disk.path: `/srv/oca/disk1` is the path of two disks",
            "20.toml:2:18: admin.metrics_listen: `[::]:443` is already used by `serve.listen`",
            "20.toml:3:1: admin.soket: is not a known key of `[admin]`",
        ]
    );
}

#[test]
fn too_many_are_refused_before_they_are_compared() {
    let disk = |n: usize| format!("[[disk]]\npath = \"/d{n}\"\nclass = \"ssd\"\n");
    let many: String = (0..256).map(disk).collect();
    let told_of_disks = told(&(file_with(&[]) + &many));
    assert_eq!(told_of_disks.len(), 1);
    assert!(told_of_disks[0].ends_with("disk: there are more than 256 of `[[disk]]`"));
    let list = format!("[{}]", "\"[::]:0\", ".repeat(65));
    assert_eq!(
        told(&file_with(&[("serve.plain_listen", &list)])),
        ["7:16: serve.plain_listen: the list has 65 elements"]
    );
}

//! What is told of wrong `[bgp]`, `[control]` and `control.toml`, and what their absence means.

use super::*;

const SECOND: &str = "[[bgp.neighbour]]\nname = \"edge-2\"\naddress = \"2001:db8::2\"\n\
                      asn = 64502\nclass = \"transit\"\nimport = \"all\"\n";

/// `key: problem` of each, without the places.
fn short(text: &str) -> Vec<String> {
    let cut = |one: String| one.split_once(": ").unwrap().1.to_owned();
    told(text).into_iter().map(cut).collect()
}

fn with_second(second: &str) -> String {
    file_with(&[]) + second
}

#[test]
fn a_box_without_peers_has_none_and_a_gate_that_waits_for_them_is_told() {
    let mut text = file_with(&[("gate.require", "[\"clock\"]")]);
    for section in ["[bgp.neighbour]", "bgp", "control"] {
        text = without(&text, section);
    }
    let alone = load_text(&text).unwrap();
    assert!(alone.config.bgp.is_none() && alone.config.control.is_none());
    let is_peers = |key: &str| key.starts_with("bgp") || key.starts_with("control");
    assert!(!alone.settings.iter().any(|one| is_peers(&one.key)));
    assert!(!to_toml(&alone.config).contains("bgp"));

    let waiting = text.replace("require = [\"clock\"]\n", "");
    assert_eq!(
        short(&waiting),
        [
            "gate.require: waits for a control plane, and there is no `[control]`",
            "gate.require: waits for a router, and there is no `[bgp]`",
        ]
    );
    let remedy = "write the section `[control]`, or `require = [\"clock\"]` in `[gate]`; \
                  a stand-alone box writes `require = []`";
    assert_eq!(remedies_of(load_text(&waiting))[0], remedy);
    let half = text.replace("[\"clock\"]", "[\"bgp\"]");
    assert_eq!(short(&half).len(), 1);
    let hidden = format!("bgp = 1\n{half}");
    assert_eq!(short(&hidden), ["bgp: is a section, not a value or a list"]);
}

#[test]
fn a_section_that_comes_or_goes_is_one_change() {
    let full = load_text(&file_with(&[])).unwrap().config;
    let less = Config {
        control: None,
        ..full.clone()
    };
    let went = changes(&full, &less);
    assert_eq!(went.len(), 1);
    assert_eq!(
        (went[0].key.as_str(), went[0].new.as_str()),
        ("control", "none")
    );
    assert!(
        went[0]
            .old
            .starts_with("{ url = \"https://control.example.net:8443\", ca = ")
    );
    let came = changes(&less, &full);
    assert_eq!((&came[0].old, &came[0].new), (&went[0].new, &went[0].old));
    assert!(!came[0].reloadable);
}

#[test]
fn bgp_without_what_it_needs_is_told_line_by_line() {
    let text = without(&file_with(&[]), "[bgp.neighbour]");
    assert_eq!(
        short(&text),
        ["bgp.neighbour: is missing: no router to learn routes from"]
    );
    let only_neighbour = without(&file_with(&[]), "bgp");
    assert_eq!(
        short(&only_neighbour),
        [
            "bgp.asn: is missing: the box's own AS number",
            "bgp.router_id: is missing: the BGP identifier of this box",
        ]
    );
    let empty = file_with(&[]).replace("url = \"https://control.example.net:8443\"\n", "");
    assert_eq!(
        short(&empty),
        ["control.url: is missing: where the control plane takes reports"]
    );
}

#[test]
fn neighbours_that_cannot_be_told_apart_are_refused() {
    assert!(load_text(&with_second(SECOND)).is_ok());
    let same_name = SECOND.replace("edge-2", "edge-1");
    assert_eq!(
        short(&with_second(&same_name)),
        ["bgp.neighbour.name: `edge-1` is the name of two neighbours"]
    );
    let same_address = SECOND.replace("2001:db8::2", "192.0.2.1");
    let text = with_second(&same_address);
    assert_eq!(
        short(&text),
        ["bgp.neighbour.address: `192.0.2.1` port 179 is the router of two neighbours"]
    );
    assert!(remedies_of(load_text(&text))[0].contains("`local_address`"));
    let apart = format!("{same_address}local_address = \"192.0.2.9\"\n");
    assert!(load_text(&with_second(&apart)).is_ok());
}

#[test]
fn a_neighbour_that_cannot_work_is_told_why() {
    let one = |key: &str, value: &str| {
        let text = file_with(&[(&format!("bgp.neighbour.{key}"), value)]);
        let (mut told, mut remedies) = (short(&text), remedies_of(load_text(&text)));
        assert_eq!((told.len(), remedies.len()), (1, 1), "{told:?}");
        format!("{} | {}", told.remove(0), remedies.remove(0))
    };
    let family = one("local_address", "\"2001:db8::9\"");
    assert!(family.contains("one is IPv4, the other IPv6"), "{family}");
    let seconds = one("hold_time", "\"3500ms\"");
    assert!(seconds.ends_with("is not whole seconds | write for example `\"3s\"`"));
    let short_hold = one("hold_time", "\"2s\"");
    assert!(short_hold.contains("from 3s"), "{short_hold}");
    let name = one("name", "\"a|b\"");
    assert!(name.contains("is not a plain name"), "{name}");
    for (written, number) in [
        ("1.10", 65_546),
        ("\"1.10\"", 65_546),
        ("\"AS64501\"", 64_501),
    ] {
        let told = one("asn", written);
        let remedy = format!("write one number without quotes: `{number}`");
        assert!(told.ends_with(&remedy), "{told}");
    }
    let waiting = [("bgp.listen", "[]"), ("bgp.neighbour.passive", "true")];
    assert_eq!(
        short(&file_with(&waiting)),
        ["bgp.neighbour.passive: waits for the router to connect, and `[bgp] listen` is empty"]
    );
}

#[test]
fn conditions_of_packets_that_cannot_be_together_are_told() {
    let told = |keys: &str| {
        let text = with_second(&format!("{SECOND}{keys}\n"));
        (short(&text), remedies_of(load_text(&text)))
    };
    let (problems, remedies) = told("tcp_ao_id = 1");
    assert_eq!(
        problems,
        ["bgp.neighbour.tcp_ao_id: names a key, and there is no `password_file`"]
    );
    assert!(remedies[0].contains("`password_file`"));
    let (problems, _) = told("interface = \"a-name-of-sixteen\"");
    assert!(
        problems[0].contains("longer than an interface"),
        "{problems:?}"
    );
    let local = SECOND.replace("2001:db8::2", "fe80::2");
    let (problems, remedies) = {
        let text = with_second(&local);
        (short(&text), remedies_of(load_text(&text)))
    };
    assert!(problems[0].contains("link-local"), "{problems:?}");
    assert_eq!(remedies, ["name the interface: `interface = \"eth0\"`"]);
    let named = format!("{local}interface = \"eth0\"\n");
    assert!(load_text(&with_second(&named)).is_ok());
    let far = format!("{named}multihop = 2\n");
    let problems = short(&with_second(&far));
    assert!(problems[0].contains("on the same link"), "{problems:?}");
}

#[test]
fn keys_of_a_later_version_are_not_taken_for_slips() {
    {
        let (key, value) = ("families", "[\"ipv4\"]");
        let written = format!("{SECOND}{key} = {value}\n");
        let problems = load_text(&with_second(&written)).unwrap_err().0;
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].problem.contains("later version"),
            "{}",
            problems[0]
        );
        assert_eq!(problems[0].remedy, "remove the key");
    }
}

#[test]
fn ports_of_bgp_and_of_viewers_are_compared_only_while_bgp_is_written() {
    let clash = [("serve.plain_listen", "[\"[::]:179\"]")];
    let text = file_with(&clash);
    let is_default = load_text(&text).is_ok();
    assert!(
        !is_default,
        "the default of [bgp] listen is an address like any other"
    );
    let text = file_with(&[clash[0], ("gate.require", "[\"control\"]")]);
    let alone = without(&without(&text, "[bgp.neighbour]"), "bgp");
    assert!(load_text(&alone).is_ok());
}

#[test]
fn a_control_plane_that_no_box_could_reach_is_told() {
    let one = |overrides: &[(&str, &str)]| told_of(load_plane(&written(&CONTROL_PLANE, overrides)));
    assert_eq!(
        one(&[("link.listen", "[]")]),
        ["4:10: link.listen: no address for boxes to report to"]
    );
    assert_eq!(
        one(&[("link.names", "[]")]),
        ["4:9: link.names: no name for the listener's certificate: no box would trust it"]
    );
    assert_eq!(
        one(&[("link.names", "[\"https://a.example.net\"]")]),
        ["4:10: link.names: `https://a.example.net` is not a host"]
    );
    assert_eq!(
        one(&[("link.body_decompressed", "\"1 MiB\"")]),
        ["5:21: link.body_decompressed: `1 MiB` is less than `body`, which is `256 MiB`"]
    );
    assert_eq!(
        one(&[("public.plain_listen", "[\"[::]:8443\"]")]),
        ["6:17: public.plain_listen: `[::]:8443` is already used by `link.listen`"]
    );
    let bare = written(&CONTROL_PLANE, &[("public.listen", "[\"[::]:443\"]")]);
    let bare = without(&bare, "[public.certificate]");
    assert_eq!(
        told_of(load_plane(&bare)),
        ["6:10: public.listen: HTTPS has no certificate"]
    );
    let empty = told_of(load_plane(""));
    assert_eq!(
        empty,
        [
            "1:1: control.domain: is missing: what the boxes' host names end in",
            "1:1: link.names: is missing: the names and addresses by which boxes reach this \
             control plane",
        ]
    );
}

#[test]
fn the_two_sorts_of_file_do_not_know_each_other() {
    let problems = told_of(load_plane(
        "[serve]\n[disk]\n[control]\nurl = \"https://a\"\n",
    ));
    let unknown: Vec<_> = problems
        .iter()
        .filter(|one| one.contains("not a known"))
        .collect();
    assert_eq!(unknown.len(), 3, "{problems:?}");
}

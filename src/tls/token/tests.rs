//! Tests of the whole way: sign, parse, check. The vectors of docs/TOKENS.md are `tests/token`'s.

use super::*;
use crate::units::BytesPerSecond;
use proptest::prelude::*;
use std::net::IpAddr;

const NOW: u64 = 1_767_226_000;
const HOST: &str = "c001-lhr001-ix.oca.example.net";

fn fleet_key(id: &str, from: u64, until: u64, byte: u8) -> FleetKey {
    FleetKey {
        id: KeyId::parse(id).unwrap(),
        from,
        until,
        secret: Secret::from_bytes([byte; 32]),
    }
}

fn key() -> FleetKey {
    fleet_key("a1", NOW - 1_000, NOW + 100_000, 7)
}

fn ring(host: &str) -> Keyring {
    Keyring::new(vec![key().host_key(host).unwrap()])
}

fn claim(scope: Scope<'_>) -> Claim<'_> {
    Claim {
        scope,
        issued: NOW - 10,
        expires: NOW + 600,
        session: None,
        client: None,
        rate: None,
    }
}

fn asked(key: &str) -> Asked<'_> {
    Asked {
        host: Some(HOST.as_bytes()),
        key,
        client: "192.0.2.7".parse().unwrap(),
        now: Some(NOW),
    }
}

fn signed(claim: &Claim<'_>) -> String {
    sign(&key().host_key(HOST).unwrap(), claim).unwrap().0
}

/// As a URL brings it: by its path if it names a depth.
fn present(text: &str) -> Result<Presented<'_>, TokenFault> {
    if text.contains(',') {
        Presented::from_path(text)
    } else {
        Presented::from_query(text.as_bytes()).map(Option::unwrap)
    }
}

fn judge(text: &str, asked: &Asked<'_>) -> Result<Pass, TokenFault> {
    check(&[&ring(HOST)], &present(text)?, asked)
}

#[test]
fn a_key_token_admits_to_that_key_and_a_directory_token_to_all_below() {
    let one = signed(&claim(Scope::Key("film/v1/hd/a.m4s")));
    assert!(judge(&one, &asked("film/v1/hd/a.m4s")).is_ok());
    assert_eq!(
        judge(&one, &asked("film/v1/hd/b.m4s")),
        Err(TokenFault::Mac)
    );
    let all = signed(&claim(Scope::Directory("film/v1")));
    for key in ["film/v1/a.m3u8", "film/v1/hd/a.m4s"] {
        assert!(judge(&all, &asked(key)).is_ok(), "{key}");
    }
    for key in ["film/v10/a.m4s", "film/v2/a.m4s", "xfilm/v1/a"] {
        assert_eq!(judge(&all, &asked(key)), Err(TokenFault::Mac), "{key}");
    }
    for key in ["film/v1", "film"] {
        assert_eq!(judge(&all, &asked(key)), Err(TokenFault::Scope), "{key}");
    }
}

#[test]
fn a_key_token_is_no_directory_token_of_the_same_path() {
    let one = signed(&claim(Scope::Key("film/v1")));
    let as_path = format!("d=2,{}", one.replace('&', ","));
    assert_eq!(judge(&as_path, &asked("film/v1/a")), Err(TokenFault::Mac));
    let all = signed(&claim(Scope::Directory("film/v1")));
    let as_query = all.replace(',', "&");
    assert!(matches!(
        Presented::from_query(as_query.as_bytes()),
        Err(TokenFault::Malformed(_))
    ));
}

#[test]
fn a_host_is_the_same_with_any_port_and_case_and_no_other_host_is() {
    let all = signed(&claim(Scope::Directory("film")));
    let at = |host: &'static str| {
        let host = Some(host.as_bytes());
        judge(
            &all,
            &Asked {
                host,
                ..asked("film/a")
            },
        )
    };
    assert!(at("C001-LHR001-IX.oca.example.net:8443").is_ok());
    assert!(at("c001-lhr001-ix.oca.example.net.").is_ok());
    for other in [
        "c002-lhr001-ix.oca.example.net",
        "192.0.2.1",
        "[2001:db8::1]:443",
    ] {
        assert_eq!(at(other), Err(TokenFault::Host), "{other}");
    }
    let nobody = Asked {
        host: None,
        ..asked("film/a")
    };
    assert_eq!(judge(&all, &nobody), Err(TokenFault::Host));
}

#[test]
fn the_keys_of_one_host_forge_nothing_for_another() {
    let other = "c002-lhr001-ix.oca.example.net";
    let stolen = HostKey {
        host: HOST.to_owned(),
        ..key().host_key(other).unwrap()
    };
    let forged = sign(&stolen, &claim(Scope::Directory("film"))).unwrap().0;
    assert_eq!(judge(&forged, &asked("film/a")), Err(TokenFault::Mac));
    // A box with several names: what is signed for one is not good at another.
    let both = Keyring::new(vec![
        key().host_key(HOST).unwrap(),
        key().host_key(other).unwrap(),
    ]);
    let good = signed(&claim(Scope::Directory("film")));
    let presented = present(&good).unwrap();
    let there = Asked {
        host: Some(other.as_bytes()),
        ..asked("film/a")
    };
    assert_eq!(check(&[&both], &presented, &there), Err(TokenFault::Mac));
    assert!(check(&[&both], &presented, &asked("film/a")).is_ok());
    // The host stands in the text as well as in the key: equal keys are not equal tokens.
    let same_key = HostKey {
        host: other.to_owned(),
        ..key().host_key(HOST).unwrap()
    };
    let twins = Keyring::new(vec![same_key]);
    assert_eq!(check(&[&twins], &presented, &there), Err(TokenFault::Mac));
}

#[test]
fn a_token_is_good_from_its_issue_with_a_minute_of_skew_to_its_last_second() {
    let all = signed(&claim(Scope::Directory("film")));
    let at = |now| {
        judge(
            &all,
            &Asked {
                now: Some(now),
                ..asked("film/a")
            },
        )
        .map(|_| ())
    };
    assert_eq!(at(NOW - 10 - SKEW_SECONDS - 1), Err(TokenFault::Early));
    assert_eq!(at(NOW - 10 - SKEW_SECONDS), Ok(()));
    assert_eq!(at(NOW + 599), Ok(()));
    assert_eq!(at(NOW + 600), Err(TokenFault::Expired));
    assert_eq!(at(u64::MAX), Err(TokenFault::KeyId));
    let untimed = Asked {
        now: None,
        ..asked("film/a")
    };
    assert!(judge(&all, &untimed).is_ok());
}

#[test]
fn rotation_overlaps_and_a_key_that_ended_admits_nobody() {
    let (from, until) = (NOW - 100, NOW + 3_600);
    let old = fleet_key("old", from, until, 1);
    let young = fleet_key("young", NOW, NOW + 7_200, 2);
    let fleet = FleetSecret::new(vec![young.clone(), old.clone()]).unwrap();
    assert_eq!(fleet.signing(from - 1), None);
    assert_eq!(fleet.signing(NOW - 1), Some(&old));
    assert_eq!(fleet.signing(NOW), Some(&young));
    assert_eq!(fleet.signing(NOW + 7_200), None);
    let keys = fleet.host_keys(&[HOST.to_owned()], NOW).unwrap();
    let ring = Keyring::new(keys);
    let claim = Claim {
        issued: NOW - 50,
        expires: NOW + 100_000,
        ..claim(Scope::Directory("film"))
    };
    let [by_old, by_young] = [&old, &young].map(|key| {
        let key = key.host_key(HOST).unwrap();
        sign(&key, &claim).unwrap().0
    });
    let at = |text: &str, now| {
        let asked = Asked {
            now: Some(now),
            ..asked("film/a")
        };
        check(&[&ring], &present(text).unwrap(), &asked).map(|_| ())
    };
    assert_eq!(at(&by_old, NOW), Ok(()));
    assert_eq!(at(&by_old, until - 1), Ok(()));
    assert_eq!(at(&by_old, until), Err(TokenFault::KeyId));
    assert_eq!(at(&by_young, until), Ok(()));
    assert_eq!(at(&by_young, NOW - SKEW_SECONDS), Ok(()));
    assert_eq!(
        at(&by_young, NOW - SKEW_SECONDS - 1),
        Err(TokenFault::KeyId)
    );
    assert_eq!(fleet.host_keys(&[HOST.to_owned()], until).unwrap().len(), 1);
}

#[test]
fn a_client_prefix_a_session_and_a_rate_are_bound() {
    let network = ClientPrefix::new("192.0.2.0/24".parse().unwrap());
    assert_eq!(network.to_string(), "c0000200-24");
    let claim = Claim {
        session: Some("viewer-1"),
        client: Some(network),
        rate: Some(BytesPerSecond(1_000_000)),
        ..claim(Scope::Directory("film"))
    };
    let text = signed(&claim);
    let from = |client: &str| {
        let client: IpAddr = client.parse().unwrap();
        judge(
            &text,
            &Asked {
                client,
                ..asked("film/a")
            },
        )
    };
    let pass = from("192.0.2.255").unwrap();
    assert_eq!(pass.session.as_deref(), Some("viewer-1"));
    assert_eq!(pass.rate, Some(BytesPerSecond(1_000_000)));
    assert_eq!((pass.issued, pass.expires), (NOW - 10, NOW + 600));
    assert!(from("::ffff:192.0.2.1").is_ok());
    for other in ["192.0.3.1", "2001:db8::1"] {
        assert_eq!(from(other), Err(TokenFault::Client), "{other}");
    }
    for (part, change) in [
        ("s=viewer-1", "s=viewer-2"),
        ("r=1000000", "r=1000001"),
        ("c=c0000200-24", "c=c0000200-23"),
        ("e=", "e=1"),
        ("i=1", "i=2"),
    ] {
        let changed = text.replacen(part, change, 1);
        assert_ne!(changed, text);
        assert!(judge(&changed, &asked("film/a")).is_err(), "{change}");
    }
    let without = text.replacen("s=viewer-1,", "", 1);
    assert_eq!(judge(&without, &asked("film/a")), Err(TokenFault::Mac));
}

#[test]
fn there_is_one_spelling_of_a_token() {
    let good = signed(&claim(Scope::Directory("film")));
    assert!(Presented::from_path(&good).is_ok());
    let mac = good.split_once("t=").unwrap().1;
    for bad in [
        good.replacen("d=1", "d=01", 1),
        good.replacen("d=1", "d=0", 1),
        good.replacen("d=1", "d=+1", 1),
        good.replacen("d=1,", "", 1),
        good.replacen("d=1,e", "e", 1),
        good.replacen("k=a1", "k=%611", 1),
        good.replacen("k=a1", "k=", 1),
        good.replacen("k=a1", "k=a1,k=a1", 1),
        good.replacen("k=a1,", "", 1),
        good.replacen("k=a1", "k=a1,x=1", 1),
        good.replacen("i=1", "i=01", 1),
        good.replacen("i=1767225990", "i=1767226600", 1),
        format!("{good}="),
        format!("{good},"),
        format!(",{good}"),
        format!("t={mac},{}", good.rsplit_once(',').unwrap().0),
        good.replace(',', ";"),
        format!("{good}{}", "x".repeat(300)),
        String::new(),
    ] {
        let parsed = Presented::from_path(&bad);
        assert!(matches!(parsed, Err(TokenFault::Malformed(_))), "{bad}");
    }
}

#[test]
fn other_parameters_of_a_query_do_not_matter_and_ours_come_once() {
    let good = signed(&claim(Scope::Key("film/a")));
    let read = |query: &str| Presented::from_query(query.as_bytes()).map(|found| found.is_some());
    for query in [
        format!("CMCD=br%3D100&{good}"),
        format!("x=1&{good}&d2=7&tt=9&y"),
        good.rsplit_once('&')
            .map(|(rest, mac)| format!("{mac}&{rest}"))
            .unwrap(),
    ] {
        assert_eq!(read(&query), Ok(true), "{query}");
    }
    for query in ["", "e=1&i=2&k=x", "CMCD=t%3D1", "x=t=1", "tt=1"] {
        assert_eq!(read(query), Ok(false), "{query}");
    }
    let twice = format!("{good}&{good}");
    for query in [
        &twice,
        "t=1234",
        "t=",
        &format!("{good}&e=1"),
        &format!("{good}&s="),
    ] {
        assert!(
            matches!(read(query), Err(TokenFault::Malformed(_))),
            "{query}"
        );
    }
}

#[test]
fn nothing_shows_a_key() {
    let key = key();
    let digits = key.secret.to_hex().to_string();
    let host = key.host_key(HOST).unwrap();
    let of_host = host.key.to_hex().to_string();
    let ring = Keyring::new(vec![host.clone()]);
    let shown = format!("{key:?} {host:?} {ring:?} {:?}", ring.view());
    assert!(shown.contains("a1") && shown.contains(HOST));
    assert!(
        !shown.contains(&digits) && !shown.contains(&of_host),
        "{shown}"
    );
    assert!(!shown.contains("[7, 7"), "{shown}");
}

#[test]
fn key_files_are_read_as_they_were_written_and_open_ones_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (fleet_path, host_path) = (dir.path().join("fleet"), dir.path().join("host"));
    let fleet = FleetSecret::new(vec![key()]).unwrap();
    save_fleet(&fleet_path, &fleet).unwrap();
    assert_eq!(load_fleet(&fleet_path).unwrap(), fleet);
    let keys = fleet.host_keys(&[HOST.to_owned()], NOW).unwrap();
    save_host(&host_path, &keys).unwrap();
    assert_eq!(load_host(&host_path).unwrap(), keys);
    let mode = std::fs::metadata(&host_path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::set_permissions(&host_path, PermissionsExt::from_mode(0o640)).unwrap();
    let error = load_host(&host_path).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
    assert!(
        load_host(&dir.path().join("none"))
            .unwrap_err()
            .is_not_found()
    );
    let line = std::fs::read_to_string(&fleet_path).unwrap();
    let digits = key().secret.to_hex().to_string();
    let broken = line.replace(&digits, &digits[1..]);
    std::fs::write(&fleet_path, broken).unwrap();
    let error = load_fleet(&fleet_path).unwrap_err().to_string();
    assert!(
        error.contains("line 3") && !error.contains(&digits[1..]),
        "{error}"
    );
}

/// What the contract says of a directory, written another way: the key's segments begin with all
/// of the directory's, and there are more.
fn is_below(directory: &str, key: &str) -> bool {
    let (directory, key): (Vec<_>, Vec<_>) =
        (directory.split('/').collect(), key.split('/').collect());
    key.len() > directory.len() && key[..directory.len()] == directory[..]
}

proptest! {
    #[test]
    fn a_directory_token_admits_to_what_is_below_it_and_to_nothing_else(
        directory in "[ab.]{1,3}(/[ab.]{1,3}){0,3}",
        rest in "[ab./]{0,6}",
        other in "[ab.]{1,3}(/[ab.]{1,3}){0,4}",
    ) {
        let scope = Scope::Directory(&directory);
        if let Ok(Signed(text)) = sign(&key().host_key(HOST).unwrap(), &claim(scope)) {
            for path in [format!("{directory}{rest}"), format!("{directory}/{rest}"), other] {
                if crate::key::check(path.as_bytes()).is_ok() {
                    let admitted = judge(&text, &asked(&path)).is_ok();
                    prop_assert_eq!(admitted, is_below(&directory, &path), "{} {}", directory, path);
                }
            }
        }
    }

    /// Encoded slashes, dots and NUL are in no key: `serve` refuses them before any token counts.
    #[test]
    fn no_second_spelling_of_a_path_reaches_a_token(
        directory in "[ab]{1,2}(/[ab]{1,2}){0,2}",
        trick in prop::sample::select(vec!["%2f", "%2F", "..", ".", "//", "\0", "%00", "\\", "%2e%2e"]),
        rest in "[ab]{1,2}",
    ) {
        for path in [format!("{directory}/{trick}/{rest}"), format!("{directory}{trick}{rest}")] {
            let is_key = crate::key::check(path.as_bytes()).is_ok();
            // Dots inside a name are a name like any other, which is another key.
            prop_assert!(!is_key || !trick.contains(['%', '/', '\0', '\\']), "{path:?}");
            if is_key {
                let scope = Scope::Directory(&directory);
                let text = signed(&claim(scope));
                prop_assert_eq!(judge(&text, &asked(&path)).is_ok(), is_below(&directory, &path));
            }
        }
    }

    #[test]
    fn no_bytes_panic(token in "\\PC{0,300}", query in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Presented::from_path(&token);
        let _ = Presented::from_query(&query);
    }

    #[test]
    fn what_is_signed_is_read_and_any_changed_letter_is_refused(
        session in prop::option::of("[A-Za-z0-9_-]{1,64}"),
        client in prop::option::of((any::<u32>(), 0_u8..=32)),
        rate in prop::option::of(1_u64..1_000_000_000_000),
        at in any::<prop::sample::Index>(),
        to in "[A-Za-z0-9,=_-]",
    ) {
        let client = client.map(|(bits, length)| {
            let address = IpAddr::from(bits.to_be_bytes());
            ClientPrefix::new(crate::prefix::Prefix::new(address, length).unwrap())
        });
        let claim = Claim {
            session: session.as_deref(),
            client,
            rate: rate.map(BytesPerSecond),
            ..claim(Scope::Directory("film/v1"))
        };
        let text = signed(&claim);
        let asked = Asked { now: Some(NOW), ..asked("film/v1/a") };
        let anybody = |text: &str| check(&[&ring(HOST)], &present(text)?, &asked);
        let outcome = anybody(&text);
        prop_assert!(matches!(outcome, Ok(_) | Err(TokenFault::Client)), "{outcome:?}");
        let at = at.index(text.len());
        let mut changed = text.clone();
        changed.replace_range(at..=at, &to);
        if changed != text && changed.contains(',') {
            prop_assert!(anybody(&changed).is_err(), "{changed}");
        }
    }
}

//! What `.deny.toml` says of the dependencies, checked without installing cargo-deny: no banned
//! crate in the build, no licence outside the list, nothing from outside the registry.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn deny() -> toml::Table {
    let text = fs::read_to_string(root().join(".deny.toml")).unwrap();
    text.parse().unwrap()
}

/// Name, licence and origin of what is really built; the lock file also names what nobody turns
/// on. A package from elsewhere shows its place after its version.
fn packages() -> Vec<[String; 3]> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix", "none"])
        .args(["--format", "{p}|{l}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: BTreeSet<&str> = text.lines().collect();
    let parse = |line: &str| {
        let (package, licence) = line.split_once('|').unwrap();
        let licence = licence.trim_end_matches("(*)").trim();
        let mut words = package.splitn(3, ' ');
        let name = words.next().unwrap().to_owned();
        let origin = words.nth(1).unwrap_or_default().replace("(proc-macro)", "");
        [
            name,
            licence.to_owned(),
            origin.replace("(*)", "").trim().to_owned(),
        ]
    };
    lines.into_iter().map(parse).collect()
}

/// Does one alternative of an SPDX expression consist of allowed licences? `OR` binds weaker than
/// `AND`; older manifests write `/` for `OR`.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ");
    if expression.contains('(') {
        // `(A OR B) AND C`: every term that is not an alternative must be allowed.
        return expression.split(" AND ").all(|part| {
            let part = part.trim().trim_start_matches('(').trim_end_matches(')');
            is_allowed(part, allowed)
        });
    }
    flat.split(" OR ").any(|choice| {
        choice
            .split(" AND ")
            .all(|one| allowed.contains(one.trim()))
    })
}

#[test]
fn no_banned_crate_is_built() {
    let deny = deny();
    let banned = deny["bans"]["deny"].as_array().unwrap();
    assert!(banned.len() >= 4);
    let packages = packages();
    for entry in banned {
        let name = entry["crate"].as_str().unwrap();
        let built = packages.iter().any(|[built, ..]| built == name);
        assert!(!built, "{name} is built: {}", entry["reason"]);
    }
    assert!(packages.iter().any(|[name, ..]| name == "aws-lc-rs"));
}

#[test]
fn every_licence_is_allowed_and_every_crate_comes_from_the_registry() {
    let deny = deny();
    let allowed = deny["licenses"]["allow"].as_array().unwrap();
    let allowed: BTreeSet<&str> = allowed.iter().map(|name| name.as_str().unwrap()).collect();
    let packages = packages();
    assert!(packages.len() > 50, "{} packages", packages.len());
    for [name, licence, origin] in packages {
        assert!(is_allowed(&licence, &allowed), "{name}: licence {licence}");
        assert!(
            origin.is_empty() || name == "oca",
            "{name} comes from {origin}"
        );
    }
}

#[test]
fn the_licence_check_can_fail() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0"]);
    assert!(is_allowed("MIT OR GPL-3.0", &allowed) && is_allowed("MIT/Apache-2.0", &allowed));
    assert!(is_allowed("(MIT OR GPL-3.0) AND Apache-2.0", &allowed));
    assert!(!is_allowed("GPL-3.0", &allowed) && !is_allowed("MIT AND GPL-3.0", &allowed));
    assert!(!is_allowed("(MIT OR ISC) AND GPL-3.0", &allowed) && !is_allowed("none", &allowed));
}

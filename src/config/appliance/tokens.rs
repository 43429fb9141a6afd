//! The keys of `oca.toml` that tell which viewers must show a token, and what they must mean
//! together with the rest.

use super::super::keys::Fallback::Absent;
use super::super::keys::Fallback::Default;
use super::super::keys::Key;
use super::super::keys::Kind;
use super::super::keys::key;
use super::super::problem::Report;
use super::super::settings::Fields;
use super::super::settings::Settings;
use crate::serve;
use crate::serve::TokenMode;

pub(super) const TOKENS: &[Key] = &[
    key(
        "mode",
        Kind::Word(&["off", "optional", "required"]),
        Default(r#""off""#),
        true,
        "/serve/tokens/mode",
        "what becomes of viewers without a good token",
    ),
    key(
        "key_file",
        Kind::Path,
        Absent(r#""/etc/oca/viewer-keys""#),
        true,
        "/serve/tokens/key_file",
        "the file of the keys of this box's names",
    ),
];

pub(super) fn build(settings: &Settings) -> Option<serve::TokensConfig> {
    let tokens = settings.section("serve.tokens")?;
    Some(serve::TokensConfig {
        mode: match tokens.word("mode")? {
            "off" => TokenMode::Off,
            "optional" => TokenMode::Optional,
            "required" => TokenMode::Required,
            _ => return None,
        },
        key_file: tokens.optional("key_file", Fields::path)?,
    })
}

/// Keys must come from somewhere.
pub(super) fn check(settings: &Settings, report: &mut Report) {
    let Some(tokens) = settings.section("serve.tokens") else {
        return;
    };
    let wants = tokens.word("mode").is_some_and(|mode| mode != "off");
    let may_come = settings.is_written("control")
        || !settings.is_well_formed("control")
        || tokens.is_written("key_file");
    if wants && !may_come {
        let problem = "tokens are to be checked, and no key will ever come";
        let remedy = "write `key_file`, which `oca token derive` makes, or the section `[control]`";
        let at = tokens.at_or_above("mode");
        report.add(at, "serve.tokens.mode", problem, remedy);
    }
}

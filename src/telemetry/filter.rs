//! The log filter as operators write it. Called by `config`, `admin` and the room itself.
//!
//! `tracing` reads a misspelt level such as `inof` as the name of a target and then logs nothing
//! else, in silence. Here a bare word must be a level.

use super::TelemetryError;
use crate::help;
use tracing_subscriber::EnvFilter;

/// No longer filter is accepted: it comes from a file or a socket.
const FILTER_BYTES_MAX: usize = 1024;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Checks a filter without using it.
pub fn check_filter(text: &str) -> Result<(), TelemetryError> {
    parse(text).map(drop)
}

pub(super) fn parse(text: &str) -> Result<EnvFilter, TelemetryError> {
    let refused = |problem: String| TelemetryError::Filter {
        filter: help::printable(text.as_bytes(), 80),
        problem,
    };
    if text.len() > FILTER_BYTES_MAX {
        let length = text.len();
        return Err(refused(format!(
            "it has {length} bytes; at most {FILTER_BYTES_MAX} are allowed"
        )));
    }
    if text.trim().is_empty() {
        return Err(refused("it is empty".to_owned()));
    }
    // A span filter holds commas inside brackets and always names a level; leave it to the parser.
    if !text.contains('[') {
        for word in text.split(',').map(str::trim) {
            if !word.contains('=') && !LEVELS.contains(&word.to_ascii_lowercase().as_str()) {
                let word_shown = help::printable(word.as_bytes(), 40);
                let meant = help::nearest(word, LEVELS)
                    .map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
                return Err(refused(format!("`{word_shown}` is not a level{meant}")));
            }
        }
    }
    EnvFilter::try_new(text).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_accepted() {
        for good in [
            "info",
            "WARN",
            "oca::serve=debug,info",
            "off",
            "oca[conn{id=1}]=trace",
        ] {
            assert!(check_filter(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_misspelt_level_is_refused_with_the_nearest_one() {
        let message = check_filter("inof").unwrap_err().to_string();
        assert!(message.contains("did you mean `info`"), "{message}");
        for bad in [
            "",
            " ",
            "oca=loud",
            "info,",
            "oca::serve",
            "a=b=c",
            "info,\u{1b}[31m",
        ] {
            let message = check_filter(bad).unwrap_err().to_string();
            assert!(!message.contains('\u{1b}'), "{message:?}");
        }
        assert!(check_filter(&"oca=info,".repeat(1_000)).is_err());
    }
}

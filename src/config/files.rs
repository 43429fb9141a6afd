//! Whether the files that a configuration names can be used by the user who asks.
//!
//! `oca check` calls [`check_files`] after [`super::load`]; the daemon does not, since whoever
//! opens a file says why it cannot. Reads nothing of them into memory.
//!
//! I/O: opens the certificate files.

use super::Loaded;
use super::LoadedControl;
use super::Problem;
use crate::tls::CertificateConfig;
use std::path::Path;

/// A problem for each certificate, key or password file of a box that cannot be used, and for what
/// the kernel of this machine does not have.
pub fn check_files(loaded: &Loaded) -> Vec<Problem> {
    let certificates = &loaded.config.serve.tls.certificates;
    let mut problems = check(loaded, "serve.tls.certificate", certificates);
    problems.extend(neighbours(loaded));
    problems
}

fn neighbours(loaded: &Loaded) -> Vec<Problem> {
    let bgp = loaded.config.bgp.iter();
    let all = bgp.flat_map(|bgp| bgp.neighbours.iter().enumerate());
    let mut problems = Vec::new();
    for (index, neighbour) in all {
        let Some(unusable) = neighbour.unusable() else {
            continue;
        };
        let key = format!("bgp.neighbour[{index}].{}", unusable.key);
        let setting = loaded.settings.iter().find(|setting| setting.key == key);
        if let Some(place) = setting.and_then(|setting| setting.origin.clone()) {
            problems.push(Problem {
                file: place.file,
                line: place.line,
                column: place.column,
                key: format!("bgp.neighbour.{}", unusable.key),
                problem: unusable.problem,
                remedy: unusable.remedy.to_owned(),
            });
        }
    }
    problems
}

/// The same of a control plane.
pub fn check_control_files(loaded: &LoadedControl) -> Vec<Problem> {
    let certificates = &loaded.config.public.tls.certificates;
    check(loaded, "public.certificate", certificates)
}

fn check<C>(loaded: &Loaded<C>, section: &str, certificates: &[CertificateConfig]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, certificate) in certificates.iter().enumerate() {
        for (name, path) in [("chain", &certificate.chain), ("key", &certificate.key)] {
            let key = format!("{section}[{index}].{name}");
            let setting = loaded.settings.iter().find(|setting| setting.key == key);
            let place = setting.and_then(|setting| setting.origin.clone());
            if let (Some(problem), Some(place)) = (unreadable(path), place) {
                problems.push(Problem {
                    file: place.file,
                    line: place.line,
                    column: place.column,
                    key: format!("{section}.{name}"),
                    problem: format!("`{}` {problem}", path.display()),
                    remedy: "put the PEM file there and let the user that runs oca read it; \
                             check as that user or as root"
                        .to_owned(),
                });
            }
        }
    }
    problems
}

/// Looked at before it is opened: opening a pipe would wait.
fn unreadable(path: &Path) -> Option<String> {
    let told = |error: std::io::Error| Some(format!("cannot be read: {error}"));
    match std::fs::metadata(path) {
        Err(error) => told(error),
        Ok(about) if !about.is_file() => Some("is not a file".to_owned()),
        Ok(about) if about.len() == 0 => Some("is empty".to_owned()),
        Ok(_) => std::fs::File::open(path).err().and_then(told),
    }
}

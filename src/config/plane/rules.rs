//! What the values of `control.toml` must mean together.
//!
//! [`super::super::cross`] calls [`check`] when what must be written has been asked for. A rule
//! that needs a value which is wrong by itself says nothing. Never looks at the machine.

use super::super::cross;
use super::super::problem::Report;
use super::super::settings::Settings;
use super::super::value::show_bytes;

const LISTENERS: &[(&str, &str)] = &[
    ("link", "listen"),
    ("public", "listen"),
    ("public", "plain_listen"),
];

pub(super) fn check(settings: &Settings, report: &mut Report) {
    if report.is_complete() {
        cross::certificates(settings, "public", "public.certificate", report);
    }
    link(settings, report);
    cross::addresses(settings, LISTENERS, report);
}

/// Boxes must find an open door and a name in its certificate, and a body room to unfold.
fn link(settings: &Settings, report: &mut Report) {
    let Some(link) = settings.section("link") else {
        return;
    };
    if link.addresses("listen").is_some_and(|list| list.is_empty()) {
        let remedy = "write `listen = [\"[::]:8443\"]`, or leave the key out";
        let at = link.at_or_above("listen");
        report.add(
            at,
            "link.listen",
            "no address for boxes to report to",
            remedy,
        );
    }
    if link.texts("names").is_some_and(|list| list.is_empty()) {
        let problem = "no name for the listener's certificate: no box would trust it";
        let remedy = "write what stands in the boxes' `[control] url`, for example \
                      `names = [\"control.example.net\"]`";
        report.add(link.at_or_above("names"), "link.names", problem, remedy);
    }
    if let (Some(body), Some(unfolded)) = (
        link.number::<u64>("body"),
        link.number::<u64>("body_decompressed"),
    ) && unfolded < body
    {
        let problem = format!(
            "`{}` is less than `body`, which is `{}`",
            show_bytes(unfolded),
            show_bytes(body)
        );
        let remedy = "write at least as much as `body`: bodies grow when they are decompressed";
        let key = "body_decompressed";
        report.add(
            link.at_or_above(key),
            "link.body_decompressed",
            problem,
            remedy,
        );
    }
}

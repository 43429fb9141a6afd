//! After everything: what the box, its log and the kernel say of it.

use crate::stage::Offload;
use crate::stage::Stage;
use crate::stage::TlsStat;
use crate::support::finished;
use std::process::Command;

/// Words of a kernel in trouble.
const TROUBLE: &[&str] = &["WARNING:", "BUG:", "Oops", "Call Trace"];

pub(crate) fn nothing_left(stage: &mut Stage) -> String {
    stage.stop();
    let log = stage.log();
    let panicked = log.lines().find(|line| line.contains("panicked"));
    assert_eq!(panicked, None, "the box's log");
    let kernel = finished(&mut Command::new("dmesg"));
    let kernel = String::from_utf8(kernel.stdout).unwrap();
    let trouble = kernel
        .lines()
        .find(|line| TROUBLE.iter().any(|word| line.contains(word)));
    assert_eq!(trouble, None, "the kernel's log");
    let counted = TlsStat::read();
    assert_eq!((counted.received, counted.errors), (0, 0), "{counted:?}");
    assert_eq!(TlsStat::open(), 0, "connections are left in the kernel");
    stage.serve(Offload::Auto);
    format!("{counted:?}")
}

//! What the tests with real processes share: a real box that serves the built-in title.
//!
//! Used by `#[path = "../support/mod.rs"] mod support;`. Boxes live below a directory of their
//! own, on ports chosen by the kernel, so that tests run side by side; dropping a [`Lab`] kills
//! its box by process id and removes the directory.
//!
//! I/O: starts processes, writes below a temporary directory.

use oca::demo::Addresses;
use oca::demo::Appliance;
use oca::demo::Scratch;
use oca::demo::Settings;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

/// The binary under test.
pub(crate) const OCA: &str = env!("CARGO_BIN_EXE_oca");

/// A box and its directory. Field order is drop order.
#[derive(Debug)]
pub(crate) struct Lab {
    pub appliance: Appliance,
    pub scratch: Scratch,
}

impl Lab {
    /// A box on two disks, prefilled with the built-in title, serving.
    pub(crate) async fn start(name: &str) -> Self {
        let scratch = Scratch::new(name).unwrap();
        let settings = Settings {
            workers: 2,
            disks: 2,
            access_log: true,
            role: oca::demo::Role::Alone,
        };
        let mut appliance = Appliance::new(Path::new(OCA), scratch.path(), settings).unwrap();
        appliance.prefill(&title()).await.unwrap();
        appliance.start().await.unwrap();
        Self { appliance, scratch }
    }

    pub(crate) fn addresses(&self) -> Addresses {
        self.appliance.addresses().unwrap()
    }

    /// The HTTPS URL of a key, by the name in the certificate.
    pub(crate) fn url(&self, key: &str) -> String {
        format!("https://localhost:{}/{key}", self.addresses().https.port())
    }

    pub(crate) fn ca(&self) -> &str {
        self.appliance.authority().ca.to_str().unwrap()
    }
}

/// Where the built-in title is; paths below it are the keys of a [`Lab`].
pub(crate) fn title() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media/title")
}

/// A real peer. A missing one is a failure that names the command which installs it.
pub(crate) fn peer(program: &str, package: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join(program))
        .find(|path| path.is_file());
    let Some(found) = found else {
        panic!("{program} is missing; install it with: apt-get install {package}");
    };
    Command::new(found)
}

/// Runs a peer to its end and shows what it said if it failed.
pub(crate) fn finished(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?} ended with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

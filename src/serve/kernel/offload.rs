//! Which side of the kernel's border seals a connection's records, and why: what the operator wants
//! ([`Offload`]), what this kernel can ([`Verdict`]), what became of each connection ([`Path`]).

use super::stat;
use crate::serve::counters::Counters;
use crate::sys::ktls::Cipher;
use crate::sys::ktls::Version;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// `[serve.tls] tls_offload`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Offload {
    /// The kernel where it can, user space elsewhere. Default.
    #[default]
    Auto,
    /// User space.
    Off,
    /// The kernel, or no large body at all.
    Require,
}

/// What the probe found. One for the process until a reload looks again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why the kernel takes nothing at all; absent where it takes something.
    pub missing: Option<String>,
    pub ciphers: Vec<CipherView>,
    /// A session's key can be changed (Linux 6.14).
    pub rekey: bool,
    /// Network cards may seal straight from the page cache (Linux 5.19).
    pub zero_copy: bool,
}

/// One cipher of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CipherView {
    pub version: &'static str,
    pub cipher: &'static str,
    pub works: bool,
    /// What the kernel said to it.
    pub error: Option<String>,
}

/// Everything that can be asked of the kernel.
pub(super) const ALL: [(Version, Cipher); 6] = [
    (Version::Tls13, Cipher::Aes128Gcm),
    (Version::Tls13, Cipher::Aes256Gcm),
    (Version::Tls13, Cipher::ChaCha20Poly1305),
    (Version::Tls12, Cipher::Aes128Gcm),
    (Version::Tls12, Cipher::Aes256Gcm),
    (Version::Tls12, Cipher::ChaCha20Poly1305),
];

impl Wanted {
    /// Where large responses are sealed.
    pub(in crate::serve) fn path(&self) -> &'static str {
        let works = self.verdict.ciphers.iter().any(|row| row.works);
        match self.word {
            Offload::Auto | Offload::Require if self.verdict.is_complete() => "kernel",
            Offload::Auto | Offload::Require if works => "kernel and user-space",
            Offload::Auto | Offload::Require | Offload::Off => "user-space",
        }
    }
}

/// What the operator wants and what the kernel can, as the connections see it.
#[derive(Clone, Debug, Default)]
pub(in crate::serve) struct Wanted {
    pub(in crate::serve) word: Offload,
    pub(in crate::serve) verdict: Verdict,
}

/// Who seals a connection's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Path {
    Kernel,
    UserSpace(Why),
}

/// Why it is user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Why {
    /// No body was large enough yet.
    Small,
    /// `tls_offload = "off"`.
    Off,
    /// The kernel does not take this cipher, or no TLS at all.
    Kernel,
    /// The viewer had closed its half of the connection, and the kernel takes only whole ones.
    HalfClosed,
    /// Not a socket: a test's stream.
    NoSocket,
    /// The kernel refused this one connection, for want of memory for example.
    Refused,
}

/// Every reason, in the order of the array that counts them.
const WHYS: [Why; 6] = [
    Why::Small,
    Why::Off,
    Why::Kernel,
    Why::HalfClosed,
    Why::NoSocket,
    Why::Refused,
];

/// One worker's connections by path, each counted when its path is settled.
#[derive(Debug, Default)]
pub(in crate::serve) struct Counts {
    kernel: AtomicU64,
    /// By position in [`WHYS`]; the first place, of those not settled, stays empty.
    stayed: [AtomicU64; WHYS.len()],
    lost: AtomicU64,
}

/// The offload in `oca show tls`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TlsOffloadView {
    /// `tls_offload`.
    pub wanted: Offload,
    /// What the kernel can, in a sentence.
    pub verdict: String,
    /// `kernel`, or why not, by version and cipher; empty if the kernel has no TLS.
    pub ciphers: BTreeMap<String, String>,
    /// See [`Verdict::rekey`] and [`Verdict::zero_copy`].
    pub rekey: bool,
    pub zero_copy: bool,
    /// Connections whose records the kernel seals, since the start.
    pub kernel: u64,
    /// Connections that had a large body and stayed in user space, by reason; `small` has not had
    /// one.
    pub user_space: BTreeMap<&'static str, u64>,
    /// Connections closed because the kernel refused a session that was already on its way.
    pub lost: u64,
    /// `/proc/net/tls_stat`: all of this host's, not this program's alone.
    pub tls_stat: BTreeMap<String, u64>,
}

impl Version {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

impl Cipher {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "AES-128-GCM",
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "CHACHA20-POLY1305",
        }
    }
}

impl Verdict {
    /// The kernel was not asked, or cannot be.
    pub fn none(why: &str) -> Self {
        Self {
            missing: Some(why.to_owned()),
            ..Self::default()
        }
    }

    pub(super) fn takes(&self, version: Version, cipher: Cipher) -> bool {
        let (version, cipher) = (version.as_str(), cipher.as_str());
        self.ciphers
            .iter()
            .any(|row| row.works && row.version == version && row.cipher == cipher)
    }

    /// One sentence for the log, and for the refusal of `require`.
    pub(in crate::serve) fn summary(&self) -> String {
        if let Some(missing) = &self.missing {
            return format!("{missing}: user-space TLS");
        }
        let name = |row: &CipherView| format!("{} {}", row.version, row.cipher);
        let lacking: Vec<_> = self.ciphers.iter().filter(|row| !row.works).collect();
        let Some(first) = lacking.first() else {
            return "the kernel seals every cipher".to_owned();
        };
        let names: Vec<_> = lacking.iter().map(|row| name(row)).collect();
        let error = first.error.as_deref().unwrap_or("unknown");
        format!(
            "the kernel does not seal {} ({error}): user-space TLS for these",
            names.join(", ")
        )
    }

    pub(in crate::serve) fn is_complete(&self) -> bool {
        !self.ciphers.is_empty() && self.ciphers.iter().all(|row| row.works)
    }
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Off => "off",
            Self::Kernel => "kernel-cannot",
            Self::HalfClosed => "half-closed",
            Self::NoSocket => "no-socket",
            Self::Refused => "refused",
        }
    }
}

impl Path {
    /// For a [`crate::serve::card::Card`]: never zero, which is a connection without TLS.
    pub(in crate::serve) fn code(self) -> u8 {
        let why = match self {
            Self::Kernel => return 1,
            Self::UserSpace(why) => why,
        };
        let at = WHYS.iter().position(|known| *known == why);
        at.and_then(|at| u8::try_from(at + 2).ok()).unwrap_or(2)
    }

    pub(in crate::serve) fn of_code(code: u8) -> Option<Self> {
        match code {
            0 => None,
            1 => Some(Self::Kernel),
            code => WHYS
                .get(usize::from(code) - 2)
                .map(|why| Self::UserSpace(*why)),
        }
    }

    /// `kernel` or `user-space`: the field of the access log.
    pub(in crate::serve) fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::UserSpace(_) => "user-space",
        }
    }

    /// With its reason, for `oca show connections`.
    pub(in crate::serve) fn told(self) -> String {
        match self {
            Self::Kernel => self.word().to_owned(),
            Self::UserSpace(why) => format!("{} ({})", self.word(), why.as_str()),
        }
    }
}

impl Counts {
    /// Connections that the kernel seals, or has sealed.
    pub(in crate::serve) fn kernel(&self) -> u64 {
        self.kernel.load(Relaxed)
    }

    pub(super) fn handed_over(&self) {
        self.kernel.fetch_add(1, Relaxed);
    }

    pub(super) fn stays(&self, why: Why) {
        if let Some(at) = WHYS.iter().position(|known| *known == why) {
            self.stayed[at].fetch_add(1, Relaxed);
        }
    }

    pub(super) fn lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }
}

fn told(row: &CipherView) -> (String, String) {
    let can = match &row.error {
        None => "kernel".to_owned(),
        Some(error) => format!("user-space ({error})"),
    };
    (format!("{} {}", row.version, row.cipher), can)
}

/// What all workers count, and what the host says.
pub(in crate::serve) fn gather<'a>(
    wanted: &Wanted,
    workers: impl Iterator<Item = &'a Counters>,
) -> TlsOffloadView {
    let mut view = TlsOffloadView {
        wanted: wanted.word,
        verdict: wanted.verdict.summary(),
        ciphers: wanted.verdict.ciphers.iter().map(told).collect(),
        rekey: wanted.verdict.rekey,
        zero_copy: wanted.verdict.zero_copy,
        tls_stat: stat::read(),
        ..TlsOffloadView::default()
    };
    let mut small = 0;
    for counters in workers {
        let counts = &counters.offload;
        let (kernel, lost) = (counts.kernel.load(Relaxed), counts.lost.load(Relaxed));
        view.kernel += kernel;
        view.lost += lost;
        small += counters.handshakes_ok.load(Relaxed);
        small -= (kernel + lost).min(small);
        for (why, count) in WHYS.iter().zip(&counts.stayed) {
            let count = count.load(Relaxed);
            *view.user_space.entry(why.as_str()).or_default() += count;
            small -= count.min(small);
        }
    }
    view.user_space.insert(Why::Small.as_str(), small);
    view
}

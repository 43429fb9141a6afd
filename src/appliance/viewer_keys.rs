//! The keys of viewers' tokens that the control plane delivered: handed to serving at once, kept on
//! the system's disk for the next start.
//!
//! I/O: reads a small file at start, writes it on a blocking task.

use crate::link::message::VIEWER_KEYS_MAX;
use crate::link::message::ViewerKeys;
use crate::lock::lock;
use crate::serve::TokenFeed;
use crate::tls::token;
use crate::tls::token::HostKey;
use crate::tls::token::Keyring;
use crate::units;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

/// In the state directory, mode 0600.
const NAME: &str = "viewer-keys";

/// Where they are, and what was delivered last.
#[derive(Debug)]
pub(super) struct KeyCupboard {
    path: PathBuf,
    feed: TokenFeed,
    /// How long this box serves what it is to delete.
    grace: Duration,
    held: Mutex<Held>,
    /// One write at a time, each of what is held then.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Held {
    keys: Vec<HostKey>,
    lifetime_s: u64,
}

impl KeyCupboard {
    /// Begins with what the last life kept. A file that cannot be believed is left alone until the
    /// control plane delivers again.
    pub(super) fn open(state_dir: &Path, grace: Duration) -> Arc<Self> {
        let feed = TokenFeed::default();
        let path = state_dir.join(NAME);
        let keys = token::load_host(&path).unwrap_or_else(|error| {
            if !error.is_not_found() {
                tracing::warn!(%error, "no kept keys of viewers' tokens: {error}");
            }
            Vec::new()
        });
        feed.deliver(Keyring::new(keys.clone()));
        Arc::new(Self {
            path,
            feed,
            grace,
            held: Mutex::new(Held {
                keys,
                lifetime_s: 0,
            }),
            writing: Mutex::default(),
        })
    }

    /// What serving is given.
    pub(super) fn feed(&self) -> TokenFeed {
        self.feed.clone()
    }

    /// What a reply brought. The same again is nothing.
    pub(super) fn take(self: &Arc<Self>, told: ViewerKeys) {
        let count = told.keys.len();
        if count > VIEWER_KEYS_MAX {
            tracing::error!(
                count,
                "the control plane sent too many viewer keys; none is taken"
            );
            return;
        }
        let mut held = lock(&self.held);
        if held.lifetime_s != told.lifetime_s {
            held.lifetime_s = told.lifetime_s;
            self.compare(Duration::from_secs(told.lifetime_s));
        }
        if held.keys == told.keys {
            return;
        }
        self.feed.deliver(Keyring::new(told.keys.clone()));
        held.keys = told.keys;
        drop(held);
        tracing::info!(keys = count, "keys of viewers' tokens arrived");
        let keeper = Arc::clone(self);
        tokio::task::spawn_blocking(move || keeper.keep());
    }

    /// SAFETY: whoever has a good URL finds what it names.
    fn compare(&self, lifetime: Duration) {
        if lifetime > self.grace {
            let (lifetime, grace) = (
                units::show_duration(lifetime),
                units::show_duration(self.grace),
            );
            tracing::warn!(
                "viewers' URLs are good for {lifetime}, and this box deletes after {grace}: write \
                 `deletion_grace = \"{lifetime}\"` or more in [fill]"
            );
        }
    }

    fn keep(&self) {
        let _one = lock(&self.writing);
        let keys = lock(&self.held).keys.clone();
        if let Err(error) = token::save_host(&self.path, &keys) {
            tracing::error!(
                %error,
                "the keys of viewers' tokens hold until the next start only: {error}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::tls::token::FleetKey;
    use crate::tls::token::KeyId;
    use crate::tls::token::Secret;

    fn keys(byte: u8) -> Vec<HostKey> {
        let key = FleetKey {
            id: KeyId::parse("a1").unwrap(),
            from: 1,
            until: 2_000_000_000,
            secret: Secret::from_bytes([byte; 32]),
        };
        vec![key.host_key("c001-lhr001-ix.oca.example.net").unwrap()]
    }

    fn told(keys: Vec<HostKey>) -> ViewerKeys {
        ViewerKeys {
            lifetime_s: 60,
            keys,
        }
    }

    #[tokio::test]
    async fn what_was_delivered_is_there_at_the_next_start_and_too_much_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let open = || KeyCupboard::open(dir.path(), Duration::ZERO);
        let first = open();
        first.take(told(keys(1)));
        first.take(told(keys(2)));
        first.take(told(vec![keys(3).remove(0); VIEWER_KEYS_MAX + 1]));
        assert_eq!(lock(&first.held).keys, keys(2));
        first.keep();
        assert_eq!(lock(&open().held).keys, keys(2));
        // What still keeps them on another thread would mend the damage that comes now.
        while Arc::strong_count(&first) > 1 {
            clock::sleep(Duration::from_millis(1)).await;
        }
        // Damage is told and nothing is deleted; the next delivery mends it.
        std::fs::write(dir.path().join(NAME), "nonsense\n").unwrap();
        let third = open();
        assert!(lock(&third.held).keys.is_empty());
        third.take(told(keys(2)));
        third.keep();
        assert_eq!(lock(&open().held).keys, keys(2));
    }
}

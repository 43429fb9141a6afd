//! One viewer from accept to close: the handshake if there is one, then the connection.
//!
//! I/O: what its parts do.

use super::admit::Slot;
use super::alarm::Alarm;
use super::card::TlsFacts;
use super::connection::Connection;
use super::counters::Refusal;
use super::counters::add;
use super::handshake;
use super::handshake::HandshakeError;
use super::listener::ViewerStream;
use super::transport::Transport;
use super::worker::Guest;
use super::worker::Worker;
use crate::clock;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

/// One connection from accept to close.
pub(super) async fn host(guest: Guest, stream: Box<dyn ViewerStream>) {
    let worker = Arc::clone(&guest.worker);
    let settings = worker.house.settings.load_full();
    let mut alarm = Alarm::new(clock::now() + settings.limits.handshake_time);
    let (transport, facts) = match (&settings.tls, guest.card.tls) {
        (_, false) => (Transport::Plain(stream), None),
        // `handle` never listens for TLS without certificates.
        (None, true) => return,
        (Some(material), true) => {
            let config = Arc::clone(&material.config);
            drop(settings);
            let address = guest.card.peer.ip();
            // Dropped when the handshake has ended, however it ended.
            let Some(_under_way) = worker.begins_handshake(address) else {
                return;
            };
            match handshake::run(stream, config, &mut alarm).await {
                Ok(tls) => {
                    let (version, cipher) = tls.session.suite();
                    add(&worker.counters.handshakes_ok, 1);
                    worker.counters.suite(version, cipher);
                    (Transport::Tls(tls), Some(TlsFacts { version, cipher }))
                }
                Err(error) => {
                    worker.handshake_failed(&error, guest.card.peer);
                    return;
                }
            }
        }
    };
    let card = Arc::clone(&guest.card);
    Connection::new(worker, transport, card, facts, alarm)
        .run()
        .await;
}

impl Worker {
    /// A place among the handshakes under way: what has not shown that it speaks TLS costs
    /// signatures, and one address gets no more of them at a time than honest viewers need.
    fn begins_handshake(&self, address: IpAddr) -> Option<Slot> {
        let most = self.house.settings.load().limits.handshakes_per_address;
        let place = self.house.handshakes.enter(address, usize::MAX, most);
        if place.is_err() {
            self.counters.refused(Refusal::Handshakes);
        }
        place.ok()
    }

    fn handshake_failed(&self, error: &HandshakeError, peer: SocketAddr) {
        add(&self.counters.handshakes_failed, 1);
        match error {
            HandshakeError::NotTls => self.counters.refused(Refusal::NotTls),
            HandshakeError::Slow => self.counters.refused(Refusal::HandshakeTime),
            HandshakeError::Gone | HandshakeError::Io(_) | HandshakeError::Session(_) => {}
        }
        tracing::debug!(%peer, %error, "no TLS session");
    }
}

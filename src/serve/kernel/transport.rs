//! A session of [`super::opened`] and the socket whose kernel seals what is sent on it.
//!
//! I/O: reads and writes the stream.

use super::opened::Due;
use super::opened::Opened;
use super::opened::OpenedError;
use crate::serve::listener::ViewerStream;
use crate::serve::transport::poll_read;
use crate::tls::record::ALERT;
use crate::tls::record::HANDSHAKE;
use crate::tls::record::KEY_UPDATE;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

pub(in crate::serve) struct KernelTransport {
    pub(in crate::serve) opened: Box<Opened>,
    /// What is written here leaves as application data, sealed.
    pub(in crate::serve) stream: Box<dyn ViewerStream>,
}

impl KernelTransport {
    pub(in crate::serve) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        loop {
            // The answer to a key update leaves whenever there is a turn; a peer that does not take
            // it must not stop us from reading.
            if self.opened.due().is_some()
                && let Poll::Ready(outcome) = self.poll_flush(cx)
            {
                outcome?;
            }
            match self.opened.take_plain(into) {
                0 if self.opened.is_peer_closed() => return Poll::Ready(Ok(0)),
                0 => {}
                count => return Poll::Ready(Ok(count)),
            }
            let Self { opened, stream } = self;
            let mut outcome: Result<(), OpenedError> = Ok(());
            let count = ready!(poll_read(stream, cx, |bytes| outcome = opened.receive(bytes)))?;
            outcome.map_err(io::Error::other)?;
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
        }
    }

    /// Sends the records that are due, other than data.
    pub(in crate::serve) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(due) = self.opened.due() {
            let stream = Pin::new(&mut *self.stream);
            match due {
                Due::Alert(alert) => {
                    ready!(stream.poll_send_record(cx, ALERT, &alert))?;
                    self.opened.alert_sent();
                }
                Due::KeyUpdate => {
                    ready!(stream.poll_send_record(cx, HANDSHAKE, &KEY_UPDATE))?;
                    // The peer expects the next key from here on: no wait, and no way back.
                    let key = self.opened.next_key().map_err(io::Error::other)?;
                    if let Err(error) = self.stream.set_transmit_key(&key) {
                        self.opened.fail();
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// close_notify, and the end of the stream.
    pub(in crate::serve) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.opened.close();
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

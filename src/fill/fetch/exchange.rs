//! One request, and the head of its answer.
//!
//! [`super::stream`] asks. hyper writes the request and parses the head; nothing runs between
//! requests, and the stream goes on in the [`Body`].
//!
//! I/O: writes and reads a connection.

use super::answer::HEAD_BYTES_MAX;
use super::body::Body;
use super::dial;
use super::dial::Io;
use crate::clock;
use crate::fill::Fault;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::http::response;
use hyper_util::rt::TokioIo;
use std::future::Future as _;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

/// Of an answer, at a time: of its head, and of a body that hyper parses.
const READ_BYTES_MAX: usize = 64 << 10;

/// An answer of a sensible service has a dozen.
const HEADERS_MAX: usize = 100;

/// For a connection that failed to tell us why.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_secs(1);

/// hyper's side of a connection: it does what it is polled for, and gives the stream back.
pub(super) struct Driver {
    connection: http1::Connection<TokioIo<Box<dyn Io>>, Empty<Bytes>>,
    /// Without it the connection ends after its answer.
    sender: http1::SendRequest<Empty<Bytes>>,
    ended: Option<hyper::Result<()>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Unanswered {
    /// The connection has ended, and no answer will come on it any more. Else there is one that is
    /// not HTTP, or it is late.
    pub(super) has_ended: bool,
    pub(super) fault: Fault,
}

/// Nothing but the answer may be on its way on `io`; its head must come `within`. Dropped, it ends
/// the connection.
pub(super) async fn exchange(
    io: Box<dyn Io>,
    request: Request<Empty<Bytes>>,
    within: Duration,
) -> Result<(response::Parts, Body), Unanswered> {
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(READ_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let shaken = builder.handshake(TokioIo::new(io)).await;
    let (sender, connection) = shaken.map_err(|error| Unanswered::of(&error))?;
    let mut driver = Driver {
        connection,
        sender,
        ended: None,
    };
    match clock::within(within, driver.answer(request)).await {
        Ok(Some(Ok(response))) => {
            let (head, incoming) = response.into_parts();
            let body = Body::new(&head, incoming, driver);
            Ok((head, body))
        }
        Ok(Some(Err(error))) => Err(driver.last_words(&error).await),
        Ok(None) => Err(Unanswered {
            has_ended: true,
            fault: Fault::Broken("it closed the connection without an answer".to_owned()),
        }),
        Err(_) => Err(Unanswered {
            has_ended: false,
            fault: Fault::Slow(format!("no answer within {within:?}")),
        }),
    }
}

impl Driver {
    /// `None`: the connection has ended, and the request was told nothing.
    async fn answer(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> Option<hyper::Result<Response<Incoming>>> {
        let mut sending = pin!(self.sender.send_request(request));
        poll_fn(|context| {
            self.poll(context);
            let answer = sending.as_mut().poll(context);
            match answer.is_pending() && self.has_ended() {
                true => Poll::Ready(None),
                false => answer.map(Some),
            }
        })
        .await
    }

    /// Does what can be done without waiting.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) {
        if self.ended.is_none()
            && let Poll::Ready(end) = self.connection.poll_without_shutdown(context)
        {
            self.ended = Some(end);
        }
    }

    /// It takes no other request.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The stream, and what was read of it beyond what hyper has given.
    pub(super) fn into_parts(self) -> (Box<dyn Io>, Bytes) {
        let parts = self.connection.into_parts();
        (parts.io.into_inner(), parts.read_buf)
    }

    /// A TLS alert reaches the connection, not always the request.
    async fn last_words(mut self, error: &hyper::Error) -> Unanswered {
        let told = Unanswered::of(error);
        if matches!(told.fault, Fault::Refused(_)) || !told.has_ended {
            return told;
        }
        let ending = poll_fn(|context| {
            self.poll(context);
            match self.has_ended() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        let _ = clock::within(LAST_WORDS_TIME_MAX, ending).await;
        match &self.ended {
            Some(Err(ended)) if matches!(dial::fault(ended), Fault::Refused(_)) => {
                Unanswered::of(ended)
            }
            Some(_) | None => told,
        }
    }
}

impl Unanswered {
    fn of(error: &hyper::Error) -> Self {
        Self {
            has_ended: !error.is_parse(),
            fault: dial::fault(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// What is made of an answer after which the other end hangs up, or not.
    async fn outcome(answer: &[u8], hangs_up: bool) -> (bool, Fault) {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let request = Request::get("/x").header("host", "h").body(Empty::new());
        let asking = exchange(Box::new(near), request.unwrap(), PATIENCE);
        let answering = async {
            let mut asked = [0; 4_096];
            assert!(far.read(&mut asked).await.unwrap() > 0);
            far.write_all(answer).await.unwrap();
            match hangs_up {
                true => drop(far),
                false => std::future::pending().await,
            }
        };
        let asking = async {
            let Unanswered { has_ended, fault } = asking.await.err().unwrap();
            (has_ended, fault)
        };
        let mut answering = pin!(answering);
        let mut asking = pin!(asking);
        tokio::select! {
            outcome = &mut asking => outcome,
            () = &mut answering => asking.await,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_has_hung_up_or_talks_nonsense_or_is_slow() {
        let begun = clock::now();
        for answer in [b"".as_slice(), b"HTTP/1.1 200 OK\r\ncontent-le"] {
            let (has_ended, fault) = outcome(answer, true).await;
            assert!(has_ended && matches!(fault, Fault::Broken(_)), "{fault}");
        }
        let (has_ended, fault) = outcome(b"220 mail.example ESMTP\r\n", false).await;
        assert!(!has_ended && matches!(fault, Fault::Broken(_)), "{fault}");
        assert!(begun.elapsed() < PATIENCE, "nobody was waited for");
        let (has_ended, fault) = outcome(b"HTTP/1.1 200 OK\r\n", false).await;
        assert!(!has_ended && matches!(fault, Fault::Slow(_)), "{fault}");
    }
}

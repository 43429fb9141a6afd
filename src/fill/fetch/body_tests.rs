//! Tests of [`super`], through the exchange that makes it: answers as they may come, over a pipe.

use super::super::dial;
use super::super::exchange::exchange;
use super::super::pool::Heard;
use super::super::pool::listen;
use super::*;
use crate::clock;
use crate::fill::Fault;
use http_body_util::Empty;
use hyper::Request;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::io::DuplexStream;

const PATIENCE: Duration = Duration::from_secs(10);

/// Several times of what hyper reads first.
const LENGTH: usize = 40_000;

fn content() -> Vec<u8> {
    (0..LENGTH).map(|at| (at / 7 % 251) as u8).collect()
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [head.as_bytes(), b"\r\n", body].concat()
}

fn counted() -> Vec<u8> {
    let head = format!("HTTP/1.1 206 Partial Content\r\ncontent-length: {LENGTH}\r\n");
    answer(&head, &content())
}

fn chunked() -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n";
    let mut body = Vec::new();
    for piece in content().chunks(1_000) {
        body.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        body.extend_from_slice(piece);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\nlast: word\r\n\r\n");
    answer(head, &body)
}

/// Both ends of a connection on which everything fits.
fn pipe() -> (Box<dyn Io>, DuplexStream) {
    let (near, far) = tokio::io::duplex(1 << 20);
    (Box::new(near), far)
}

/// Asks on it, and is answered in these pieces.
async fn asked(io: Box<dyn Io>, far: &mut DuplexStream, pieces: &[&[u8]]) -> Body {
    let request = Request::get("/x").header("host", "h").body(Empty::new());
    let exchanged = exchange(io, request.unwrap(), PATIENCE);
    let answering = async {
        let mut request = [0; 4_096];
        let count = far.read(&mut request).await.unwrap();
        assert!(request[..count].starts_with(b"GET /x HTTP/1.1\r\n"));
        assert!(request[..count].ends_with(b"\r\n\r\n"));
        for piece in pieces {
            far.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (exchanged, ()) = tokio::join!(exchanged, answering);
    exchanged.unwrap().1
}

async fn read(body: &mut Body) -> io::Result<Vec<u8>> {
    let mut told = Vec::new();
    let read = clock::within(PATIENCE, body.read_to_end(&mut told));
    read.await.unwrap().map(|_| told)
}

#[tokio::test]
async fn a_body_is_the_same_wherever_its_answer_is_cut_and_its_connection_is_used_again() {
    for whole in [counted(), chunked()] {
        // In the head, at its end, and where hyper's first read and the pieces end.
        let cuts = (1..120).chain((120..whole.len()).step_by(611));
        let (mut io, mut far) = pipe();
        for cut in cuts {
            let (first, second) = whole.split_at(cut);
            let mut body = asked(io, &mut far, &[first, second]).await;
            assert!(read(&mut body).await.unwrap() == content(), "cut at {cut}");
            assert!(body.is_at_end());
            io = body
                .into_io()
                .unwrap_or_else(|| panic!("cut at {cut} of {}", whole.len()));
            assert_eq!(listen(io.as_mut()), Heard::Nothing);
        }
    }
}

#[tokio::test]
async fn a_connection_that_is_to_end_or_says_more_is_not_used_again() {
    let closing =
        format!("HTTP/1.1 200 OK\r\nconnection: upgrade, Close\r\ncontent-length: {LENGTH}\r\n");
    let old = format!("HTTP/1.0 200 OK\r\ncontent-length: {LENGTH}\r\n");
    for head in [closing, old] {
        let (io, mut far) = pipe();
        let mut body = asked(io, &mut far, &[&answer(&head, &content())]).await;
        assert!(read(&mut body).await.unwrap() == content(), "{head}");
        assert!(body.into_io().is_none(), "{head}");
    }
    // In what hyper has read, and beyond it.
    for length in [10, LENGTH] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n");
        let (io, mut far) = pipe();
        let more = [&content()[..length], b"HTTP/1.1 200 OK\r\n"].concat();
        let mut body = asked(io, &mut far, &[&answer(&head, &more)]).await;
        assert!(read(&mut body).await.unwrap() == content()[..length]);
        // What hyper has read with the body is known; what is behind it is heard.
        let heard = body.into_io().map(|mut io| listen(io.as_mut()));
        assert!(matches!(heard, None | Some(Heard::Words)), "{length}");
    }
    let (mut io, far) = pipe();
    assert_eq!(listen(io.as_mut()), Heard::Nothing);
    drop(far);
    assert_eq!(listen(io.as_mut()), Heard::End);
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error_after_what_came() {
    for whole in [counted(), chunked()] {
        for missing in [1, 100, 39_000] {
            let (io, mut far) = pipe();
            let mut body = asked(io, &mut far, &[&whole[..whole.len() - missing]]).await;
            drop(far);
            let mut told = Vec::new();
            // hyper has a word for it; else zero bytes are no end.
            let end = body.read_to_end(&mut told).await;
            assert!(content().starts_with(&told), "{missing}: {end:?}");
            assert!(!body.is_at_end() && body.into_io().is_none());
        }
    }
}

/// Fails once with a reason after so many bytes, and later without one, as TLS does.
struct Breaking {
    inner: DuplexStream,
    left: usize,
    is_told: bool,
}

impl AsyncRead for Breaking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            let problem = match std::mem::replace(&mut self.is_told, true) {
                true => "it was read again",
                false => "an alert",
            };
            return Poll::Ready(Err(io::Error::other(problem)));
        }
        let most = self.left.min(into.remaining());
        let mut part = ReadBuf::new(into.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.inner).poll_read(context, &mut part))?;
        let count = part.filled().len();
        self.left -= count;
        into.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Breaking {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn why_a_connection_failed_is_told_after_what_came_whoever_had_read_it() {
    let whole = counted();
    let head = whole.len() - LENGTH;
    for left in (head..head + 300).chain((head..whole.len()).step_by(997)) {
        let (inner, mut far) = tokio::io::duplex(1 << 20);
        let io = Box::new(Breaking {
            inner,
            left,
            is_told: false,
        });
        let mut body = asked(io, &mut far, &[&whole]).await;
        let mut told = Vec::new();
        let error = body.read_to_end(&mut told).await.unwrap_err();
        assert_eq!(told.len(), left - head);
        let fault = dial::fault(&error);
        assert_eq!(fault, Fault::Broken("an alert".into()), "{left}");
        assert!(body.into_io().is_none());
    }
}

#[tokio::test]
async fn without_a_length_the_end_of_the_connection_is_the_end() {
    let (io, mut far) = pipe();
    let whole = answer("HTTP/1.1 200 OK\r\n", &content());
    let mut body = asked(io, &mut far, &[&whole]).await;
    drop(far);
    assert!(read(&mut body).await.unwrap() == content());
    assert!(body.is_at_end() && body.into_io().is_none());
}

#[tokio::test]
async fn an_answer_without_a_body_is_at_its_end() {
    for head in [
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n",
    ] {
        let (io, mut far) = pipe();
        let mut body = asked(io, &mut far, &[&answer(head, &[])]).await;
        assert!(body.is_at_end(), "{head}");
        assert!(read(&mut body).await.unwrap().is_empty());
        assert!(body.into_io().is_some(), "{head}");
    }
}

//! A stream that gives all it has at each read.
//!
//! rustls gives one record, 16 KiB at most, where several lie in its hands. hyper makes a frame of
//! each read, and each frame wakes the task that hashes and writes; [`super::dial`] puts this
//! between the two.
//!
//! I/O: reads and writes the stream within.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

#[derive(Debug)]
pub(super) struct Drain<S> {
    inner: S,
    /// It came after bytes that were given first.
    failure: Option<io::Error>,
}

impl<S> Drain<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            failure: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Drain<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Err(failure));
        }
        let before = into.filled().len();
        loop {
            let had = into.filled().len();
            let is_first = had == before;
            match Pin::new(&mut self.inner).poll_read(context, into) {
                Poll::Pending if is_first => return Poll::Pending,
                Poll::Ready(Err(failure)) if is_first => return Poll::Ready(Err(failure)),
                Poll::Ready(Err(failure)) => {
                    self.failure = Some(failure);
                    return Poll::Ready(Ok(()));
                }
                // Whoever asked is woken up when there is more, and asks again before that.
                Poll::Pending => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {
                    let is_end = into.filled().len() == had;
                    if is_end || into.remaining() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Drain<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use tokio::io::AsyncReadExt as _;

    /// One at a read, then nothing for now.
    struct Records(VecDeque<io::Result<&'static [u8]>>);

    impl AsyncRead for Records {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.pop_front() {
                Some(record) => Poll::Ready(record.map(|bytes| into.put_slice(bytes))),
                None => Poll::Pending,
            }
        }
    }

    fn drain(records: [io::Result<&'static [u8]>; 3]) -> Drain<Records> {
        Drain::new(Records(records.into()))
    }

    #[tokio::test]
    async fn records_are_given_together_and_what_ends_them_comes_after() {
        let mut buffer = [0; 16];
        let reset = io::ErrorKind::ConnectionReset;
        let mut broken = drain([Ok(b"one"), Ok(b"two"), Err(reset.into())]);
        assert_eq!(broken.read(&mut buffer).await.unwrap(), 6);
        assert_eq!(&buffer[..6], b"onetwo");
        let failure = broken.read(&mut buffer).await.unwrap_err();
        assert_eq!(failure.kind(), reset);

        let mut ended = drain([Ok(b"one"), Ok(b""), Ok(b"")]);
        assert_eq!(ended.read(&mut buffer).await.unwrap(), 3);
        assert_eq!(ended.read(&mut buffer).await.unwrap(), 0);

        let mut open = drain([Ok(b"one"), Ok(b"two"), Ok(b"three")]);
        assert_eq!(open.read(&mut buffer[..6]).await.unwrap(), 6);
        assert_eq!(open.read(&mut buffer).await.unwrap(), 5);
        assert!(futures_util::poll!(std::pin::pin!(open.read(&mut buffer))).is_pending());
    }
}

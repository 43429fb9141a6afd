//! A socket that the runtime polls only while its other end is waited for.
//!
//! A transfer that waits for its turn has a full receive buffer: each segment that comes would wake
//! the thread for nothing, a thousand times a second at the cap of a night. So [`super::meter`]
//! loosens the socket for that time; when the turn is there, so are the bytes, and they are read
//! without asking anybody. Only a read that finds none has the socket polled again.
//!
//! I/O: reads and writes a socket.

use std::io;
use std::io::IoSlice;
use std::io::Read;
use std::net;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

pub(super) struct Line {
    state: State,
    /// Its waker is known to the runtime alone.
    is_write_waiting: bool,
}

enum State {
    Polled(TcpStream),
    /// Non-blocking all the same.
    Loose(net::TcpStream),
    /// The runtime could not take it, or let it go.
    Lost,
}

impl Line {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            state: State::Polled(stream),
            is_write_waiting: false,
        }
    }

    /// What comes from here on wakes nobody, until a read or a write finds the socket not ready.
    pub(super) fn loosen(&mut self) {
        if self.is_write_waiting {
            return;
        }
        self.state = match self.take() {
            State::Polled(stream) => stream.into_std().map_or(State::Lost, State::Loose),
            other => other,
        };
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let State::Loose(stream) = &mut self.state {
            match stream.read(into.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome.map(|count| into.advance(count))),
            }
        }
        self.polled()?.poll_read(context, into)
    }

    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.polled()?.poll_write_vectored(context, slices);
        self.is_write_waiting = written.is_pending();
        written
    }

    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.polled()?.poll_shutdown(context)
    }

    pub(super) fn as_fd(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.state {
            State::Polled(stream) => Ok(stream.as_fd()),
            State::Loose(stream) => Ok(stream.as_fd()),
            State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn take(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Lost)
    }

    fn polled(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.state = match self.take() {
            State::Loose(stream) => State::Polled(TcpStream::from_std(stream)?),
            other => other,
        };
        match &mut self.state {
            State::Polled(stream) => Ok(Pin::new(stream)),
            State::Loose(_) | State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::future::poll_fn;
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Duration;
    use tokio::runtime::Handle;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A line and its other end, which blocks.
    fn line() -> (Line, net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (other, _) = listener.accept().unwrap();
        (Line::new(TcpStream::from_std(stream).unwrap()), other)
    }

    async fn read(line: &mut Line, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; most];
        let count = clock::within(
            PATIENCE,
            poll_fn(|context| {
                let mut into = ReadBuf::new(&mut bytes);
                let read = line.poll_read(context, &mut into);
                read.map_ok(|()| into.filled().len())
            }),
        );
        let count = count.await.expect("nobody woke the reader")?;
        bytes.truncate(count);
        Ok(bytes)
    }

    #[tokio::test]
    async fn bytes_are_read_whether_they_come_before_or_after_the_turn() {
        let (mut line, mut other) = line();
        for late in [false, true, true, false] {
            line.loosen();
            let sender = std::thread::spawn(move || {
                if late {
                    clock::block_for(Duration::from_millis(50));
                }
                other.write_all(b"segment").unwrap();
                other
            });
            if !late {
                clock::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(read(&mut line, 64).await.unwrap(), b"segment");
            other = sender.join().unwrap();
        }
        line.loosen();
        drop(other);
        assert_eq!(
            read(&mut line, 64).await.unwrap(),
            b"",
            "it ended meanwhile"
        );
    }

    #[tokio::test]
    async fn what_comes_while_a_turn_is_waited_for_wakes_nobody() {
        const SEGMENTS: u64 = 50;
        let parks = || Handle::current().metrics().worker_park_count(0);
        let (mut line, mut other) = line();
        for is_loose in [false, true] {
            // The poller has seen the socket once.
            other.write_all(b"first").unwrap();
            assert_eq!(read(&mut line, 64).await.unwrap(), b"first");
            if is_loose {
                line.loosen();
            }
            let before = parks();
            let sender = std::thread::spawn(move || {
                for _ in 0..SEGMENTS {
                    clock::block_for(Duration::from_millis(4));
                    other.write_all(b"1").unwrap();
                }
                other
            });
            clock::sleep(Duration::from_millis(4 * SEGMENTS + 100)).await;
            let woken = parks() - before;
            assert_eq!(woken < SEGMENTS / 5, is_loose, "woken {woken} times");
            other = sender.join().unwrap();
            let mut held = 0;
            while held < SEGMENTS {
                held += read(&mut line, 64).await.unwrap().len() as u64;
            }
        }
    }

    #[tokio::test]
    async fn a_write_that_waits_is_woken_although_its_reader_has_no_turn() {
        let (mut line, mut other) = line();
        let piece = vec![7; 64 << 10];
        let mut sent = 0;
        let receiver = loop {
            let slices = [IoSlice::new(&piece)];
            let write = poll_fn(|context| Poll::Ready(line.poll_write(context, &slices)));
            match write.await {
                Poll::Ready(count) => sent += count.unwrap(),
                Poll::Pending => {
                    break std::thread::spawn(move || {
                        clock::block_for(Duration::from_millis(50));
                        let mut piece = vec![0; 64 << 10];
                        let mut held = 0;
                        while held < sent {
                            held += other.read(&mut piece).unwrap();
                        }
                        other
                    });
                }
            }
        };
        line.loosen();
        let slices = [IoSlice::new(&piece)];
        let mut looks = 0;
        let write = poll_fn(|context| {
            looks += 1;
            match looks {
                // As a connection's task does: what waits is polled when somebody woke it.
                1 => line
                    .poll_write(context, &slices)
                    .map(|written| written.map(|_| ())),
                _ => Poll::Ready(Ok(())),
            }
        });
        clock::within(PATIENCE, write)
            .await
            .expect("nobody woke the writer")
            .unwrap();
        receiver.join().unwrap();
    }
}

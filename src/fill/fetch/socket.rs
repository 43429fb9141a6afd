//! A socket that is registered with the runtime's poller only while its other end is waited for.
//!
//! While a transfer waits for its turn its receive buffer fills up, and each segment would wake the
//! thread for nothing, a thousand times a second at the cap of a night. So [`super::meter`]
//! deregisters the socket for that time. When the turn is there the bytes usually are, too, and are
//! read without asking anybody; only a read that finds none has the socket registered again.
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

pub(super) struct Socket {
    state: State,
    /// A write waits; the runtime holds its waker, and would drop it with the registration.
    is_write_waiting: bool,
}

enum State {
    Registered(TcpStream),
    /// Non-blocking all the same.
    Deregistered(net::TcpStream),
    /// The runtime refused to take it or to give it back; every later call fails.
    Lost,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            state: State::Registered(stream),
            is_write_waiting: false,
        }
    }

    /// What comes from here on wakes nobody, until a read finds nothing or something is written.
    /// Not while a write waits: nobody would wake it.
    pub(super) fn deregister(&mut self) {
        if self.is_write_waiting {
            return;
        }
        self.state = match self.take() {
            State::Registered(stream) => stream.into_std().map_or(State::Lost, State::Deregistered),
            same @ (State::Deregistered(_) | State::Lost) => same,
        };
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let State::Deregistered(stream) = &mut self.state {
            match stream.read(into.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome.map(|count| into.advance(count))),
            }
        }
        self.registered()?.poll_read(context, into)
    }

    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.registered()?.poll_write_vectored(context, slices);
        self.is_write_waiting = written.is_pending();
        written
    }

    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.registered()?.poll_shutdown(context)
    }

    pub(super) fn as_fd(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.state {
            State::Registered(stream) => Ok(stream.as_fd()),
            State::Deregistered(stream) => Ok(stream.as_fd()),
            State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn take(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Lost)
    }

    /// Called inside a runtime.
    fn registered(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.state = match self.take() {
            State::Deregistered(stream) => State::Registered(TcpStream::from_std(stream)?),
            same @ (State::Registered(_) | State::Lost) => same,
        };
        match &mut self.state {
            State::Registered(stream) => Ok(Pin::new(stream)),
            State::Deregistered(_) | State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::meter::Meter;
    use super::super::meter::Metered;
    use super::*;
    use crate::clock;
    use std::fs;
    use std::future::Future;
    use std::future::poll_fn;
    use std::io::Write;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::io::AsyncReadExt as _;

    const PATIENCE: Duration = Duration::from_secs(10);
    const LATE: Duration = Duration::from_millis(50);

    /// A socket and its other end, which blocks.
    fn pair() -> (Socket, net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (other, _) = listener.accept().unwrap();
        (Socket::new(TcpStream::from_std(stream).unwrap()), other)
    }

    /// Is it in any poller of this process? As the kernel tells (proc(5), `fdinfo` of epoll).
    fn is_registered(socket: &impl AsRawFd) -> bool {
        let own = socket.as_raw_fd().to_string();
        let files = fs::read_dir("/proc/self/fdinfo").unwrap();
        let told = files.filter_map(|file| fs::read_to_string(file.unwrap().path()).ok());
        told.into_iter().any(|told| {
            let targets = told.lines().filter_map(|line| line.strip_prefix("tfd:"));
            let mut numbers = targets.filter_map(|target| target.split_whitespace().next());
            numbers.any(|number| number == own)
        })
    }

    /// A timer polls what it waits for once more when it goes off: being late is being lost.
    async fn woken<T>(work: impl Future<Output = T>) -> T {
        let begun = clock::now();
        let outcome = clock::within(PATIENCE, work).await;
        assert!(clock::now() - begun < PATIENCE, "nobody woke it");
        outcome.unwrap()
    }

    async fn read(socket: &mut Socket) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 64];
        let count = woken(poll_fn(|context| {
            let mut into = ReadBuf::new(&mut bytes);
            let read = socket.poll_read(context, &mut into);
            read.map_ok(|()| into.filled().len())
        }));
        let count = count.await?;
        bytes.truncate(count);
        Ok(bytes)
    }

    #[tokio::test]
    async fn bytes_are_read_whether_they_come_before_or_after_the_turn() {
        let (mut socket, mut other) = pair();
        for is_late in [false, true, true, false] {
            socket.deregister();
            assert!(!is_registered(&socket.as_fd().unwrap()));
            if is_late {
                let mut bytes = [0; 64];
                let early = poll_fn(|context| {
                    let mut into = ReadBuf::new(&mut bytes);
                    Poll::Ready(socket.poll_read(context, &mut into))
                });
                assert!(early.await.is_pending());
            }
            // It is only where the bytes are waited for.
            assert_eq!(is_registered(&socket.as_fd().unwrap()), is_late);
            let sender = std::thread::spawn(move || {
                if is_late {
                    clock::block_for(LATE);
                }
                other.write_all(b"segment").unwrap();
                other
            });
            if !is_late {
                other = sender.join().unwrap();
                assert_eq!(read(&mut socket).await.unwrap(), b"segment");
                assert!(!is_registered(&socket.as_fd().unwrap()));
                continue;
            }
            assert_eq!(read(&mut socket).await.unwrap(), b"segment");
            other = sender.join().unwrap();
        }
        socket.deregister();
        drop(other);
        assert_eq!(read(&mut socket).await.unwrap(), b"", "it ended meanwhile");
    }

    #[tokio::test]
    async fn whoever_has_no_allowance_leaves_the_poller_and_reads_when_there_is_one() {
        let (socket, mut other) = pair();
        let State::Registered(stream) = socket.state else {
            panic!("registered from the beginning");
        };
        let (fd, meter) = (stream.as_raw_fd(), Arc::new(Meter::default()));
        let mut metered = Metered::new(stream, Arc::clone(&meter));
        assert!(is_registered(&fd));
        let mut bytes = [0; 64];
        let read = poll_fn(|context| {
            let mut into = ReadBuf::new(&mut bytes);
            Poll::Ready(Pin::new(&mut metered).poll_read(context, &mut into))
        });
        assert!(read.await.is_pending());
        assert!(!is_registered(&fd));
        other.write_all(b"segment").unwrap();
        meter.allow(3);
        assert_eq!(woken(metered.read(&mut bytes)).await.unwrap(), 3);
        assert_eq!(&bytes[..3], b"seg");
    }

    #[tokio::test]
    async fn a_write_that_waits_is_woken_although_its_reader_has_no_turn() {
        let (mut socket, mut other) = pair();
        let piece = vec![7; 64 << 10];
        let mut sent = 0;
        let mut receiver = None;
        let outcome = woken(poll_fn(|context| {
            // Who was woken for the write that waits has done; it is not polled again until then.
            while receiver.is_none() {
                match socket.poll_write(context, &[IoSlice::new(&piece)]) {
                    Poll::Ready(count) => sent += count.unwrap(),
                    Poll::Pending => {
                        socket.deregister();
                        let mut other = other.try_clone().unwrap();
                        receiver = Some(std::thread::spawn(move || {
                            clock::block_for(LATE);
                            let (mut piece, mut held) = (vec![0; 64 << 10], 0);
                            while held < sent {
                                held += other.read(&mut piece).unwrap();
                            }
                        }));
                        return Poll::Pending;
                    }
                }
            }
            Poll::Ready(())
        }));
        outcome.await;
        receiver.unwrap().join().unwrap();
        other.write_all(b"answer").unwrap();
        assert_eq!(read(&mut socket).await.unwrap(), b"answer");
    }
}

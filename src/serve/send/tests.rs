//! What a response does with errors, and with bytes that do not stay in memory.

use super::*;
use crate::object::Digest;
use crate::serve::admit;
use crate::serve::tests_support::Files;
use crate::store::CHUNK_BYTES;
use crate::store::Fills;
use crate::sys::page_cache;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

/// A socket that takes a little at a time, and whose `sendfile` may fail.
#[derive(Default)]
struct Socket {
    step: usize,
    fails: Option<i32>,
    takes_files: bool,
    got: Arc<std::sync::Mutex<Vec<u8>>>,
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = bytes.len().min(self.step);
        crate::lock::lock(&self.got).extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl ViewerStream for Socket {
    fn poll_send_file(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &File,
        _: u64,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        if self.takes_files {
            return Poll::Ready(Ok(length));
        }
        let code = self.fails.expect("the pages are not in memory");
        Poll::Ready(Err(io::Error::from_raw_os_error(code)))
    }
}

fn object(file: File, length: u64) -> Arc<ObjectFile> {
    Arc::new(ObjectFile {
        file,
        length,
        digest: Digest::of(b"an object"),
        volume: 0,
    })
}

async fn sent(socket: Socket, pages: Pages<'_>, object: &ObjectFile) -> Sent {
    let heart = Heartbeat::new("test", clock::now());
    let mut body = Body {
        object,
        part: Part {
            first: 0,
            last: object.length - 1,
        },
        heart: &heart,
        pages,
    };
    let patience = Patience {
        time: Duration::from_secs(20),
        bytes: 1,
    };
    let mut transport = Transport::Plain(Box::new(socket));
    let mut alarm = Alarm::new(clock::now());
    let now = clock::now();
    send(
        &mut transport,
        &mut alarm,
        patience,
        b"",
        Some(&mut body),
        Begun::default(),
        now,
    )
    .await
}

/// `sendfile` says `code`, of a file that can be read or not.
async fn failing(file: File, code: i32) -> Cut {
    let object = object(file, 100);
    let part = Part { first: 0, last: 99 };
    let pages = Pages::in_memory(&object, part, clock::now());
    let socket = Socket {
        fails: Some(code),
        ..Socket::default()
    };
    sent(socket, pages, &object).await.outcome.unwrap_err()
}

#[tokio::test]
async fn what_sendfile_says_of_the_medium_counts_only_if_the_file_says_it_too() {
    let good = || {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 100]).unwrap();
        file
    };
    for code in [libc::EBADMSG, libc::EIO] {
        let cut = failing(good(), code).await;
        assert!(matches!(cut, Cut::Host(_)), "{code}: {cut:?}");
        // Nothing is at the first address of any process: reading it is EIO.
        let cut = failing(File::open("/proc/self/mem").unwrap(), code).await;
        assert!(matches!(cut, Cut::Read(_)), "{code}: {cut:?}");
        // The file is shorter than its object.
        let cut = failing(tempfile::tempfile().unwrap(), code).await;
        assert!(matches!(cut, Cut::Read(_)), "{code}: {cut:?}");
    }
    assert!(matches!(failing(good(), libc::EPIPE).await, Cut::Peer));
}

#[tokio::test]
async fn bytes_that_do_not_stay_in_memory_are_read_once_however_slowly_they_are_taken() {
    let bytes: Vec<u8> = (0..CHUNK_BYTES).map(|n| (n / 7).to_le_bytes()[0]).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    file.sync_all().unwrap();
    page_cache::no_readahead(&file).unwrap();
    let object = object(file, CHUNK_BYTES);
    page_cache::drop_cached(&object.file, 0, 0).unwrap();
    let fills = Fills::forgetful();
    let content = Forgetful(Files::new(&[]), fills.clone());
    let last = CHUNK_BYTES - 1;
    let part = Part { first: 0, last };
    let mut pages = Pages::new(&content, &object, part, false, clock::now());
    pages.read_for(admit::household("192.0.2.1".parse().unwrap()));
    let socket = Socket {
        step: 10_000,
        ..Socket::default()
    };
    let got = Arc::clone(&socket.got);
    let sent = sent(socket, pages, &object).await;
    assert!(sent.outcome.is_ok(), "{sent:?}");
    assert_eq!(sent.body, CHUNK_BYTES);
    assert!(*crate::lock::lock(&got) == bytes);
    assert_eq!(fills.view().copies, 4, "128 KiB at a time");
}

#[tokio::test]
async fn of_a_disk_that_may_hang_nothing_is_sent_from_the_file() {
    let bytes: Vec<u8> = (0..CHUNK_BYTES + 100)
        .map(|n| (n / 3).to_le_bytes()[0])
        .collect();
    // Just written, so that its pages are there.
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let object = object(file, CHUNK_BYTES + 100);
    let fills = Fills::forgetful();
    fills.set_in_doubt(true);
    let content = Forgetful(Files::new(&[]), fills.clone());
    let last = CHUNK_BYTES + 99;
    let part = Part { first: 0, last };
    let mut pages = Pages::new(&content, &object, part, false, clock::now());
    assert!(!pages.is_there(), "it is not answered at once");
    // Its `sendfile` panics.
    let socket = Socket {
        step: 30_000,
        ..Socket::default()
    };
    let got = Arc::clone(&socket.got);
    let sent = sent(socket, pages, &object).await;
    assert!(sent.outcome.is_ok(), "{sent:?}");
    assert!(*crate::lock::lock(&got) == bytes);
    assert_eq!(fills.view().copies, 0, "and its thread is not asked");
}

#[tokio::test(start_paused = true)]
async fn a_look_that_takes_long_is_sent_from_all_the_same_and_an_old_one_is_not() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[7; 3_000]).unwrap();
    let object = object(file, 3_000);
    let content = Forgetful(Files::new(&[]), Fills::forgetful());
    let (heart, long) = (
        Heartbeat::new("test", clock::now()),
        Duration::from_millis(100),
    );
    let part = Part {
        first: 0,
        last: 2_999,
    };
    let pages = Pages::new(&content, &object, part, false, clock::now());
    let mut body = Body {
        object: &object,
        part,
        heart: &heart,
        pages,
    };
    let mut alarm = Alarm::new(clock::now());
    let mut progress = Progress {
        alarm: &mut alarm,
        patience: Patience {
            time: Duration::from_secs(20),
            bytes: 1,
        },
        since: clock::now(),
        moved: 0,
        waiting: None,
        turn: 0,
        steps: 0,
        now: None,
    };
    let mut stream: Box<dyn ViewerStream> = Box::new(Socket {
        takes_files: true,
        ..Socket::default()
    });
    assert_eq!(body.pages.look(0), Some(3_000));
    tokio::time::advance(long).await;
    let count = send_some(&mut stream, &mut progress, &body, 0, 1_000).await;
    assert_eq!(count.unwrap(), 1_000);
    assert_eq!(body.pages.look(1_000), Some(2_000), "by the same look");
    let count = send_some(&mut stream, &mut progress, &body, 1_000, 2_000).await;
    assert_eq!(count.unwrap(), 0, "which is too old by now");
}

/// A file system that cannot tell what is in memory: a read may wait for the disk.
#[tokio::test]
async fn of_a_disk_that_may_hang_nothing_is_read_on_the_worker_where_the_kernel_cannot_tell() {
    let file = File::open("/proc/version").unwrap();
    let mut room = [0; 20];
    let error = page_cache::read_now(&file, &mut room, 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported, "procfs can tell");
    let object = object(file, 20);
    let part = Part { first: 0, last: 19 };
    let fills = Fills::forgetful();
    let content = Forgetful(Files::new(&[]), fills.clone());
    let mut pages = Pages::new(&content, &object, part, false, clock::now());
    let heart = Heartbeat::new("test", clock::now());
    let mut read = |room: &mut [u8]| {
        // Its pages were there a moment ago.
        crate::serve::pages::note_sent(&object, part, clock::now());
        pages.read_now(room, 0, &heart).unwrap()
    };
    assert_eq!(read(&mut room), Some(20));
    assert!(room.starts_with(b"Linux version"));
    fills.set_in_doubt(true);
    assert_eq!(read(&mut room), None);
    // Its `sendfile` panics.
    let socket = Socket {
        step: 7,
        ..Socket::default()
    };
    let got = Arc::clone(&socket.got);
    let sent = sent(socket, pages, &object).await;
    assert!(sent.outcome.is_ok(), "{sent:?}");
    assert_eq!(crate::lock::lock(&got)[..], room);
    assert_eq!(fills.view().copies, 1, "its own thread reads it");
}

/// Content on a disk whose pages are gone as soon as they have come.
struct Forgetful(Files, Fills);

impl crate::serve::Content for Forgetful {
    fn find(&self, key: &str) -> crate::store::Finding {
        self.0.find(key)
    }

    fn open(&self, digest: Digest) -> crate::serve::Opening<'_> {
        self.0.open(digest)
    }

    fn read_failed(&self, object: &ObjectFile, error: &io::Error) {
        self.0.read_failed(object, error);
    }

    fn fills(&self, _: &ObjectFile) -> Option<&Fills> {
        Some(&self.1)
    }
}

#[test]
fn only_errors_of_the_medium_are_the_disks_fault() {
    let cut = |code| failed(io::Error::from_raw_os_error(code));
    for code in [libc::EIO, libc::EREMOTEIO, libc::EUCLEAN] {
        assert!(matches!(cut(code), Cut::Read(_)), "{code}");
    }
    for code in [libc::EPIPE, libc::ECONNRESET, libc::ETIMEDOUT] {
        assert!(matches!(cut(code), Cut::Peer), "{code}");
    }
    for code in [libc::ENOBUFS, libc::ENOMEM, libc::EINVAL] {
        assert!(matches!(cut(code), Cut::Host(_)), "{code}");
    }
}

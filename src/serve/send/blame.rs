//! Whose fault an error of a response is: the viewer's, the host's, or the disk's.
//!
//! I/O: [`judged`] waits for the disk's thread.

use super::Body;
use super::Cut;
use super::Progress;
use crate::store;
use std::io;

/// `sendfile` blames the medium. Older kernels say the same (`EBADMSG`) where the peer of a socket
/// that seals has left, so the file is asked first: objects and disks are lost by this word.
pub(super) async fn judged(
    progress: &mut Progress<'_>,
    body: &Body<'_>,
    at: u64,
    error: io::Error,
) -> Cut {
    let again = progress.for_disk(Box::pin(body.pages.read_again(at, body.heart)));
    match again.await {
        Ok(_) => Cut::Host(error),
        Err(cut) => cut,
    }
}

pub(super) fn shorter(at: u64) -> io::Error {
    let text = format!("the file ends at or before byte {at}, short of its object's length");
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

/// `sendfile` reports trouble of the socket, of the host and of the file through one number. Only
/// the medium's is told to the store: a viewer or a host short of memory must not cost a disk.
pub(in crate::serve) fn failed(error: io::Error) -> Cut {
    if store::is_medium_error(&error) {
        Cut::Read(error)
    } else if is_peer(&error) {
        Cut::Peer
    } else {
        Cut::Host(error)
    }
}

/// A read on the disk's thread failed.
pub(super) fn unread(error: io::Error) -> Cut {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        Cut::Read(error)
    } else {
        failed(error)
    }
}

fn is_peer(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::BrokenPipe
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::WriteZero
    )
}

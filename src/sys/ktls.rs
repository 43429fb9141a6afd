//! Kernel TLS, transmit side: the kernel seals what a TCP socket sends, so that `sendfile(2)` works
//! under TLS. Receiving is never given to it.
//!
//! `serve::kernel` calls it after the handshake. Keys are wiped from every structure built here.
//!
//! I/O: system calls on sockets that do not block.

use super::socket_option;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpTlsTx;
use nix::sys::socket::sockopt::TcpUlp;
use nix::sys::socket::sockopt::TlsCryptoInfo;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

/// Versions of TLS that the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Tls12,
    Tls13,
}

/// Ciphers that the kernel and this program's TLS library share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

const KEY_BYTES_MAX: usize = 32;

/// RFC 8446 section 5.3: every cipher here has a nonce of 96 bits.
pub const IV_BYTES: usize = 12;

/// What the kernel must know to go on where a TLS library stopped. Wiped when it is dropped.
pub struct TransmitKey {
    version: Version,
    cipher: Cipher,
    key: [u8; KEY_BYTES_MAX],
    iv: [u8; IV_BYTES],
    /// Of the next record.
    sequence: u64,
}

impl std::fmt::Debug for TransmitKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransmitKey")
            .field("version", &self.version)
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}

impl Drop for TransmitKey {
    fn drop(&mut self) {
        wipe(&mut self.key);
        wipe(&mut self.iv);
    }
}

impl Version {
    fn number(self) -> u16 {
        match self {
            Self::Tls12 => libc::TLS_1_2_VERSION,
            Self::Tls13 => libc::TLS_1_3_VERSION,
        }
    }
}

impl Cipher {
    fn number(self) -> u16 {
        match self {
            Self::Aes128Gcm => libc::TLS_CIPHER_AES_GCM_128,
            Self::Aes256Gcm => libc::TLS_CIPHER_AES_GCM_256,
            Self::ChaCha20Poly1305 => libc::TLS_CIPHER_CHACHA20_POLY1305,
        }
    }

    pub fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => KEY_BYTES_MAX,
        }
    }
}

impl TransmitKey {
    /// `None` if a length is not the cipher's.
    pub fn new(
        version: Version,
        cipher: Cipher,
        key: &[u8],
        iv: &[u8],
        sequence: u64,
    ) -> Option<Self> {
        let iv = iv.try_into().ok()?;
        if key.len() != cipher.key_bytes() {
            return None;
        }
        let mut room = [0; KEY_BYTES_MAX];
        room[..key.len()].copy_from_slice(key);
        let made = Self {
            version,
            cipher,
            key: room,
            iv,
            sequence,
        };
        wipe(&mut room);
        Some(made)
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn cipher(&self) -> Cipher {
        self.cipher
    }
}

/// The kernel's form of a key. The receiver wipes it with [`wipe_info`].
pub fn crypto_info(key: &TransmitKey) -> TlsCryptoInfo {
    let info = libc::tls_crypto_info {
        version: key.version.number(),
        cipher_type: key.cipher.number(),
    };
    let rec_seq = key.sequence.to_be_bytes();
    let (salt, _) = split(&key.iv);
    let iv = gcm_iv(key);
    match key.cipher {
        Cipher::Aes128Gcm => {
            let mut made = libc::tls12_crypto_info_aes_gcm_128 {
                info,
                iv,
                key: [0; 16],
                salt,
                rec_seq,
            };
            made.key.copy_from_slice(&key.key[..16]);
            TlsCryptoInfo::Aes128Gcm(made)
        }
        Cipher::Aes256Gcm => TlsCryptoInfo::Aes256Gcm(libc::tls12_crypto_info_aes_gcm_256 {
            info,
            iv,
            key: key.key,
            salt,
            rec_seq,
        }),
        Cipher::ChaCha20Poly1305 => {
            TlsCryptoInfo::Chacha20Poly1305(libc::tls12_crypto_info_chacha20_poly1305 {
                info,
                iv: key.iv,
                key: key.key,
                salt: [],
                rec_seq,
            })
        }
    }
}

/// The eight bytes beside the salt.
///
/// TLS 1.3: the rest of the IV, to which the kernel adds the sequence number. TLS 1.2: the explicit
/// nonce of the next record, which the kernel then counts up by one a record. The library's own
/// were its starting point xor 0, 1, 2 …; counting up from one of those could meet another, and a
/// nonce used twice gives the key away. So this half begins with the starting point's highest bit
/// turned over and its lower half at zero: no 2^32 records on either side can meet.
fn gcm_iv(key: &TransmitKey) -> [u8; 8] {
    let (_, rest) = split(&key.iv);
    match key.version {
        Version::Tls13 => rest,
        Version::Tls12 => ((u64::from_be_bytes(rest) ^ (1 << 63)) & (u64::MAX << 32)).to_be_bytes(),
    }
}

fn split(iv: &[u8; IV_BYTES]) -> ([u8; 4], [u8; 8]) {
    let [a, b, c, d, rest @ ..] = *iv;
    ([a, b, c, d], rest)
}

/// Attaches the kernel's TLS to a connected socket, which goes on as it was until a key is set.
///
/// `ENOENT`: the kernel has no module `tls`. `ENOTCONN`: the peer has closed its half.
pub fn attach(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(setsockopt(&socket, TcpUlp::default(), b"tls")?)
}

/// From here on the kernel seals what is sent. A second key on one socket needs TLS 1.3 and
/// Linux 6.14; older ones say `EBUSY`.
pub fn set_transmit_key(socket: BorrowedFd<'_>, key: &TransmitKey) -> io::Result<()> {
    let mut info = crypto_info(key);
    let outcome = setsockopt(&socket, TcpTlsTx, &info);
    wipe_info(&mut info);
    Ok(outcome?)
}

/// Lets a network card seal straight from the page cache (Linux 5.19), which is right for files
/// that never change. Without such a card it does nothing.
pub fn set_zero_copy(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the length of the borrow, and the kernel reads `length`
    // bytes of a live integer.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_TLS,
            libc::TLS_TX_ZEROCOPY_RO,
            (&raw const on).cast(),
            length,
        )
    };
    nix::errno::Errno::result(outcome)?;
    Ok(())
}

/// Whether the kernel says that it seals with this version and cipher.
pub fn is_sealed_with(
    socket: BorrowedFd<'_>,
    version: Version,
    cipher: Cipher,
) -> io::Result<bool> {
    let known = (version.number(), cipher.number());
    Ok(transmit_info(socket)? == known)
}

fn transmit_info(socket: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    // The short form, `tls_crypto_info` of linux/tls.h: two numbers, and no key.
    let mut info = [0_u8; 4];
    socket_option::read(socket, libc::SOL_TLS, libc::TLS_TX, &mut info)?;
    let [version, kind] = [[info[0], info[1]], [info[2], info[3]]].map(u16::from_ne_bytes);
    Ok((version, kind))
}

/// Room for one control message of one byte.
#[repr(C, align(8))]
struct ControlRoom([u8; CONTROL_BYTES]);

/// `CMSG_SPACE(1)`: a header of 16 bytes and eight for the byte; checked by a test.
const CONTROL_BYTES: usize = 24;

/// Sends one record of another type than application data: an alert, a handshake message. All of
/// it or nothing.
pub fn send_record(socket: BorrowedFd<'_>, kind: u8, body: &[u8]) -> io::Result<usize> {
    let mut room = ControlRoom([0; CONTROL_BYTES]);
    let mut part = libc::iovec {
        iov_base: body.as_ptr().cast_mut().cast(),
        iov_len: body.len(),
    };
    // SAFETY: `msghdr` is plain integers and pointers, for which zero is a valid value. `room` is
    // large enough and aligned for one header with one byte of data, so that `CMSG_FIRSTHDR` gives
    // a pointer into it, which nothing else aliases. `sendmsg` reads from `part`, `body` and
    // `room`, all of which live until it returns, and does not keep them; the descriptor is open
    // for the length of the borrow.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = room.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_BYTES;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        (*header).cmsg_level = libc::SOL_TLS;
        (*header).cmsg_type = libc::TLS_SET_RECORD_TYPE;
        (*header).cmsg_len = libc::CMSG_LEN(1) as usize;
        *libc::CMSG_DATA(header) = kind;
        libc::sendmsg(
            socket.as_raw_fd(),
            &raw const message,
            libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Overwrites key bytes in a way that no optimisation removes.
fn wipe(bytes: &mut [u8]) {
    // SAFETY: pointer and length are those of a slice borrowed for writing.
    unsafe { libc::explicit_bzero(bytes.as_mut_ptr().cast(), bytes.len()) }
}

/// Wipes what [`crypto_info`] made.
pub fn wipe_info(info: &mut TlsCryptoInfo) {
    match info {
        TlsCryptoInfo::Aes128Gcm(info) => {
            wipe(&mut info.key);
            wipe(&mut info.iv);
        }
        TlsCryptoInfo::Aes256Gcm(info) => {
            wipe(&mut info.key);
            wipe(&mut info.iv);
        }
        TlsCryptoInfo::Chacha20Poly1305(info) => {
            wipe(&mut info.key);
            wipe(&mut info.iv);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::net::TcpStream;
    use std::os::fd::AsFd;

    fn key(version: Version, iv: [u8; 12], sequence: u64) -> TransmitKey {
        TransmitKey::new(version, Cipher::Aes128Gcm, &[7; 16], &iv, sequence).unwrap()
    }

    #[test]
    fn the_room_for_a_control_message_is_what_the_c_library_asks_for() {
        // SAFETY: arithmetic on a length.
        let space = unsafe { libc::CMSG_SPACE(1) } as usize;
        assert_eq!(space, CONTROL_BYTES);
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        for cipher in [
            Cipher::Aes128Gcm,
            Cipher::Aes256Gcm,
            Cipher::ChaCha20Poly1305,
        ] {
            let make = |key: usize, iv: usize| {
                TransmitKey::new(Version::Tls13, cipher, &vec![1; key], &vec![2; iv], 0)
            };
            assert!(make(cipher.key_bytes(), 12).is_some());
            assert!(make(cipher.key_bytes() - 1, 12).is_none());
            assert!(make(cipher.key_bytes(), 8).is_none());
        }
    }

    #[test]
    fn a_wiped_structure_has_no_key_in_it() {
        let mut info = crypto_info(&key(Version::Tls13, [9; 12], 3));
        wipe_info(&mut info);
        let TlsCryptoInfo::Aes128Gcm(info) = info else {
            panic!("another cipher");
        };
        assert_eq!((info.key, info.iv), ([0; 16], [0; 8]));
    }

    #[test]
    fn explicit_nonces_of_tls_1_2_never_meet_those_of_the_library() {
        let odd = 0x8000_0000_0000_0001;
        for start in [0, 1, u64::MAX, 1 << 63, odd, 0x0123_4567_89ab_cdef] {
            let mut iv = [0; 12];
            iv[4..].copy_from_slice(&u64::to_be_bytes(start));
            let TlsCryptoInfo::Aes128Gcm(info) = crypto_info(&key(Version::Tls12, iv, 5)) else {
                panic!("another cipher");
            };
            assert_eq!(info.rec_seq, 5u64.to_be_bytes());
            let first = u64::from_be_bytes(info.iv);
            // The library's are `start ^ n`, the kernel's `first + n`.
            let ours = |n: u64| start ^ n;
            let last = u64::from(u32::MAX);
            for n in [0, 1, 2, 1 << 23, last] {
                assert_ne!(ours(n) >> 63, first.wrapping_add(n) >> 63, "{start:x} {n}");
            }
        }
    }

    #[test]
    fn a_kernel_without_the_module_says_so_and_a_closed_peer_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        match attach(near.as_fd()) {
            Ok(()) => {
                set_transmit_key(near.as_fd(), &key(Version::Tls13, [1; 12], 0)).unwrap();
                let is = |cipher| is_sealed_with(near.as_fd(), Version::Tls13, cipher).unwrap();
                assert!(is(Cipher::Aes128Gcm) && !is(Cipher::Aes256Gcm));
                assert_eq!(send_record(near.as_fd(), 21, &[1, 0]).unwrap(), 2);
                near.shutdown(std::net::Shutdown::Write).unwrap();
                let mut end = [0; 1];
                while std::io::Read::read(&mut &far, &mut end).unwrap() > 0 {}
                let code = attach(far.as_fd()).unwrap_err().raw_os_error();
                assert_eq!(code, Some(libc::ENOTCONN));
            }
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOENT)),
        }
    }
}

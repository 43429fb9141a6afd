//! Asks the kernel once what it seals: each cipher of each version on a loopback connection of its
//! own, a record sent, received and opened. A kernel that takes a key and seals with it otherwise
//! than the RFCs say is one that does not work.
//!
//! [`super::super::socket::TcpBind`] calls it when serving starts or is reloaded.
//!
//! I/O: a few loopback connections, blocking, bounded by [`PATIENCE`] each.

use super::offload::ALL;
use super::offload::CipherView;
use super::offload::Verdict;
use super::records::Records;
use crate::sys::ktls;
use crate::sys::ktls::Cipher;
use crate::sys::ktls::TransmitKey;
use crate::sys::ktls::Version;
use crate::tls::record::ALERT;
use crate::tls::record::CLOSE_NOTIFY;
use crate::tls::record::Content;
use crate::tls::record::Key;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

/// Loopback answers within microseconds; this is for a machine that swaps.
const PATIENCE: Duration = Duration::from_secs(5);

/// Of no use to anybody: what they seal is [`TEXT`].
const KEY: [u8; 32] = [0x2a; 32];
const IV: [u8; 12] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8];
const TEXT: &[u8] = b"a record of the probe";

/// Above zero, so that a kernel which begins at zero is found out.
const SEQUENCE: u64 = 7;

/// Everything about this host's kernel TLS.
pub(in crate::serve) fn probe() -> Verdict {
    match attached() {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            return Verdict::none("the kernel has no module tls (`modprobe tls`)");
        }
        Err(error) => return Verdict::none(&format!("the kernel's TLS cannot be tried: {error}")),
    }
    let row = |(version, cipher): (Version, Cipher)| {
        let error = sealed(version, cipher).err();
        CipherView {
            version: version.as_str(),
            cipher: cipher.as_str(),
            works: error.is_none(),
            error: error.map(|error| error.to_string()),
        }
    };
    let ciphers = ALL.into_iter().map(row).collect();
    Verdict {
        missing: None,
        ciphers,
        rekey: is_rekeyed().unwrap_or(false),
        zero_copy: is_zero_copy().unwrap_or(false),
    }
}

/// Two ends of a connection, the first with the kernel's TLS attached.
fn attached() -> io::Result<(TcpStream, TcpStream)> {
    let any = |ip: std::net::IpAddr| TcpListener::bind(SocketAddr::from((ip, 0)));
    let listener = any(Ipv4Addr::LOCALHOST.into()).or_else(|_| any(Ipv6Addr::LOCALHOST.into()))?;
    let near = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
    let (far, from) = listener.accept()?;
    if from != near.local_addr()? {
        return Err(io::Error::other("somebody else called; try again"));
    }
    far.set_read_timeout(Some(PATIENCE))?;
    near.set_write_timeout(Some(PATIENCE))?;
    ktls::attach(near.as_fd())?;
    Ok((near, far))
}

fn transmit(version: Version, cipher: Cipher, sequence: u64) -> io::Result<TransmitKey> {
    TransmitKey::new(version, cipher, &KEY[..cipher.key_bytes()], &IV, sequence)
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Has the kernel seal data and an alert, and opens both.
fn sealed(version: Version, cipher: Cipher) -> io::Result<()> {
    let (mut near, mut far) = attached()?;
    ktls::set_transmit_key(near.as_fd(), &transmit(version, cipher, SEQUENCE)?)?;
    if !ktls::is_sealed_with(near.as_fd(), version, cipher)? {
        return Err(io::Error::other(
            "it says that it seals with another cipher",
        ));
    }
    near.write_all(TEXT)?;
    ktls::send_record(near.as_fd(), ALERT, &CLOSE_NOTIFY)?;
    drop(near);
    let mut bytes = Vec::new();
    far.read_to_end(&mut bytes)?;
    let key = Key::new(version, cipher, &KEY[..cipher.key_bytes()], &IV, SEQUENCE);
    let mut records = Records::new(key.ok_or(io::ErrorKind::InvalidInput)?);
    records.push(&bytes);
    let wrong = || io::Error::other("its records do not open");
    let data = records.next().map_err(|_| wrong())?;
    if data != Some(Content::Data(TEXT)) {
        return Err(wrong());
    }
    let alert = Content::Alert {
        is_fatal: false,
        description: 0,
    };
    match records.next() {
        Ok(Some(content)) if content == alert => Ok(()),
        Ok(_) | Err(_) => Err(wrong()),
    }
}

fn is_rekeyed() -> io::Result<bool> {
    let (near, _far) = attached()?;
    let key = transmit(Version::Tls13, Cipher::Aes128Gcm, SEQUENCE)?;
    ktls::set_transmit_key(near.as_fd(), &key)?;
    Ok(ktls::set_transmit_key(near.as_fd(), &key).is_ok())
}

fn is_zero_copy() -> io::Result<bool> {
    let (near, _far) = attached()?;
    let key = transmit(Version::Tls13, Cipher::Aes128Gcm, SEQUENCE)?;
    ktls::set_transmit_key(near.as_fd(), &key)?;
    Ok(ktls::set_zero_copy(near.as_fd()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_of_one_piece_whatever_this_kernel_can() {
        let verdict = probe();
        match &verdict.missing {
            Some(missing) => {
                assert!(missing.contains("modprobe tls"), "{missing}");
                assert!(!verdict.is_complete() && verdict.ciphers.is_empty());
                assert!(verdict.summary().ends_with("user-space TLS"));
            }
            None => {
                assert_eq!(verdict.ciphers.len(), ALL.len());
                assert!(verdict.takes(Version::Tls13, Cipher::Aes128Gcm));
            }
        }
    }
}

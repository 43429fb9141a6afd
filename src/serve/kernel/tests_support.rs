//! A kernel for tests: it seals as Linux documents it, from the very structure that Linux would
//! get, behind streams in memory.

use crate::serve::kernel::Verdict;
use crate::serve::kernel::offload::ALL;
use crate::serve::kernel::offload::CipherView;
use crate::serve::listener::Bind;
use crate::serve::listener::Bound;
use crate::serve::listener::Listener;
use crate::serve::listener::ViewerStream;
use crate::serve::memory::MemoryNet;
use crate::sys::ktls;
use crate::sys::ktls::TransmitKey;
use crate::sys::ktls::Version;
use aws_lc_rs::aead;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::UnboundKey;
use nix::sys::socket::sockopt::TlsCryptoInfo;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

/// The state of `net/tls` for one direction.
pub(super) struct Seal {
    version: u16,
    key: LessSafeKey,
    salt: Vec<u8>,
    iv: Vec<u8>,
    sequence: u64,
}

impl Seal {
    pub(super) fn new(key: &TransmitKey) -> Self {
        let sequence = u64::from_be_bytes;
        let key_of =
            |algorithm, key: &[u8]| LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap());
        match ktls::crypto_info(key) {
            TlsCryptoInfo::Aes128Gcm(info) => Self {
                version: info.info.version,
                key: key_of(&aead::AES_128_GCM, &info.key),
                salt: info.salt.to_vec(),
                iv: info.iv.to_vec(),
                sequence: sequence(info.rec_seq),
            },
            TlsCryptoInfo::Aes256Gcm(info) => Self {
                version: info.info.version,
                key: key_of(&aead::AES_256_GCM, &info.key),
                salt: info.salt.to_vec(),
                iv: info.iv.to_vec(),
                sequence: sequence(info.rec_seq),
            },
            TlsCryptoInfo::Chacha20Poly1305(info) => Self {
                version: info.info.version,
                key: key_of(&aead::CHACHA20_POLY1305, &info.key),
                salt: Vec::new(),
                iv: info.iv.to_vec(),
                sequence: sequence(info.rec_seq),
            },
        }
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// One record of `kind`.
    pub(super) fn seal(&mut self, kind: u8, body: &[u8]) -> Vec<u8> {
        match self.version {
            libc::TLS_1_3_VERSION => self.seal_inner(&[body, &[kind]].concat()),
            _ => self.seal_12(kind, body),
        }
    }

    /// A TLS 1.3 record with this inside, type and padding included.
    pub(super) fn seal_inner(&mut self, inner: &[u8]) -> Vec<u8> {
        let mut sealed = inner.to_vec();
        let length = u16::try_from(sealed.len() + 16).unwrap().to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        let nonce = self.xored();
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(header), &mut sealed)
            .unwrap();
        self.sequence += 1;
        [&header[..], &sealed].concat()
    }

    fn seal_12(&mut self, kind: u8, body: &[u8]) -> Vec<u8> {
        let explicit = match self.salt.len() {
            0 => Vec::new(),
            _ => self.iv.clone(),
        };
        let nonce = match explicit.is_empty() {
            true => self.xored(),
            false => {
                Nonce::try_assume_unique_for_key(&[&self.salt[..], &self.iv].concat()).unwrap()
            }
        };
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        let about = [&self.sequence.to_be_bytes()[..], &[kind, 3, 3], &length].concat();
        let mut sealed = body.to_vec();
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(about), &mut sealed)
            .unwrap();
        self.sequence += 1;
        if !explicit.is_empty() {
            let next = u64::from_be_bytes(explicit[..].try_into().unwrap()).wrapping_add(1);
            self.iv = next.to_be_bytes().to_vec();
        }
        let length = u16::try_from(explicit.len() + sealed.len())
            .unwrap()
            .to_be_bytes();
        [&[kind, 3, 3][..], &length, &explicit, &sealed].concat()
    }

    fn xored(&self) -> Nonce {
        let mut nonce = [&self.salt[..], &self.iv].concat();
        for (byte, count) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= count;
        }
        Nonce::try_assume_unique_for_key(&nonce).unwrap()
    }
}

/// What the kernel of a [`KernelNet`] does beyond sealing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manners {
    pub(super) rekeys: bool,
    /// `ENOTCONN`, as for a viewer that has closed its half.
    pub(super) half_closed: bool,
    /// Takes no key.
    pub(super) full: bool,
}

/// Streams in memory whose "kernel" seals.
#[derive(Clone)]
pub(super) struct KernelNet {
    pub(super) net: MemoryNet,
    pub(super) manners: Manners,
    /// Application bytes that were sealed here: none of a file's passed through a session.
    pub(super) sealed: Arc<Mutex<u64>>,
}

struct KernelBound(Box<dyn Bound>, KernelNet);
struct KernelListener(Box<dyn Listener>, KernelNet);

struct KernelStream {
    inner: Box<dyn ViewerStream>,
    net: KernelNet,
    attached: bool,
    seal: Option<Seal>,
    waiting: Vec<u8>,
}

impl Bind for KernelNet {
    fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Bound>> {
        let bound = self.net.bind(address)?;
        Ok(Box::new(KernelBound(bound, self.clone())))
    }

    fn tls_offload(&self) -> Verdict {
        let row = |(version, cipher): (Version, ktls::Cipher)| CipherView {
            version: version.as_str(),
            cipher: cipher.as_str(),
            works: true,
            error: None,
        };
        Verdict {
            missing: None,
            ciphers: ALL.into_iter().map(row).collect(),
            rekey: self.manners.rekeys,
            zero_copy: false,
        }
    }
}

impl Bound for KernelBound {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn listen(self: Box<Self>) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(KernelListener(self.0.listen()?, self.1)))
    }
}

impl Listener for KernelListener {
    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Box<dyn ViewerStream>, SocketAddr)>> {
        let (inner, peer) = ready!(self.0.poll_accept(cx))?;
        let stream = KernelStream {
            inner,
            net: self.1.clone(),
            attached: false,
            seal: None,
            waiting: Vec::new(),
        };
        Poll::Ready(Ok((Box::new(stream), peer)))
    }
}

impl KernelStream {
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let count = ready!(Pin::new(&mut *self.inner).poll_write(cx, &self.waiting))?;
            self.waiting.drain(..count);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_sealed(
        &mut self,
        cx: &mut Context<'_>,
        kind: u8,
        body: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_waiting(cx))?;
        let taken = &body[..body.len().min(16 * 1024)];
        match &mut self.seal {
            None => return Pin::new(&mut *self.inner).poll_write(cx, body),
            Some(seal) => self.waiting = seal.seal(kind, taken),
        }
        if kind == 23 {
            *self.net.sealed.lock().unwrap() += taken.len() as u64;
        }
        // Taken is taken: what does not leave at once leaves later.
        let _ = self.poll_waiting(cx)?;
        Poll::Ready(Ok(taken.len()))
    }
}

impl ViewerStream for KernelStream {
    fn poll_send_file(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        file: &File,
        offset: u64,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let mut piece = vec![0; length.min(50_000)];
        let read = file.read_at(&mut piece, offset)?;
        self.poll_sealed(cx, 23, &piece[..read])
    }

    fn attach_tls(&mut self) -> io::Result<()> {
        if self.net.manners.half_closed {
            return Err(io::Error::from_raw_os_error(libc::ENOTCONN));
        }
        self.attached = true;
        Ok(())
    }

    fn set_transmit_key(&mut self, key: &TransmitKey) -> io::Result<()> {
        assert!(self.attached && self.waiting.is_empty());
        if self.net.manners.full {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        if self.seal.is_some() && !self.net.manners.rekeys {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        self.seal = Some(Seal::new(key));
        Ok(())
    }

    fn poll_send_record(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        kind: u8,
        body: &[u8],
    ) -> Poll<io::Result<usize>> {
        assert!(self.seal.is_some());
        self.poll_sealed(cx, kind, body)
    }
}

impl AsyncRead for KernelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let _ = self.poll_waiting(cx)?;
        Pin::new(&mut *self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for KernelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_sealed(cx, 23, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_waiting(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(cx))?;
        Pin::new(&mut *self.inner).poll_shutdown(cx)
    }
}

/// PEM of a DER structure.
pub(super) fn pem(tag: &str, der: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in der.chunks(3) {
        let mut bits = 0u32;
        for at in 0..3 {
            bits = bits << 8 | u32::from(three.get(at).copied().unwrap_or(0));
        }
        for at in 0..4 {
            let letter = char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]);
            text.push(if at <= three.len() { letter } else { '=' });
        }
    }
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let body = lines.join("\n");
    format!("-----BEGIN {tag}-----\n{body}\n-----END {tag}-----\n")
}

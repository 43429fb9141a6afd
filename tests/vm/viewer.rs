//! A client of our own, on rustls: it says what it wants to the byte, and sees how things end.
//!
//! I/O: a blocking socket with a time limit.

use crate::stage::PATIENCE;
use crate::stage::RSA_NAME;
use crate::stage::Stage;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::Stream;
use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::version::TLS12;
use rustls::version::TLS13;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;

/// Reads are as large as a browser's, not one record at a time.
const READ_BYTES: usize = 64 * 1024;

/// How a connection ended, seen from the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// TLS was closed before TCP: nothing is missing.
    CloseNotify,
    /// TCP ended, TLS did not.
    Truncated,
    Broken(String),
}

impl End {
    fn of(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Truncated;
        }
        Self::Broken(error.to_string())
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// Somebody with a TLS connection.
pub(crate) struct Viewer {
    pub tls: ClientConnection,
    pub tcp: TcpStream,
    rest: Vec<u8>,
}

/// One suite, for the host whose certificate it needs. Sessions resume among the connections made
/// with it.
pub(crate) fn client(stage: &Stage, suite: SupportedCipherSuite) -> Arc<ClientConfig> {
    let provider = CryptoProvider {
        cipher_suites: vec![suite],
        ..default_provider()
    };
    let version = if suite.tls13().is_some() {
        &TLS13
    } else {
        &TLS12
    };
    let client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(stage.roots.clone())
        .with_no_client_auth();
    Arc::new(client)
}

/// By the name in the IANA's registry.
pub(crate) fn suite(name: &str) -> SupportedCipherSuite {
    let found = ALL_CIPHER_SUITES.iter().copied();
    let mut found = found.filter(|suite| format!("{:?}", suite.suite()) == name);
    found.next().unwrap_or_else(|| panic!("no suite {name}"))
}

/// The most common choice of browsers.
pub(crate) fn usual(stage: &Stage) -> Arc<ClientConfig> {
    client(stage, suite("TLS13_AES_128_GCM_SHA256"))
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A request as a player writes it.
pub(crate) fn request(method: &str, key: &str, fields: &str) -> Vec<u8> {
    format!("{method} /{key} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes()
}

impl Viewer {
    /// Handshakes for the name whose certificate the suite needs.
    pub(crate) fn open(stage: &Stage, client: &Arc<ClientConfig>) -> Self {
        let mut viewer = Self::over(connect(stage.https()), client);
        viewer.handshake();
        viewer
    }

    /// Nothing is sent yet.
    pub(crate) fn over(tcp: TcpStream, client: &Arc<ClientConfig>) -> Self {
        let suites = &client.crypto_provider().cipher_suites;
        let needs_rsa = suites
            .iter()
            .any(|suite| format!("{:?}", suite.suite()).contains("_RSA_"));
        let name = if needs_rsa { RSA_NAME } else { "localhost" };
        let name = ServerName::try_from(name).unwrap();
        Self {
            tls: ClientConnection::new(Arc::clone(client), name).unwrap(),
            tcp,
            rest: Vec::new(),
        }
    }

    pub(crate) fn handshake(&mut self) {
        while self.tls.is_handshaking() {
            self.tls.complete_io(&mut self.tcp).unwrap();
        }
    }

    /// Records of their own for each call.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let mut stream = Stream::new(&mut self.tls, &mut self.tcp);
        stream.write_all(bytes).unwrap();
        stream.flush().unwrap();
    }

    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        Stream::new(&mut self.tls, &mut self.tcp).read(piece)
    }

    /// At least one more byte into what was read and not yet used.
    pub(crate) fn more(&mut self) {
        let mut piece = vec![0; READ_BYTES];
        let count = self.read(&mut piece).unwrap();
        assert!(count > 0, "the connection ended early");
        self.rest.extend_from_slice(&piece[..count]);
    }

    /// The next answer. What a HEAD request asked for has no body.
    pub(crate) fn answer_to(&mut self, is_head: bool) -> Answer {
        let end = loop {
            if let Some(at) = self.rest.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
            self.more();
        };
        let head = String::from_utf8(self.rest.drain(..end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .map_or(0, |text| text.parse::<usize>().unwrap());
        let length = if is_head || status == 304 { 0 } else { length };
        while self.rest.len() < length {
            self.more();
        }
        Answer {
            status,
            head,
            body: self.rest.drain(..length).collect(),
        }
    }

    /// An answer that ends before its time: status, what came of the body, how it ended.
    pub(crate) fn cut_answer(&mut self) -> (u16, Vec<u8>, End) {
        let end = loop {
            let mut piece = vec![0; READ_BYTES];
            match self.read(&mut piece) {
                Ok(0) => break End::CloseNotify,
                Ok(count) => self.rest.extend_from_slice(&piece[..count]),
                Err(error) => break End::of(&error),
            }
        };
        let at = self.rest.windows(4).position(|part| part == b"\r\n\r\n");
        let body = self.rest.split_off(at.unwrap() + 4);
        let head = String::from_utf8(std::mem::take(&mut self.rest)).unwrap();
        (head[9..12].parse().unwrap(), body, end)
    }

    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to(false)
    }

    pub(crate) fn get(&mut self, key: &str, fields: &str) -> Answer {
        self.send(&request("GET", key, fields));
        self.answer()
    }

    pub(crate) fn head(&mut self, key: &str) -> Answer {
        self.send(&request("HEAD", key, ""));
        self.answer_to(true)
    }

    /// What is left is nothing but the end.
    pub(crate) fn end(&mut self) -> End {
        assert!(self.rest.is_empty(), "{} bytes too many", self.rest.len());
        match self.read(&mut [0]) {
            Ok(0) => End::CloseNotify,
            Ok(_) => panic!("bytes after the last answer"),
            Err(error) => End::of(&error),
        }
    }
}

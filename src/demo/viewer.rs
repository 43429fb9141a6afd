//! A viewer: HTTPS over one kept-alive connection, from an address of its own.
//!
//! It trusts only the demo's CA, keeps little of what it reads and hashes all of it. It is written
//! on hyper, not on the box's own HTTP code, so that a shared mistake cannot hide.
//!
//! I/O: connects and waits, each time within a bound.

use super::authority::Authority;
use crate::clock;
use crate::object::Digest;
use anyhow::Context as _;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::HeaderMap;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::SupportedProtocolVersion;
use rustls::pki_types::ServerName;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

/// Longest wait for a connection, a response head or the next bytes of a body.
const WAIT: Duration = Duration::from_secs(30);

/// Bytes of a body that are kept for comparison and parsing; the rest is only hashed.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// One viewer.
#[derive(Debug)]
pub(super) struct Viewer {
    server: SocketAddr,
    /// As in the URL and in the server's certificate.
    name: String,
    from: IpAddr,
    tls: Arc<ClientConfig>,
    sender: Option<SendRequest<Empty<Bytes>>>,
    /// Of the URL that steering gave: a directory, and the token that covers it.
    token: Option<(String, String)>,
    /// Requests that showed the token.
    pub(super) signed: usize,
}

/// A whole response.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub length: u64,
    pub digest: Digest,
    /// The first [`KEPT_BYTES_MAX`] bytes.
    pub body: Vec<u8>,
}

/// What this process must believe to connect: the demo's CA, one or both TLS versions.
pub(super) fn trust(
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.root.clone())
        .context("the private CA cannot be trusted")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .context("these TLS versions cannot be spoken")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl Viewer {
    pub(super) fn new(server: SocketAddr, from: IpAddr, tls: Arc<ClientConfig>) -> Self {
        Self::named("localhost", server, from, tls)
    }

    /// A viewer whom somebody else told the name and the address of the box.
    pub(super) fn named(
        name: &str,
        server: SocketAddr,
        from: IpAddr,
        tls: Arc<ClientConfig>,
    ) -> Self {
        Self {
            server,
            name: name.to_owned(),
            from,
            tls,
            sender: None,
            token: None,
            signed: 0,
        }
    }

    /// Shows the token of `path` (`t/<token>/<key>`) for everything that it covers, as relative
    /// URLs do. A path without a token changes nothing.
    pub(super) fn with_token_of(self, path: &str) -> Self {
        let token = path.strip_prefix("t/").and_then(|rest| {
            let (token, key) = rest.split_once('/')?;
            let (directory, _) = key.rsplit_once('/')?;
            Some((directory.to_owned(), token.to_owned()))
        });
        Self { token, ..self }
    }

    /// The path of a key, below the token where it covers it.
    fn path(&mut self, key: &str) -> String {
        if let Some((directory, token)) = &self.token
            && key
                .strip_prefix(directory.as_str())
                .is_some_and(|rest| rest.starts_with('/'))
        {
            self.signed += 1;
            return format!("/t/{token}/{key}");
        }
        format!("/{key}")
    }

    /// GETs `/key` whole.
    pub(super) async fn get(
        &mut self,
        key: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Answer> {
        let response = self.open(key, headers).await?;
        let (head, mut body) = response.into_parts();
        let (mut hasher, mut length, mut kept) = (blake3::Hasher::new(), 0, Vec::new());
        while let Some(bytes) = next(&mut body).await? {
            hasher.update(&bytes);
            length += bytes.len() as u64;
            let room = KEPT_BYTES_MAX.saturating_sub(kept.len());
            kept.extend_from_slice(&bytes[..room.min(bytes.len())]);
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            length,
            digest: Digest(*hasher.finalize().as_bytes()),
            body: kept,
        })
    }

    /// GETs `/key` and returns with the response's head; the body is read by [`next`].
    pub(super) async fn open(
        &mut self,
        key: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Response<Incoming>> {
        let reused = self.sender.is_some();
        match self.send(key, headers).await {
            Ok(response) => Ok(response),
            // The server may close an idle connection at any time: RFC 9112 section 9.5.
            Err(_) if reused => {
                self.sender = None;
                self.send(key, headers).await
            }
            Err(error) => Err(error),
        }
    }

    async fn send(
        &mut self,
        key: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::get(self.path(key))
            .header("Host", format!("{}:{}", self.name, self.server.port()))
            .header("User-Agent", "oca-demo");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Empty::new())
            .with_context(|| format!("`{key}` cannot be asked for"))?;
        let mut sender = match self.sender.take() {
            Some(sender) => sender,
            None => bounded("a connection", self.connect()).await?,
        };
        let exchange = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        let response = bounded("a response", exchange)
            .await
            .with_context(|| format!("no answer to GET /{key}"))?;
        self.sender = Some(sender);
        Ok(response)
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
        let socket = match self.server {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }
        .context("no socket")?;
        socket
            .bind(SocketAddr::new(self.from, 0))
            .with_context(|| format!("cannot use the address {}", self.from))?;
        let stream = socket
            .connect(self.server)
            .await
            .with_context(|| format!("cannot connect to {}", self.server))?;
        let name = ServerName::try_from(self.name.clone()).context("the server's name")?;
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await
            .context("the TLS handshake failed")?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .context("HTTP could not begin")?;
        // Its error also ends the request that waits, which tells it.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// The next bytes of a body; `None` at its end, an error if it was cut.
pub(super) async fn next(body: &mut Incoming) -> anyhow::Result<Option<Bytes>> {
    let frame = async { body.frame().await.transpose() };
    let frame = bounded("the next bytes", frame).await?;
    // Trailers, which the box never sends, count as no bytes.
    Ok(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

async fn bounded<T, E>(what: &str, work: impl Future<Output = Result<T, E>>) -> anyhow::Result<T>
where
    Result<T, E>: anyhow::Context<T, E>,
{
    clock::within(WAIT, work)
        .await
        .with_context(|| format!("waited {} s for {what}", WAIT.as_secs()))?
        .with_context(|| format!("while waiting for {what}"))
}

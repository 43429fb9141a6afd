//! A viewer over an in-memory stream: hyper's client, plain or with TLS.

use http_body_util::BodyExt as _;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use oca::serve::memory::MemoryNet;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;

use super::world_box::HTTP;
use super::world_box::HTTPS;

/// One keep-alive connection.
pub(crate) struct Viewer {
    sender: http1::SendRequest<Empty<Bytes>>,
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    headers: hyper::HeaderMap,
}

/// An answer whose body is not yet read.
pub(crate) struct Running {
    body: Incoming,
}

impl Viewer {
    pub(crate) async fn plain(net: &MemoryNet, from: &str) -> Self {
        Self::try_plain(net, from).await.expect("the box accepts")
    }

    pub(crate) async fn try_plain(net: &MemoryNet, from: &str) -> Option<Self> {
        let to = HTTP.parse().unwrap();
        let stream = net.connect(from.parse().unwrap(), to).await.ok()?;
        Some(Self::over(stream).await)
    }

    pub(crate) async fn tls(
        net: &MemoryNet,
        from: &str,
        authority: &CertificateDer<'static>,
    ) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let to = HTTPS.parse().unwrap();
        let stream = net.connect(from.parse().unwrap(), to).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("box.example").unwrap();
        Self::over(connector.connect(name, stream).await.unwrap()).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    pub(crate) async fn get(&mut self, key: &str) -> Answer {
        let response = self.send(key).await;
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes().to_vec(),
        }
    }

    /// Asks, and reads the head alone.
    pub(crate) async fn begin(&mut self, key: &str) -> Running {
        let response = self.send(key).await;
        assert_eq!(response.status(), 200);
        Running {
            body: response.into_body(),
        }
    }

    async fn send(&mut self, key: &str) -> hyper::Response<Incoming> {
        let request = hyper::Request::get(format!("/{key}"))
            .header("host", "box.example")
            .body(Empty::new())
            .unwrap();
        self.sender.ready().await.unwrap();
        self.sender.send_request(request).await.unwrap()
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Running {
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(frame) = self.body.frame().await {
            all.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        all
    }
}

//! A bucket of a real S3 service behind the faulty wire, and URLs that are presigned for it.
//!
//! I/O: speaks to SeaweedFS.

use crate::proxy::Behind;
use crate::proxy::Proxy;
use crate::weed;
use crate::weed::Weed;
use crate::world::LIMITS;
use crate::world::Shelf;
use crate::world::Till;
use crate::world::job;
use hyper::Method;
use object_store::ClientOptions;
use object_store::aws::AmazonS3;
use object_store::aws::AmazonS3Builder;
use object_store::client::HttpClient;
use object_store::client::HttpConnector;
use object_store::client::HttpError;
use object_store::client::HttpErrorKind;
use object_store::client::HttpRequest;
use object_store::client::HttpResponse;
use object_store::client::HttpService;
use object_store::path::Path;
use object_store::signer::Signer as _;
use oca::fill::Fetch as _;
use oca::fill::FetchConfig;
use oca::fill::Fetcher;
use oca::fill::Job;
use oca::fill::Outcome;
use oca::fill::SystemResolver;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

pub(crate) struct Lab {
    weed: &'static Weed,
    bucket: String,
    pub(crate) proxy: Proxy,
    pub(crate) fetcher: Fetcher,
    pub(crate) shelf: Shelf,
    pub(crate) till: Arc<Till>,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        // Starting the service blocks.
        let weed = tokio::task::spawn_blocking(weed::weed).await.unwrap();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let bucket = format!("films-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        http(weed.filer_port, "POST", &format!("/buckets/{bucket}/"), b"").await;
        let shelf = Shelf::default();
        Self {
            weed,
            bucket,
            proxy: Proxy::start(Behind::Service(weed.s3_port)).await,
            fetcher: fetcher(&shelf),
            shelf,
            till: Till::open(),
        }
    }

    pub(crate) async fn put(&self, name: &str, bytes: &[u8]) {
        let url = self.presigned(Method::PUT, self.weed.s3_port, name).await;
        let path = url.split_once(&self.weed.s3_port.to_string()).unwrap().1;
        http(self.weed.s3_port, "PUT", path, bytes).await;
    }

    /// Puts `bytes` and makes the job that fetches them through the faulty wire.
    pub(crate) async fn job(&self, name: &str, bytes: &[u8]) -> Job {
        self.put(name, bytes).await;
        job(
            bytes,
            self.presigned(Method::GET, self.proxy.port, name).await,
        )
    }

    /// The `ETag` that the service gives the object.
    pub(crate) async fn etag(&self, name: &str) -> String {
        let port = self.weed.s3_port;
        let url = self.presigned(Method::GET, port, name).await;
        let path = url.split_once(&port.to_string()).unwrap().1;
        let answer = http(port, "GET", path, b"").await;
        let line = answer
            .lines()
            .find(|line| line.to_lowercase().starts_with("etag: "));
        line.unwrap()[6..].to_owned()
    }

    pub(crate) async fn presigned(&self, method: Method, port: u16, name: &str) -> String {
        let (signer, path) = (signer(port, &self.bucket), Path::from(name));
        let url = signer.signed_url(method, &path, Duration::from_secs(600));
        url.await.unwrap().to_string()
    }

    pub(crate) async fn fetch(&self, job: &Job) -> Outcome {
        self.fetcher.fetch(job.clone(), self.till.clone()).await
    }
}

/// One that may connect to loopback, in plain HTTP.
pub(crate) fn fetcher(shelf: &Shelf) -> Fetcher {
    Fetcher::new(
        config(),
        Arc::new(|_| Err("no certificate in this test".into())),
        Arc::new(SystemResolver),
        Arc::new(shelf.clone()),
    )
}

pub(crate) fn config() -> FetchConfig {
    FetchConfig {
        private_sources: true,
        plain_origin: true,
        origin_ca: None,
        gateway: None,
        limits: LIMITS,
    }
}

fn signer(port: u16, bucket: &str) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region("us-east-1")
        .with_endpoint(format!("http://127.0.0.1:{port}"))
        .with_allow_http(true)
        .with_access_key_id(weed::ACCESS_KEY)
        .with_secret_access_key(weed::SECRET_KEY)
        .with_http_connector(Unconnected)
        .build()
        .unwrap()
}

/// Presigning asks nobody.
#[derive(Debug)]
struct Unconnected;

impl HttpConnector for Unconnected {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Self))
    }
}

impl HttpService for Unconnected {
    fn call<'life, 'call>(
        &'life self,
        _: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'call>>
    where
        'life: 'call,
        Self: 'call,
    {
        let error = std::io::Error::other("presigning connects nowhere");
        Box::pin(async move { Err(HttpError::new(HttpErrorKind::Connect, error)) })
    }
}

/// A request straight to the service; its head.
async fn http(port: u16, method: &str, path: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let head = String::from_utf8_lossy(&answer[..end.unwrap()]).into_owned();
    assert!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {head}");
    head
}

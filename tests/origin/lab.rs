//! What the tests of this binary share: a bucket behind a faulty wire, and a control store.
//!
//! I/O: speaks to SeaweedFS, writes below a temporary directory.

use crate::proxy::Proxy;
use crate::weed;
use aws_lc_rs::digest;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::Response;
use hyper::body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use object_store::aws::AwsAuthorizer;
use object_store::aws::AwsCredential;
use object_store::client::HttpRequestBody;
use oca::control::import;
use oca::control::import::ImportError;
use oca::control::import::Summary;
use oca::control::store::ControlStore as _;
use oca::control::store::SqlStore;
use oca::object::Digest;
use oca::origin::Limits;
use oca::origin::Origin;
use oca::origin::S3Config;
use oca::origin::S3Origin;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// Short enough for a test, long enough for a machine with other work.
pub(crate) const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    head: Duration::from_secs(5),
    stall: Duration::from_millis(500),
    connections: 4,
    retries: 3,
    backoff: Duration::from_millis(10),
    backoff_max: Duration::from_millis(50),
};

#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) bucket: String,
    pub(crate) proxy: Proxy,
    pub(crate) store: SqlStore,
    pub(crate) dir: TempDir,
}

impl Lab {
    /// A private bucket of its own, and an empty control store.
    pub(crate) async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::of(format!("films-{number}")).await
    }

    pub(crate) async fn of(bucket: String) -> Self {
        // Starting the service blocks.
        let weed = tokio::task::spawn_blocking(weed::weed).await.unwrap();
        make_bucket(weed.filer_port, &bucket).await;
        let dir = tempfile::tempdir().unwrap();
        let store = SqlStore::open(&dir.path().join("control.sqlite")).await;
        Self {
            bucket,
            proxy: Proxy::start(weed.s3_port).await,
            store: store.unwrap(),
            dir,
        }
    }

    /// The service itself, without our client and without the faulty wire.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.proxy.port)
    }

    /// Where the access key and the secret key are.
    pub(crate) fn credentials(&self) -> PathBuf {
        let path = self.dir.path().join("credentials");
        let text = format!("{}\n{}\n", weed::ACCESS_KEY, weed::SECRET_KEY);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn config(&self) -> S3Config {
        S3Config {
            bucket: self.bucket.clone(),
            prefix: String::new(),
            endpoint: Some(self.endpoint()),
            region: "us-east-1".into(),
            credentials_file: Some(self.credentials()),
            ca: None,
            limits: LIMITS,
        }
    }

    pub(crate) fn origin(&self) -> S3Origin {
        S3Origin::new(&self.config()).unwrap()
    }

    pub(crate) async fn put(&self, name: &str, bytes: &[u8]) {
        put(&self.bucket, name, bytes, None).await;
    }

    /// Puts with a checksum that the service keeps, as current S3 clients do.
    pub(crate) async fn put_checked(&self, name: &str, bytes: &[u8]) {
        let sum = digest::digest(&digest::SHA256, bytes);
        put(&self.bucket, name, bytes, Some(base64(sum.as_ref()))).await;
    }

    pub(crate) async fn import(&self) -> Result<Summary, ImportError> {
        self.import_from(&self.origin()).await
    }

    pub(crate) async fn import_from(&self, origin: &dyn Origin) -> Result<Summary, ImportError> {
        let stop = AtomicBool::new(false);
        import::run_from(origin, &self.store, &mut |_| {}, &stop).await
    }

    /// Every key of the store with its digest.
    pub(crate) async fn keys(&self) -> BTreeMap<String, Digest> {
        keys(&self.store).await
    }
}

pub(crate) async fn keys(store: &SqlStore) -> BTreeMap<String, Digest> {
    let library = store.library().await.unwrap();
    let mut keys = BTreeMap::new();
    for bundle in library.bundles.iter().flatten() {
        for key in &bundle.keys {
            let path = match bundle.directory.as_str() {
                "" => key.name.clone(),
                directory => format!("{directory}/{}", key.name),
            };
            keys.insert(path, library.object(key.object).unwrap().digest);
        }
    }
    keys
}

/// Bytes that differ everywhere and by `seed`.
pub(crate) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// A signed PUT, straight to the service.
async fn put(bucket: &str, name: &str, bytes: &[u8], sha256: Option<String>) {
    let port = weed::weed().s3_port;
    let url = format!("http://127.0.0.1:{port}/{bucket}/{name}").replace(' ', "%20");
    let mut request = Request::put(url).header("content-length", bytes.len());
    if let Some(sha256) = sha256 {
        request = request.header("x-amz-checksum-sha256", sha256);
    }
    let mut request = request.body(HttpRequestBody::from(bytes.to_vec())).unwrap();
    let credential = AwsCredential {
        key_id: weed::ACCESS_KEY.into(),
        secret_key: weed::SECRET_KEY.into(),
        token: None,
    };
    AwsAuthorizer::new(&credential, "s3", "us-east-1")
        .try_authorize(&mut request, None)
        .unwrap();
    let path = request.uri().path().parse().unwrap();
    let host = format!("127.0.0.1:{port}").parse().unwrap();
    request.headers_mut().insert("host", host);
    *request.uri_mut() = path;
    let answer = send(port, request).await;
    assert!(answer.status().is_success(), "{answer:?}");
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let mut text = String::new();
    for group in bits.as_bytes().chunks(6) {
        let group = format!("{:0<6}", std::str::from_utf8(group).unwrap());
        let place = usize::from_str_radix(&group, 2).unwrap();
        text.push(char::from(LETTERS[place]));
    }
    let padded = text.len().next_multiple_of(4);
    format!("{text:=<padded$}")
}

/// A bucket of SeaweedFS is a folder of its filer.
async fn make_bucket(filer: u16, bucket: &str) {
    let request = Request::post(format!("/buckets/{bucket}/"))
        .header("host", "127.0.0.1")
        .body(Empty::<Bytes>::new());
    let answer = send(filer, request.unwrap()).await;
    assert!(answer.status().is_success(), "{answer:?}");
}

async fn send<B>(port: u16, request: Request<B>) -> Response<Incoming>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

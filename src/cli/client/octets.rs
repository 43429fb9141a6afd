//! Answers that are no JSON: bytes, written on as they come.
//!
//! I/O: connects to the admin socket, writes to what the caller gives.

use super::Client;
use super::ClientError;
use super::connect_for_question;
use super::open;
use super::refused;
use super::unreachable;
use crate::clock;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::HeaderMap;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// For an answer of many bytes; above what the daemon allows itself for one.
const DOWNLOAD_TIME: Duration = Duration::from_secs(70);

/// An error's sentence, or one page.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// An answer in one piece.
#[derive(Debug)]
pub struct Page {
    headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Page {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Client {
    /// Asks, and writes the answer to `out` as it comes; how many bytes it had. An answer that
    /// breaks off is an error.
    pub fn download(
        &self,
        path: &str,
        out: &mut dyn Write,
        bytes_max: u64,
    ) -> Result<u64, ClientError> {
        let stream = connect_for_question(&self.socket, self.unit, open)?;
        let work = async {
            let response = ask(stream, Method::GET, path, Bytes::new()).await?;
            let mut body = good(response).await?.into_body();
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| failed(&error))?;
                let Some(data) = frame.data_ref() else {
                    continue;
                };
                bytes += data.len() as u64;
                if bytes > bytes_max {
                    let message = format!("the answer has more than {bytes_max} bytes");
                    return Err(ClientError::Failed(message));
                }
                out.write_all(data).map_err(|error| failed(&error))?;
            }
            Ok(bytes)
        };
        self.in_time(work)
    }

    /// Gives a command whose answer is bytes.
    pub fn post_for_bytes(&self, path: &str, body: Vec<u8>) -> Result<Page, ClientError> {
        let stream =
            open(&self.socket).map_err(|error| unreachable(&self.socket, self.unit, &error))?;
        let work = async {
            let response = ask(stream, Method::POST, path, Bytes::from(body)).await?;
            let response = good(response).await?;
            let headers = response.headers().clone();
            let bytes = whole(response).await?;
            Ok(Page { headers, bytes })
        };
        self.in_time(work)
    }

    fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let done = self.runtime.block_on(clock::within(DOWNLOAD_TIME, work));
        done.unwrap_or_else(|_| {
            let seconds = DOWNLOAD_TIME.as_secs();
            let message = format!("the daemon did not answer in full within {seconds} s");
            Err(ClientError::Failed(message))
        })
    }
}

/// The task that moves the bytes ends with the answer, or with the client's runtime.
async fn ask(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Response<Incoming>, ClientError> {
    let stream = tokio::net::UnixStream::from_std(stream).map_err(|error| failed(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(body))
        .map_err(|error| failed(&error))?;
    sender
        .send_request(request)
        .await
        .map_err(|error| failed(&error))
}

/// The answer, if it is one; else what it says.
async fn good(response: Response<Incoming>) -> Result<Response<Incoming>, ClientError> {
    let status: StatusCode = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = whole(response).await?;
    Err(refused(status, &String::from_utf8_lossy(&text)))
}

async fn whole(response: Response<Incoming>) -> Result<Vec<u8>, ClientError> {
    let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect();
    let body = body
        .await
        .map_err(|error| ClientError::Failed(error.to_string()))?;
    Ok(body.to_bytes().to_vec())
}

fn failed(error: &dyn std::error::Error) -> ClientError {
    ClientError::Failed(format!("the answer broke off: {error}"))
}

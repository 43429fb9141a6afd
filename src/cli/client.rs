//! HTTP over the daemon's Unix socket, for the commands.
//!
//! Blocking for its caller; every step is bounded in time and bytes. Called by `show`, `act`,
//! `prefill` and the demo.
//!
//! I/O: connects to the admin socket.

mod octets;

use super::Exit;
use crate::clock;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::Method;
use hyper::Request;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// For a daemon whose accept queue is full.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// For a command and its answer; above what the daemon allows itself for one.
const COMMAND_TIME: Duration = Duration::from_secs(60);

/// For a question: answered from memory, so whoever waits longer waits for a daemon that hangs.
const QUESTION_TIME: Duration = Duration::from_secs(10);

/// A page of the catalogue has some 300 kB; the daemon is trusted, but not without a limit.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One daemon, asked over its sockets.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    runtime: tokio::runtime::Runtime,
    /// Of systemd, for the remedies: `oca` or `oca-control`.
    unit: &'static str,
}

/// Why there is no answer to show. The message holds the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    NotFound(String),
    /// Not allowed, or not in this state.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    Failed(String),
}

impl ClientError {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unreachable(_) => Exit::Unreachable,
            Self::NotFound(_) => Exit::NotFound,
            Self::Refused(_) => Exit::Refused,
            Self::BadRequest(_) => Exit::Usage,
            Self::Failed(_) => Exit::Failed,
        }
    }
}

impl Client {
    /// Of the box's daemon.
    pub fn new(socket: &Path) -> io::Result<Self> {
        Self::of_unit(socket, "oca")
    }

    /// Of the control plane.
    pub fn of_control(socket: &Path) -> io::Result<Self> {
        Self::of_unit(socket, "oca-control")
    }

    fn of_unit(socket: &Path, unit: &'static str) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let socket = socket.to_owned();
        Ok(Self {
            socket,
            runtime,
            unit,
        })
    }

    /// Asks; falls back to the read-only twin where the socket itself is not open to this user.
    pub fn get(&self, path: &str) -> Result<Value, ClientError> {
        parse(&self.get_text(path)?)
    }

    /// Asks, and gives the answer as the daemon wrote it.
    pub fn get_text(&self, path: &str) -> Result<String, ClientError> {
        let stream = connect_for_question(&self.socket, self.unit, open)?;
        self.exchange(stream, Method::GET, path, Bytes::new())
    }

    /// Gives a command.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.post_bytes(path, body.to_string().into_bytes())
    }

    /// Gives a command whose body is a file of the operator's.
    pub fn post_bytes(&self, path: &str, body: Vec<u8>) -> Result<Value, ClientError> {
        let stream =
            open(&self.socket).map_err(|error| unreachable(&self.socket, self.unit, &error))?;
        parse(&self.exchange(stream, Method::POST, path, Bytes::from(body))?)
    }

    fn exchange(
        &self,
        stream: UnixStream,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<String, ClientError> {
        let time = if method == Method::GET {
            QUESTION_TIME
        } else {
            COMMAND_TIME
        };
        let talk = clock::within(time, talk(stream, method, path, body));
        match self.runtime.block_on(talk) {
            Ok(Ok((status, text))) if status.is_success() => Ok(text),
            Ok(Ok((status, text))) => Err(refused(status, &text)),
            Ok(Err(problem)) => Err(ClientError::Failed(format!(
                "the daemon at {} answered, but not as expected: {problem}; is it of another \
                 version? Look at `journalctl -u {}`",
                self.socket.display(),
                self.unit
            ))),
            Err(_) => Err(ClientError::Failed(format!(
                "the daemon at {} did not answer within {} s; look at `systemctl status {}`",
                self.socket.display(),
                time.as_secs(),
                self.unit
            ))),
        }
    }
}

async fn talk(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, String), String> {
    let told = |error: hyper::Error| error.to_string();
    let stream = tokio::net::UnixStream::from_std(stream).map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(told)?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(told)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8(body.to_bytes().to_vec()).map_err(|e| e.to_string())?;
        Ok((status, text))
    };
    // The connection moves the bytes; it ends by itself once the answer is complete.
    let moved = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer => answer,
        () = moved => Err("unreachable".to_owned()),
    }
}

/// The twin that answers questions: `oca-ro.sock` beside `oca.sock`.
fn read_only_twin(socket: &Path) -> PathBuf {
    let mut name = socket.file_stem().unwrap_or_default().to_owned();
    name.push("-ro");
    let mut twin = socket.with_file_name(name);
    if let Some(extension) = socket.extension() {
        twin.as_mut_os_string().push(".");
        twin.as_mut_os_string().push(extension);
    }
    twin
}

fn connect_for_question(
    socket: &Path,
    unit: &str,
    open: impl Fn(&Path) -> io::Result<UnixStream>,
) -> Result<UnixStream, ClientError> {
    let error = match open(socket) {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    if error.kind() == io::ErrorKind::PermissionDenied
        && let Ok(stream) = open(&read_only_twin(socket))
    {
        return Ok(stream);
    }
    Err(unreachable(socket, unit, &error))
}

fn open(path: &Path) -> io::Result<UnixStream> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    // A Unix connect waits for room in the accept queue as long as a send may.
    socket.set_write_timeout(Some(CONNECT_TIME))?;
    socket.connect(&socket2::SockAddr::unix(path)?)?;
    socket.set_nonblocking(true)?;
    Ok(UnixStream::from(OwnedFd::from(socket)))
}

fn unreachable(socket: &Path, unit: &str, error: &io::Error) -> ClientError {
    let path = socket.display();
    let kind = error.kind();
    let (problem, remedy) = if kind == io::ErrorKind::NotFound {
        (
            "nothing is there",
            format!(
                "is the daemon running? See `systemctl status {unit}`, or name its socket with \
                 --socket"
            ),
        )
    } else if kind == io::ErrorKind::ConnectionRefused {
        (
            "nobody answers there",
            format!(
                "the daemon has died; see `systemctl status {unit}` and `journalctl -u {unit}`"
            ),
        )
    } else if kind == io::ErrorKind::PermissionDenied {
        (
            "you may not use it",
            format!(
                "run the command as root or as a member of the group `{unit}` \
                 (`usermod -aG {unit} NAME`, then log in again)"
            ),
        )
    } else {
        let message = format!("{path}: {error}; see `systemctl status {unit}`");
        return ClientError::Unreachable(message);
    };
    ClientError::Unreachable(format!("{path}: {problem}; {remedy}"))
}

fn refused(status: StatusCode, text: &str) -> ClientError {
    let message = serde_json::from_str::<Value>(text)
        .ok()
        .and_then(|body| body.get("error")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| format!("the daemon answered {status} without saying why"));
    match status {
        StatusCode::NOT_FOUND => ClientError::NotFound(message),
        StatusCode::CONFLICT | StatusCode::FORBIDDEN => ClientError::Refused(message),
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => ClientError::BadRequest(message),
        _ => ClientError::Failed(message),
    }
}

fn parse(text: &str) -> Result<Value, ClientError> {
    serde_json::from_str(text)
        .map_err(|error| ClientError::Failed(format!("the daemon's answer is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twin_stands_beside_the_socket() {
        let twin = |path| read_only_twin(Path::new(path));
        assert_eq!(twin("/run/oca/oca.sock"), Path::new("/run/oca/oca-ro.sock"));
        assert_eq!(twin("box"), Path::new("box-ro"));
    }

    #[test]
    fn a_question_goes_to_the_twin_when_permission_is_denied_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let (full, twin) = (dir.path().join("oca.sock"), dir.path().join("oca-ro.sock"));
        let _listener = std::os::unix::net::UnixListener::bind(&twin).unwrap();
        let refusing = |kind| {
            let (full, twin) = (full.clone(), twin.clone());
            move |path: &Path| {
                if path == full {
                    return Err(io::Error::from(kind));
                }
                assert_eq!(path, twin);
                open(path)
            }
        };
        assert!(
            connect_for_question(&full, "oca", refusing(io::ErrorKind::PermissionDenied)).is_ok()
        );
        let error =
            connect_for_question(&full, "oca", refusing(io::ErrorKind::NotFound)).unwrap_err();
        assert_eq!(error.exit(), Exit::Unreachable);
        assert!(
            error.to_string().contains("systemctl status oca"),
            "{error}"
        );
    }

    #[test]
    fn each_way_of_not_reaching_the_daemon_has_its_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("oca.sock");
        let client = Client::new(&socket).unwrap();
        let error = client.get("/v1/status").unwrap_err();
        assert!(
            error.to_string().contains("is the daemon running?"),
            "{error}"
        );
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let error = client.post("/v1/undrain", &Value::Null).unwrap_err();
        assert!(error.to_string().contains("has died"), "{error}");
        assert_eq!(error.exit(), Exit::Unreachable);
        let denied = unreachable(
            &socket,
            "oca",
            &io::Error::from(io::ErrorKind::PermissionDenied),
        );
        assert!(denied.to_string().contains("group `oca`"));
    }

    #[test]
    fn a_peer_that_speaks_no_http_is_a_failure_and_not_a_hang() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("oca.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n").unwrap();
        });
        let error = Client::new(&socket).unwrap().get("/v1/status").unwrap_err();
        assert_eq!(error.exit(), Exit::Failed);
        peer.join().unwrap();
    }
}

//! A faulty wire before an HTTP service, or before bytes in memory: counts what is asked for, and
//! spoils answers on demand, down to the TCP segment.
//!
//! I/O: listens and connects on loopback; its tasks end with the test's runtime.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "most faults spoil one step of the answer and leave the others alone"
)]

use bytes::Bytes;
use oca::clock;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// What an answer is made of.
#[derive(Clone, Debug)]
pub(crate) enum Behind {
    /// An HTTP service on loopback.
    Service(u16),
    /// One object, for every path.
    Object(Bytes),
}

/// How one answer is spoiled. Numbers are bytes of the body that arrive first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spoil {
    Fine,
    /// The connection is reset in the body.
    Reset(usize),
    /// It ends in the body, politely.
    Truncated(usize),
    /// Nothing comes any more, and the connection stays.
    Stall(usize),
    /// Not even a head.
    Silent,
    /// Closed before a byte of the answer.
    Closed,
    /// From there on a byte now and then.
    Trickle(usize),
    /// This bit of the body is another.
    WrongBit(usize),
    /// Another status, with headers.
    Status(&'static str),
    /// Headers replaced or added.
    Headers(&'static [(&'static str, &'static str)]),
    /// The whole object, whatever was asked for.
    Whole,
    /// The right bytes, and then more of them for ever, in HTTP's chunks.
    Endless,
    /// A head that does not end.
    EndlessHead,
}

#[derive(Debug, Default)]
struct State {
    planned: VecDeque<Spoil>,
    asked: Vec<Asked>,
    connections: usize,
    closed: usize,
    /// Bytes of a body a second; 0: as fast as it goes.
    rate: u64,
    sent: u64,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) target: String,
    pub(crate) range: Option<Range<u64>>,
    pub(crate) head: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    behind: Behind,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct Answer {
    status: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Proxy {
    pub(crate) async fn start(behind: Behind) -> Self {
        Self::start_with(behind, None).await
    }

    pub(crate) async fn start_with(behind: Behind, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            behind,
            state: Arc::default(),
        };
        let accepting = proxy.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepting.state.lock().unwrap().connections += 1;
                let proxy = accepting.clone();
                let tls = tls.clone();
                tokio::spawn(async move {
                    // Its error is the fault that was asked for, or the client's end.
                    let _ = proxy.connection(stream, tls).await;
                    proxy.state.lock().unwrap().closed += 1;
                });
            }
        });
        proxy
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The next answers, in this order; then fine ones.
    pub(crate) fn spoil(&self, spoils: impl IntoIterator<Item = Spoil>) {
        self.state.lock().unwrap().planned.extend(spoils);
    }

    /// Bodies come at so many bytes a second from here on.
    pub(crate) fn slow(&self, rate: u64) {
        self.state.lock().unwrap().rate = rate;
    }

    /// Bytes of fine bodies that were given to the kernel.
    pub(crate) fn sent(&self) -> u64 {
        self.state.lock().unwrap().sent
    }

    /// Requests since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    /// Bytes that were asked for since the last call.
    pub(crate) fn bytes_asked(&self) -> u64 {
        let ranges = self.asked().into_iter().filter_map(|asked| asked.range);
        ranges.map(|range| range.end - range.start).sum()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// Connections that have ended, as this side sees it.
    pub(crate) fn closed(&self) -> usize {
        self.state.lock().unwrap().closed
    }

    async fn connection(&self, stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        // The same socket once more: its last close can then be a reset.
        let socket = socket2::Socket::from(stream.try_clone()?);
        let stream = TcpStream::from_std(stream)?;
        match tls {
            None => self.requests(stream, &socket).await,
            Some(tls) => self.requests(tls.accept(stream).await?, &socket).await,
        }
    }

    async fn requests<S>(&self, mut stream: S, socket: &socket2::Socket) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        while let Some(head) = read_head(&mut stream).await? {
            let asked = Asked::parse(head);
            let spoil = {
                let mut state = self.state.lock().unwrap();
                state.asked.push(asked.clone());
                state.planned.pop_front().unwrap_or(Spoil::Fine)
            };
            match spoil {
                Spoil::Closed => return Ok(()),
                Spoil::Silent => std::future::pending().await,
                Spoil::EndlessHead => loop {
                    stream.write_all(b"HTTP/1.1 206 Fine\r\n").await?;
                    for number in 0.. {
                        let line = format!("x-{number}: {}\r\n", "x".repeat(1000));
                        stream.write_all(line.as_bytes()).await?;
                    }
                },
                _ => {}
            }
            let answer = self.answer(asked, &spoil).await?;
            let rate = self.state.lock().unwrap().rate;
            if spoil == Spoil::Fine && rate > 0 {
                self.send_slowly(&mut stream, answer, rate).await?;
            } else {
                send(&mut stream, answer, spoil, socket).await?;
            }
        }
        Ok(())
    }

    async fn send_slowly<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        answer: Answer,
        rate: u64,
    ) -> io::Result<()> {
        let mut body = answer.body.clone();
        stream.write_all(head_of(&answer).as_bytes()).await?;
        let (begun, mut sent) = (clock::now(), 0);
        while !body.is_empty() {
            let piece = body.split_to(body.len().min(16 << 10));
            stream.write_all(&piece).await?;
            stream.flush().await?;
            sent += piece.len() as u64;
            self.state.lock().unwrap().sent += piece.len() as u64;
            let due = Duration::from_micros(sent * 1_000_000 / rate);
            clock::sleep_until(begun + due).await;
        }
        Ok(())
    }

    async fn answer(&self, mut asked: Asked, spoil: &Spoil) -> io::Result<Answer> {
        if let Spoil::Status(status) = spoil {
            let mut lines = status.lines();
            return Ok(Answer {
                status: lines.next().unwrap().to_owned(),
                headers: lines.map(split).collect(),
                body: Bytes::from_static(b"<Error><Code>OnPurpose</Code></Error>"),
            });
        }
        if *spoil == Spoil::Whole {
            let lines = asked.head.lines();
            let lines = lines.filter(|line| !line.to_ascii_lowercase().starts_with("range:"));
            asked.head = lines.map(|line| format!("{line}\r\n")).collect();
            asked.range = None;
        }
        match &self.behind {
            Behind::Service(port) => forward(&asked.head, *port).await,
            Behind::Object(bytes) => Ok(part(bytes, asked.range)),
        }
    }
}

impl Asked {
    fn parse(head: String) -> Self {
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let range = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
            let is_range = name.eq_ignore_ascii_case("range");
            is_range.then(|| first.parse().unwrap()..last.parse::<u64>().unwrap() + 1)
        });
        Self {
            target,
            range,
            head,
        }
    }
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut piece = [0; 2048];
        let read = stream.read(&mut piece).await?;
        if read == 0 {
            return Ok(None);
        }
        // A GET has no body, and nobody sends two at once.
        head.extend_from_slice(&piece[..read]);
    }
    Ok(Some(String::from_utf8(head).unwrap()))
}

/// The whole answer of the service: the objects of the tests are small.
async fn forward(head: &str, port: u16) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let head = head.trim_end();
    let request = format!("{head}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await?;
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&all[..end]).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split_once(' ').unwrap().1.to_owned();
    let headers = lines.map(split);
    let headers = headers.filter(|(name, _)| !name.eq_ignore_ascii_case("connection"));
    Ok(Answer {
        status,
        headers: headers.collect(),
        body: Bytes::copy_from_slice(&all[end + 4..]),
    })
}

fn part(bytes: &Bytes, range: Option<Range<u64>>) -> Answer {
    let length = bytes.len();
    let Some(range) = range else {
        return Answer {
            status: "200 OK".into(),
            headers: vec![("Content-Length".into(), length.to_string())],
            body: bytes.clone(),
        };
    };
    let (start, end) = (range.start, range.end);
    let body = bytes.slice(usize::try_from(start).unwrap()..usize::try_from(end).unwrap());
    Answer {
        status: "206 Partial Content".into(),
        headers: vec![
            ("Content-Length".into(), body.len().to_string()),
            (
                "Content-Range".into(),
                format!("bytes {start}-{}/{length}", end - 1),
            ),
        ],
        body,
    }
}

async fn send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    mut answer: Answer,
    spoil: Spoil,
    socket: &socket2::Socket,
) -> io::Result<()> {
    match &spoil {
        Spoil::Headers(headers) => {
            for (name, value) in *headers {
                replace(&mut answer.headers, name, Some(value));
            }
        }
        Spoil::Endless => {
            replace(&mut answer.headers, "Content-Length", None);
            replace(&mut answer.headers, "Transfer-Encoding", Some("chunked"));
        }
        Spoil::Status(_) => {
            let length = answer.body.len().to_string();
            replace(&mut answer.headers, "Content-Length", Some(&length));
        }
        _ => {}
    }
    stream.write_all(head_of(&answer).as_bytes()).await?;
    let body = answer.body;
    match spoil {
        Spoil::Reset(at) => {
            stream.write_all(&body[..at.min(body.len())]).await?;
            stream.flush().await?;
            // What was sent is to arrive; a reset drops what the kernel still holds.
            clock::sleep(Duration::from_millis(50)).await;
            socket.set_linger(Some(Duration::ZERO))?;
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Spoil::Truncated(at) => {
            stream.write_all(&body[..at.min(body.len())]).await?;
            stream.shutdown().await?;
            Err(io::ErrorKind::UnexpectedEof.into())
        }
        Spoil::Stall(at) => {
            stream.write_all(&body[..at.min(body.len())]).await?;
            stream.flush().await?;
            std::future::pending().await
        }
        Spoil::Trickle(at) => {
            let at = at.min(body.len());
            stream.write_all(&body[..at]).await?;
            for byte in &body[at..] {
                stream.write_all(&[*byte]).await?;
                stream.flush().await?;
                clock::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        }
        Spoil::WrongBit(at) => {
            let mut body = body.to_vec();
            body[at] ^= 1;
            stream.write_all(&body).await?;
            stream.flush().await
        }
        Spoil::Endless => loop {
            let size = format!("{:x}\r\n", body.len());
            stream.write_all(size.as_bytes()).await?;
            stream.write_all(&body).await?;
            stream.write_all(b"\r\n").await?;
        },
        _ => {
            stream.write_all(&body).await?;
            stream.flush().await
        }
    }
}

fn head_of(answer: &Answer) -> String {
    let mut head = format!("HTTP/1.1 {}\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head + "\r\n"
}

fn replace(headers: &mut Vec<(String, String)>, name: &str, value: Option<&str>) {
    headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
}

fn split(line: &str) -> (String, String) {
    let (name, value) = line.split_once(": ").unwrap();
    (name.to_owned(), value.to_owned())
}

//! A faulty wire before an HTTP service: it forwards, counts, and spoils answers on demand.
//!
//! I/O: listens and connects on loopback; its tasks end with the test's runtime.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::header;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::task::Context;
use std::task::Poll;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// How an answer is spoiled. Numbers are bytes of the body that arrive first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection ends without a head.
    Reset,
    /// The connection ends in the body.
    Truncated(usize),
    /// Nothing comes any more, and the connection stays.
    Stall(usize),
    /// 503 and S3's word for it.
    SlowDown,
    /// 500 and a long page.
    Broken,
    /// One byte of the body differs.
    WrongByte(usize),
    /// Two bytes of the body are missing, with an honest `Content-Length`.
    Short,
}

#[derive(Debug)]
struct Planned {
    /// Part of the request's target.
    target: String,
    fault: Fault,
    /// Answers that are still to be spoiled.
    times: usize,
}

#[derive(Debug, Default)]
struct State {
    planned: Vec<Planned>,
    /// Targets of GET requests, in their order.
    asked: Vec<String>,
    connections: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

impl Proxy {
    pub(crate) async fn start(to: u16) -> Self {
        Self::start_with(to, None).await
    }

    pub(crate) async fn start_with(to: u16, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
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
                    match tls {
                        None => proxy.serve(stream, to).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                proxy.serve(stream, to).await;
                            }
                        }
                    }
                });
            }
        });
        proxy
    }

    /// The next `times` GETs whose target contains `target` are spoiled.
    pub(crate) fn spoil(&self, target: &str, fault: Fault, times: usize) {
        self.state.lock().unwrap().planned.push(Planned {
            target: target.to_owned(),
            fault,
            times,
        });
    }

    /// GETs whose target contains `part`, since the last call.
    pub(crate) fn asked(&self, part: &str) -> usize {
        let mut state = self.state.lock().unwrap();
        let all = std::mem::take(&mut state.asked);
        let (matching, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|t| t.contains(part));
        state.asked = rest;
        matching.len()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// Were all planned faults used up?
    pub(crate) fn is_done(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.planned.iter().all(|planned| planned.times == 0)
    }

    async fn serve<S>(self, stream: S, to: u16)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let service = service_fn(move |request| {
            let proxy = self.clone();
            async move { proxy.answer(request, to).await }
        });
        // Its error is the fault that was asked for.
        let _ = server::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    fn fault(&self, request: &Request<Incoming>) -> Option<Fault> {
        if request.method() != Method::GET {
            return None;
        }
        let target = request.uri().to_string();
        let mut state = self.state.lock().unwrap();
        state.asked.push(target.clone());
        let planned = &mut state.planned.iter_mut();
        let planned = planned.find(|p| p.times > 0 && target.contains(&p.target))?;
        planned.times -= 1;
        Some(planned.fault)
    }

    async fn answer(&self, request: Request<Incoming>, to: u16) -> io::Result<Answer> {
        let fault = self.fault(&request);
        match fault {
            Some(Fault::Reset) => return Err(io::Error::other("reset on purpose")),
            Some(Fault::SlowDown) => {
                let body = "<Error><Code>SlowDown</Code></Error>".into();
                return Ok(response(503, body));
            }
            Some(Fault::Broken) => return Ok(response(500, "x".repeat(1 << 20).into())),
            _ => {}
        }
        let (head, mut body) = forward(request, to).await.map_err(io::Error::other)?;
        let mut answer = Response::from_parts(head, ());
        let length = body.len();
        let body = match fault {
            Some(Fault::WrongByte(at)) => {
                let mut spoiled = body.to_vec();
                spoiled[at.min(length - 1)] ^= 1;
                Full::new(spoiled.into()).map_err(|e| match e {}).boxed()
            }
            Some(Fault::Short) => {
                body.truncate(length.saturating_sub(2));
                answer.headers_mut().remove(header::CONTENT_LENGTH);
                Full::new(body).map_err(|e| match e {}).boxed()
            }
            Some(Fault::Truncated(at)) => spoiled(body.split_to(at.min(length)), true),
            Some(Fault::Stall(at)) => spoiled(body.split_to(at.min(length)), false),
            _ => Full::new(body).map_err(|e| match e {}).boxed(),
        };
        Ok(answer.map(|()| body))
    }
}

/// Sends a request on and reads the whole answer: the objects of the tests are small.
async fn forward(
    request: Request<Incoming>,
    to: u16,
) -> anyhow::Result<(hyper::http::response::Parts, Bytes)> {
    let stream = TcpStream::connect(("127.0.0.1", to)).await?;
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok((head, body.collect().await?.to_bytes()))
}

fn response(status: u16, body: Bytes) -> Answer {
    let body = Full::new(body).map_err(|e| match e {}).boxed();
    Response::builder().status(status).body(body).unwrap()
}

/// The beginning of a body, and then the end of the connection or nothing at all.
struct Spoiled {
    begin: Option<Bytes>,
    ends: bool,
}

impl Body for Spoiled {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.begin.take() {
            Some(begin) if !begin.is_empty() => {
                // What comes first is to be on the wire before the connection goes.
                self.begin = Some(Bytes::new());
                Poll::Ready(Some(Ok(Frame::data(begin))))
            }
            Some(_) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            None if self.ends => Poll::Ready(Some(Err(io::Error::other("cut on purpose")))),
            None => Poll::Pending,
        }
    }
}

fn spoiled(begin: Bytes, ends: bool) -> BoxBody<Bytes, io::Error> {
    let begin = Some(begin);
    Spoiled { begin, ends }.boxed()
}

//! The viewer: asks the public listener where to play, at a steady rate, over kept connections.
//!
//! On a thread of its own, so that what it measures is the control plane and not the thousand boxes
//! that run beside it.
//!
//! I/O: connects over loopback, sleeps.

use super::Options;
use super::SITE_BOXES;
use super::operator;
use super::routes;
use super::tally::Sort;
use super::tally::Tally;
use anyhow::Context as _;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use oca::clock;
use serde_json::Value;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Each asks its share, so that a slow answer does not hold up the others.
const CONNECTIONS: u32 = 4;

/// Above this a player has given up.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Viewer {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// One kept connection.
#[derive(Debug, Default)]
pub(super) struct Asker {
    kept: Option<http1::SendRequest<Empty<Bytes>>>,
}

impl Viewer {
    pub(super) fn start(public: SocketAddr, options: &Options, tally: Arc<Tally>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (rate, boxes) = (options.questions, options.boxes);
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let mut asking = tokio::task::JoinSet::new();
                for number in 0..CONNECTIONS {
                    asking.spawn(ask(public, number, rate, boxes, Arc::clone(&tally)));
                }
                // A dropped sender stops as well.
                let _ = stopped.await;
                asking.shutdown().await;
            });
            Ok(())
        };
        Self {
            stop,
            thread: std::thread::spawn(work),
        }
    }

    pub(super) fn stop(self) -> anyhow::Result<()> {
        drop(self.stop);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow::anyhow!("the viewer panicked"))?
    }
}

async fn ask(public: SocketAddr, number: u32, rate: u32, boxes: u32, tally: Arc<Tally>) {
    let every = Duration::from_secs(1) * CONNECTIONS / rate.max(1);
    let mut random = fastrand::Rng::with_seed(u64::from(number));
    let mut asker = Asker::default();
    let mut next = clock::now() + every * number / CONNECTIONS;
    loop {
        // An answer that is late delays the next question, and that counts; that a timer has
        // milliseconds does not.
        let is_late = clock::now() > next;
        clock::sleep_until(next).await;
        let begun = if is_late { next } else { clock::now() };
        next += every;
        let provider = random.u32(0..boxes.div_ceil(SITE_BOXES));
        let client = routes::client(provider, random.u32(..));
        let key = operator::key(random.u32(..));
        let answer = asker.steer(public, client, Some(&key)).await;
        let took = begun.elapsed();
        if let Ok(answer) = tally.count(Sort::Question, took, answer)
            && answer["boxes"][0]["box"].is_string()
        {
            tally.named();
        }
    }
}

impl Asker {
    /// The answer of `GET /v1/steer`.
    pub(super) async fn steer(
        &mut self,
        public: SocketAddr,
        client: IpAddr,
        key: Option<&str>,
    ) -> anyhow::Result<Value> {
        let key = key.map(|key| format!("&key={key}")).unwrap_or_default();
        let path = format!("/v1/steer?client={client}{key}");
        let asked = self.get(public, &path);
        let body = clock::within(ANSWER_TIME_MAX, asked)
            .await
            .context("no answer in time")??;
        Ok(serde_json::from_slice(&body)?)
    }

    /// Listeners close what is old or idle between two requests: then it is asked once more.
    async fn get(&mut self, public: SocketAddr, path: &str) -> anyhow::Result<Bytes> {
        if let Some(mut kept) = self.kept.take()
            && kept.ready().await.is_ok()
            && let Ok(answer) = exchange(&mut kept, path).await
        {
            self.kept = Some(kept);
            return Ok(answer);
        }
        let stream = TcpStream::connect(public).await?;
        stream.set_nodelay(true)?;
        let (mut fresh, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let answer = exchange(&mut fresh, path).await?;
        self.kept = Some(fresh);
        Ok(answer)
    }
}

async fn exchange(
    connection: &mut http1::SendRequest<Empty<Bytes>>,
    path: &str,
) -> anyhow::Result<Bytes> {
    let request = Request::get(path)
        .header("host", "steer.example.net")
        .body(Empty::new())?;
    let response = connection.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    anyhow::ensure!(
        status.is_success(),
        "{status}: {}",
        String::from_utf8_lossy(&body)
    );
    Ok(body)
}

//! The wiring of the fill and of what other boxes fetch here.
//!
//! `start` calls [`Rooms::start`] when there is a control plane: without one there is nobody to say
//! what is wanted, and nobody to ask. [`follow`] puts together what the control plane orders and
//! whether the clock may be believed.
//!
//! I/O: binds the peer listener, spawns the task that follows.

use super::ApplianceError;
use super::certificate_job::CertificateJob;
use super::pressure;
use super::traffic;
use crate::clock;
use crate::command::Refusal;
use crate::config::Config;
use crate::fill;
use crate::health;
use crate::ids::BoxId;
use crate::link;
use crate::link::message::FillOrders;
use crate::link::message::FillSource;
use crate::link::message::FillSources;
use crate::link::message::FillSourcesRequest;
use crate::link::message::SourceKind;
use crate::link::peering;
use crate::load;
use crate::peer;
use crate::serve;
use crate::store;
use crate::sys::clock_sync;
use crate::task::Heartbeat;
use crate::task::PhaseRx;
use crate::telemetry;
use crate::units::BytesPerSecond;
use crate::window;
use crate::window::Window;
use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use serde_json::Value;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The clock's synchronisation is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How the fill stands, for reports: empty until the fill has started.
pub(super) type Progress = Arc<OnceLock<fill::Handle>>;

/// What runs at night.
#[derive(Debug)]
pub(super) struct Night {
    pub(super) fill: fill::Handle,
    pub(super) peer: Option<peer::Handle>,
    certificate: CertificateJob,
    larder: Arc<fill::Larder>,
    follower: JoinHandle<()>,
    presser: JoinHandle<()>,
    pressure: watch::Receiver<load::View>,
    certifier: JoinHandle<()>,
}

/// `oca fill start|pause|resume`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Start,
    /// Without window and cap.
    Prefill,
    CheckCertificate(PathBuf),
    Pause,
    Resume,
}

/// What the night is made from.
pub(super) struct Ground<'a> {
    pub(super) config: &'a Config,
    pub(super) control: &'a link::Config,
    pub(super) store: &'a store::Handle,
    pub(super) serve: &'a serve::Handle,
    pub(super) line: health::Line,
    pub(super) larder: Arc<fill::Larder>,
    pub(super) phase: PhaseRx,
    pub(super) metrics: &'a telemetry::Registry,
}

/// Asks over the control link.
#[derive(Debug)]
struct Asker(health::Line);

impl fill::Ask for Asker {
    fn ask(&self, request: FillSourcesRequest) -> BoxFuture<'_, Result<FillSources, String>> {
        self.0.fill_sources(request)
    }
}

impl Night {
    /// Starts the fill, and the peer listener where one is configured.
    pub(super) fn start(ground: &Ground<'_>) -> Result<Self, ApplianceError> {
        let config = &ground.config.fill;
        let content = Arc::new(fill::StoreContent::new(ground.store.clone()));
        let larder = Arc::clone(&ground.larder);
        let peer = start_peer(ground)?;
        let orders = watch::Sender::new(fill::Orders::default());
        let seen = orders.subscribe();
        let verifier = ground.line.clone();
        let deps = fill::Deps {
            id: ground.config.appliance.id.clone(),
            content: content.clone(),
            fetch: Arc::new(fetcher(ground, content)?),
            ask: Arc::new(Asker(ground.line.clone())),
            ration: larder.clone(),
            orders: seen,
            store: ground.store.subscribe(),
            verifier: Arc::new(move || verifier.verifier()),
            gives: peer.is_some(),
            traffic: traffic::counters(ground.serve, peer.as_ref()),
        };
        let fill = fill::start(config.clone(), deps);
        fill.register(ground.metrics);
        let moves = Moves {
            store: ground.store.clone(),
            window: config.window.clone(),
            fill: fill.subscribe(),
        };
        let following = follow(ground.line.clone(), Arc::clone(&larder), orders, moves);
        let follower = tokio::spawn(following);
        let (shown, pressure) = watch::channel(load::Valve::default().view());
        let (serve, store) = (ground.serve.clone(), ground.store.clone());
        let pressing = pressure::run(serve, store, Some(Arc::clone(&larder)), shown);
        let presser = tokio::spawn(pressing);
        ground.metrics.register(Eased(pressure.clone()));
        let certificate = CertificateJob::new(
            ground.config.appliance.id.clone(),
            ground.store.clone(),
            ground.line.clone(),
            ground.config.store.state_dir.clone(),
        );
        let certifier = tokio::spawn(certify(fill.clone(), certificate.clone()));
        Ok(Self {
            fill,
            peer,
            certificate,
            larder,
            follower,
            presser,
            pressure,
            certifier,
        })
    }

    pub(super) fn clock_is_sane(&self, view: &health::ControlView) -> bool {
        clock_is_sane(view, &self.larder)
    }

    /// Of the threads that the night has of its own, for the watchdog.
    pub(super) fn heartbeats(&self) -> Vec<Heartbeat> {
        self.peer.iter().map(peer::Handle::heartbeat).collect()
    }

    pub(super) async fn carry_out(&self, verb: Verb) -> Result<Value, Refusal> {
        match verb {
            Verb::Start => self.fill.start().await,
            Verb::Prefill => self.fill.prefill().await,
            Verb::CheckCertificate(path) => {
                let certificate = self.certificate.clone();
                let check = tokio::task::spawn_blocking(move || certificate.check(path));
                check
                    .await
                    .unwrap_or_else(|error| Err(Refusal::Failed(error.to_string())))
            }
            Verb::Pause => self.fill.pause().await,
            Verb::Resume => self.fill.resume().await,
        }
    }

    /// What `oca show fill` says: the fill, its pace, and what other boxes fetch here.
    pub(super) fn value(&self) -> Value {
        let mut value = self.fill.view().value();
        value["pace"] = json!(self.larder.view());
        let pressure = self.pressure.borrow();
        if pressure.percent == 0 && value["reason"].is_null() {
            value["reason"] = json!(pressure.reason);
        }
        value["load"] = json!(*pressure);
        value["certificate"] = self.certificate.view();
        value["peer"] = json!(self.peer.as_ref().map(peer::Handle::view));
        value
    }
}

impl Drop for Night {
    fn drop(&mut self) {
        self.follower.abort();
        self.presser.abort();
        self.certifier.abort();
        self.certificate.stop();
    }
}

/// What viewers leave to the fill, in OpenMetrics.
#[derive(Debug)]
struct Eased(watch::Receiver<load::View>);

impl telemetry::Collector for Eased {
    fn collect(&self, into: &mut telemetry::Exposition<'_>) -> std::fmt::Result {
        let view = self.0.borrow().clone();
        let help = "Percent of the cap that viewers leave to the fill.";
        into.gauge("fill_load_percent", help, f64::from(view.percent))?;
        let help = "How often the fill was slowed or paused for viewers.";
        into.counter("fill_load_eased", help, view.eased as f64)
    }
}

/// Transfers end; what is durable of them stays staged.
pub(super) async fn stop(night: Option<Arc<Night>>) {
    let Some(night) = night else { return };
    night.certificate.stop();
    night.fill.stop().await;
    if let Some(peer) = &night.peer {
        peer.stop();
    }
}

/// When the fill's task is gone, which is a fault of ours; never without a fill.
pub(super) async fn ended(night: Option<&Arc<Night>>) {
    match night {
        Some(night) => night.fill.ended().await,
        None => std::future::pending().await,
    }
}

fn start_peer(ground: &Ground<'_>) -> Result<Option<peer::Handle>, ApplianceError> {
    let config = &ground.config.peer;
    if config.listen.is_empty() {
        return Ok(None);
    }
    let line = ground.line.clone();
    let deps = peer::Deps {
        id: ground.config.appliance.id.clone(),
        identity: Arc::new(move || Some((line.identity()?, line.verifier()?))),
        store: ground.store.clone(),
        bind: Arc::new(peer::net::Tcp),
        spawn: Arc::new(peer::net::ThreadBehind),
        offload: ground.config.serve.tls_offload,
        phase: ground.phase.clone(),
        metrics: ground.metrics.clone(),
        limits: peer::Limits::default(),
    };
    Ok(Some(peer::start(config, deps)?))
}

fn fetcher(
    ground: &Ground<'_>,
    receive: Arc<fill::StoreContent>,
) -> Result<fill::Fetcher, ApplianceError> {
    let config = &ground.config.fill;
    let place = peering::gateway(&ground.control.url)?;
    let fetch = fill::FetchConfig {
        private_sources: config.private_sources,
        plain_origin: config.plain_origin,
        origin_ca: config.origin_ca.clone(),
        gateway: Some(fill::Gateway {
            host: place.host,
            port: place.port,
            server_name: place.server_name,
        }),
        limits: fill::FetchLimits::default(),
    };
    let line = ground.line.clone();
    let tls = Arc::new(move |source: &FillSource| client_config(&line, source));
    let resolver = Arc::new(fill::SystemResolver);
    Ok(fill::Fetcher::new(fetch, tls, resolver, receive))
}

/// As a client of another box, or of the control plane.
fn client_config(line: &health::Line, source: &FillSource) -> Result<Arc<ClientConfig>, String> {
    let identity = line.identity().ok_or("this box is not enrolled")?;
    let config = match source.kind {
        SourceKind::Peer | SourceKind::Tier | SourceKind::Network => {
            let id = BoxId::parse(&source.id).map_err(|error| error.to_string())?;
            peering::box_client_config(&identity, &id)
        }
        SourceKind::Origin => peering::gateway_client_config(&identity),
    };
    config.map_err(|error| error.to_string())
}

/// What a fill without window and cap has brought is certified when it is done.
async fn certify(fill: fill::Handle, job: CertificateJob) {
    let (mut view, mut seen) = (fill.subscribe(), 0);
    drop(fill);
    while view.changed().await.is_ok() {
        let completed = view.borrow_and_update().prefill.completed;
        if completed > seen {
            seen = completed;
            job.make(completed);
        }
    }
}

/// Puts the control plane's orders and the clock's word together, until the link ends.
async fn follow(
    line: health::Line,
    larder: Arc<fill::Larder>,
    orders: watch::Sender<fill::Orders>,
    moves: Moves,
) {
    let mut view = line.subscribe();
    let mut site = SiteWindow::default();
    loop {
        let told = view.borrow_and_update().clone();
        let window = told.fill.as_ref().and_then(|orders| site.of(orders));
        let is_sane = clock_is_sane(&told, &larder);
        moves.allow(window.as_ref(), is_sane);
        let next = ordered(&told, window, is_sane);
        orders.send_if_modified(|old| {
            let differs = *old != next;
            if differs {
                *old = next;
            }
            differs
        });
        // A link that has ended says nothing, and the wiring ends the process.
        if let Ok(Err(_)) = clock::within(LOOK_EVERY, view.changed()).await {
            return;
        }
    }
}

/// Moves between disks keep the fill's hours, and make room for it.
#[derive(Debug)]
struct Moves {
    store: store::Handle,
    /// As configured: where the control plane says nothing else.
    window: Window,
    fill: watch::Receiver<Arc<fill::View>>,
}

impl Moves {
    fn allow(&self, ordered: Option<&Window>, clock_is_sane: bool) {
        let (now, wall) = (clock::now(), clock::wall());
        let standing = ordered.unwrap_or(&self.window).standing(wall);
        let open = standing.open.filter(|_| clock_is_sane);
        self.store.allow_moves(open.map(|opening| {
            let left = Duration::try_from(opening.closes.duration_since(wall));
            store::Night {
                date: opening.date,
                until: now + left.unwrap_or_default(),
            }
        }));
        if self.fill.borrow().no_room > 0 {
            self.store.note_no_room();
        }
    }
}

fn ordered(view: &health::ControlView, window: Option<Window>, clock_sane: bool) -> fill::Orders {
    let site = view.fill.as_ref();
    fill::Orders {
        window,
        rate_limit: site
            .and_then(|site| site.rate_limit_bps)
            .map(|bits| BytesPerSecond(bits / 8)),
        urgent: site.map(|site| site.urgent.clone()).unwrap_or_default(),
        deletion_override: site.and_then(|site| site.deletion_override.clone()),
        acknowledged: view.acknowledged,
        clock_sane,
        connected: view.state == health::LinkState::Connected,
        // Viewers' network is not for this, whatever else was said.
        prefilling: site.is_some_and(|site| site.prefilling) && !view.enabled,
    }
}

/// The site's window, made once from what was ordered and complained of once.
#[derive(Debug, Default)]
struct SiteWindow {
    /// Zone, start and seconds.
    ordered: Option<(String, String, u64)>,
    made: Option<Window>,
}

impl SiteWindow {
    fn of(&mut self, site: &FillOrders) -> Option<Window> {
        let (zone, start) = (site.timezone.clone(), site.window_start.clone());
        let ordered = Some((zone, start, site.window_s));
        if self.ordered != ordered {
            self.made = window(site);
            self.ordered = ordered;
        }
        self.made.clone()
    }
}

fn window(site: &FillOrders) -> Option<Window> {
    let start = window::seconds_of_day(&site.window_start);
    let length = Duration::from_secs(site.window_s);
    let made = start.and_then(|start| Window::new(&site.timezone, start, length));
    made.inspect_err(|error| {
        tracing::warn!(%error, "the control plane's window is no window; the configured one stays");
    })
    .ok()
}

fn clock_is_sane(view: &health::ControlView, larder: &fill::Larder) -> bool {
    let is_synchronised = clock_sync::is_synchronised().unwrap_or(false);
    is_believed(view.clock_agrees, is_synchronised, larder)
}

/// Somebody who should know says so, and nobody says otherwise (SAFETY: cap and clock). `agrees`:
/// the control plane's clock with ours; `is_synchronised`: by the kernel's word.
fn is_believed(agrees: Option<bool>, is_synchronised: bool, larder: &fill::Larder) -> bool {
    let is_vouched_for = agrees == Some(true) || is_synchronised;
    is_vouched_for && agrees != Some(false) && !larder.is_below_floor(clock::wall())
}

#[cfg(test)]
#[path = "night_tests.rs"]
mod tests;

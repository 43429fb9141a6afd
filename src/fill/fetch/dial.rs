//! One connection to a source: addresses checked, TCP, TLS.
//!
//! [`super::stream`] opens one when [`super::pool`] has none. Every address of a name must be
//! allowed, and the connection goes to one that was checked. Sends no request.
//!
//! I/O: resolves, connects, shakes hands.

use super::Config;
use super::TlsFor;
use super::handshake;
use super::meter::Meter;
use super::meter::Metered;
use super::place::Door;
use super::place::Place;
use super::place::Way;
use super::resolve;
use super::resolve::Resolve;
use crate::clock;
use crate::clock::Instant;
use crate::fill::Fault;
use crate::help::printable;
use crate::link::message::FillSource;
use crate::tls;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpMaxSeg;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// For one address, when there are others.
const ADDRESS_TIME_MAX: Duration = Duration::from_secs(3);

/// Loopback's. A sender whose segment does not fit into the window waits for a timer before it
/// sends a part, so smaller buffers are offered shorter segments: so many fit.
const LONGEST_SEGMENT: u32 = 64 << 10;
const SEGMENTS_MIN: u32 = 4;

/// Makes connections.
pub(super) struct Dialler {
    pub(super) config: Config,
    tls: TlsFor,
    resolver: Arc<dyn Resolve>,
    /// Of the origin; read when it is first asked over HTTPS.
    roots: OnceCell<Arc<ClientConfig>>,
}

/// A stream of bytes, behind TLS or not.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

/// What is known of one; its stream goes from request to body and back.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) door: Door,
    pub(super) meter: Arc<Meter>,
    /// As `SO_RCVBUF` was set.
    pub(super) receive_buffer: u32,
    pub(super) born: Instant,
}

impl Dialler {
    pub(super) fn new(config: Config, tls: TlsFor, resolver: Arc<dyn Resolve>) -> Self {
        Self {
            config,
            tls,
            resolver,
            roots: OnceCell::new(),
        }
    }

    /// Everything is read through `meter`, the handshake too. `buffer`: its `SO_RCVBUF`.
    pub(super) async fn open(
        &self,
        source: &FillSource,
        place: &Place,
        meter: Arc<Meter>,
        buffer: u32,
    ) -> Result<(Connection, Box<dyn Io>), Fault> {
        let within = self.config.limits.connect;
        let opening = self.open_at(source, &place.door, meter, buffer);
        let opened = clock::within(within, opening).await;
        opened.unwrap_or_else(|_| {
            let Door { host, port, .. } = &place.door;
            let problem = format!("no connection to {host}:{port} within {within:?}");
            Err(Fault::Broken(problem))
        })
    }

    async fn open_at(
        &self,
        source: &FillSource,
        door: &Door,
        meter: Arc<Meter>,
        buffer: u32,
    ) -> Result<(Connection, Box<dyn Io>), Fault> {
        let tls = self.tls_for(source, door).await?;
        let addresses = self.addresses(door).await?;
        let stream = self.connect(&addresses, buffer).await?;
        let metered = Metered::new(stream, Arc::clone(&meter));
        let io: Box<dyn Io> = match tls {
            None => Box::new(metered),
            Some((config, name)) => {
                let sealed = handshake::shake(&config, name, metered).await;
                Box::new(sealed.map_err(|error| fault(&error))?)
            }
        };
        let connection = Connection {
            door: door.clone(),
            meter,
            receive_buffer: buffer,
            born: clock::now(),
        };
        Ok((connection, io))
    }

    /// `None`: plain HTTP, which is for the origin alone and was asked for.
    async fn tls_for(
        &self,
        source: &FillSource,
        door: &Door,
    ) -> Result<Option<(Arc<ClientConfig>, ServerName<'static>)>, Fault> {
        let named = || {
            let name = ServerName::try_from(door.host.clone());
            name.map_err(|_| Fault::Refused(format!("`{}` is no host name", door.host)))
        };
        let ours = || (self.tls)(source).map_err(Fault::Broken);
        match &door.way {
            Way::Box(_) => Ok(Some((ours()?, named()?))),
            Way::Gateway => {
                let gateway = self.config.gateway.as_ref();
                let name = gateway.map(|gateway| gateway.server_name.clone());
                Ok(Some((ours()?, name.map_or_else(named, Ok)?)))
            }
            Way::Origin { tls: false } => Ok(None),
            Way::Origin { tls: true } => {
                let roots = self.roots.get_or_try_init(|| self.read_roots()).await?;
                Ok(Some((Arc::clone(roots), named()?)))
            }
        }
    }

    async fn read_roots(&self) -> Result<Arc<ClientConfig>, Fault> {
        let bundle = self.config.origin_ca.clone();
        let read = tokio::task::spawn_blocking(move || tls::web_client(bundle.as_deref())).await;
        read.map_err(|error| Fault::Broken(error.to_string()))?
            .map_err(|error| Fault::Broken(error.to_string()))
    }

    /// Each of them may be connected to. The link's own are the operator's word.
    async fn addresses(&self, door: &Door) -> Result<Vec<SocketAddr>, Fault> {
        let Door { host, port, way } = door;
        let resolved = self.resolver.resolve(host, *port).await;
        let broken = |error: io::Error| {
            let problem = printable(error.to_string().as_bytes(), 200);
            Fault::Broken(format!("`{host}` has no address: {problem}"))
        };
        let mut addresses = resolved.map_err(broken)?;
        let checked = match way {
            Way::Box(_) | Way::Origin { .. } => true,
            Way::Gateway => false,
        };
        let private = self.config.private_sources;
        let bad = addresses
            .iter()
            .find(|address| !resolve::is_allowed(address.ip(), private));
        if let Some(bad) = bad.filter(|_| checked) {
            let problem = format!(
                "{host} is at {}, which is not an address of the internet; \
                 `[fill] private_sources` would allow private ones",
                bad.ip()
            );
            return Err(Fault::Refused(problem));
        }
        addresses.truncate(ADDRESSES_MAX);
        for address in &mut addresses {
            address.set_port(*port);
        }
        Ok(addresses)
    }

    async fn connect(&self, addresses: &[SocketAddr], buffer: u32) -> Result<TcpStream, Fault> {
        let mut failure = "the name has no address".to_owned();
        let most = match addresses {
            [_, _, ..] => ADDRESS_TIME_MAX,
            [] | [_] => self.config.limits.connect,
        };
        for address in addresses {
            match clock::within(most, connect_to(*address, buffer)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = format!("{address}: {error}"),
                Err(error) => failure = format!("{address}: {error}"),
            }
        }
        Err(Fault::Broken(failure))
    }
}

async fn connect_to(address: SocketAddr, buffer: u32) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Before the connection: the window that TCP offers follows from it.
    socket.set_recv_buffer_size(buffer)?;
    if buffer < LONGEST_SEGMENT {
        setsockopt(&socket, TcpMaxSeg, &(buffer / SEGMENTS_MIN))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// A certificate that is not believed, on either side, is a refusal; everything else may pass.
pub(super) fn fault(error: &(dyn Error + 'static)) -> Fault {
    let mut last = error;
    let mut refusal = None;
    let mut next = Some(error);
    while let Some(error) = next {
        last = error;
        refusal = refusal.or_else(|| tls_refusal(error));
        let inside = error.downcast_ref::<io::Error>();
        let inside = inside.and_then(|error| error.get_ref());
        next = match inside {
            Some(inside) => Some(inside),
            None => error.source(),
        };
    }
    let told = |text: String| printable(text.as_bytes(), 300);
    match refusal {
        Some(problem) => Fault::Refused(told(format!("TLS: {problem}"))),
        None => Fault::Broken(told(last.to_string())),
    }
}

fn tls_refusal(error: &(dyn Error + 'static)) -> Option<String> {
    let error = error.downcast_ref::<rustls::Error>()?;
    let is_refusal = matches!(
        error,
        rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)
    );
    is_refusal.then(|| error.to_string())
}

//! A router that speaks just enough BGP to announce routes: `oca demo-router FILE`.
//!
//! It is written apart from [`crate::bgp`], so that a shared mistake cannot hide. SIGHUP makes it
//! read its file again and announce or withdraw the difference. [`super::router`] starts it.
//!
//! I/O: connects to boxes, waits for signals, reads one file.

use crate::clock;
use crate::prefix::Family;
use crate::prefix::Prefix;
use anyhow::Context as _;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::watch;

const HOLD_SECONDS: u16 = 90;
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// RFC 4271 section 4.1.
const MESSAGE_BYTES_MAX: usize = 4096;
const HEADER_BYTES: usize = 19;
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;

/// AS_TRANS of RFC 6793, where only two octets fit.
const AS_TRANS: u16 = 23456;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Script {
    pub asn: u32,
    /// Source of its connections, and its BGP identifier.
    pub address: Ipv4Addr,
    pub boxes: Vec<SocketAddr>,
    pub routes: Vec<Announcement>,
}

/// One route, as every box of the site hears it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Announcement {
    pub prefix: Prefix,
    /// Behind the router's own AS.
    pub path: Vec<u32>,
    pub med: Option<u32>,
}

/// Runs until it is killed.
pub fn run(file: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the router's runtime")?;
    runtime.block_on(async {
        let script = read(file)?;
        let boxes = script.boxes.clone();
        let (sender, receiver) = watch::channel(Arc::new(script));
        for address in boxes {
            tokio::spawn(speak(address, receiver.clone()));
        }
        let mut reload = signal(SignalKind::hangup()).context("cannot watch for signals")?;
        let mut stop = signal(SignalKind::terminate()).context("cannot watch for signals")?;
        loop {
            tokio::select! {
                _ = reload.recv() => { sender.send_replace(Arc::new(read(file)?)); }
                _ = stop.recv() => return Ok(()),
            }
        }
    })
}

fn read(file: &Path) -> anyhow::Result<Script> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no script", file.display()))
}

/// One session after the other.
async fn speak(to: SocketAddr, mut scripts: watch::Receiver<Arc<Script>>) {
    loop {
        if let Err(error) = session(to, &mut scripts).await {
            tracing::debug!(%to, error = format!("{error:#}"), "the session ended");
            eprintln!("router: session with {to}: {error:#}");
        }
        clock::sleep(RETRY_AFTER).await;
    }
}

async fn session(to: SocketAddr, scripts: &mut watch::Receiver<Arc<Script>>) -> anyhow::Result<()> {
    let mut script = Arc::clone(&scripts.borrow_and_update());
    let socket = TcpSocket::new_v4().context("no socket")?;
    socket.set_reuseaddr(true).context("no socket")?;
    let source = SocketAddr::new(IpAddr::V4(script.address), 0);
    socket
        .bind(source)
        .with_context(|| format!("cannot use {source}"))?;
    let mut stream = socket.connect(to).await.context("cannot connect")?;
    stream.set_nodelay(true).context("no socket")?;
    stream.write_all(&open(&script)).await.context("OPEN")?;
    expect(&mut stream, OPEN).await?;
    stream
        .write_all(&message(KEEPALIVE, &[]))
        .await
        .context("KEEPALIVE")?;
    expect(&mut stream, KEEPALIVE).await?;
    for route in &script.routes {
        stream
            .write_all(&announce(&script, route))
            .await
            .context("UPDATE")?;
    }
    for end in end_of_rib() {
        stream.write_all(&end).await.context("End-of-RIB")?;
    }
    let (mut from, mut to) = stream.into_split();
    let reading = async {
        loop {
            let (kind, body) = next(&mut from).await?;
            anyhow::ensure!(kind != NOTIFICATION, "NOTIFICATION {body:?}");
        }
    };
    let writing = async {
        loop {
            tokio::select! {
                () = clock::sleep(KEEPALIVE_EVERY) => to.write_all(&message(KEEPALIVE, &[])).await?,
                changed = scripts.changed() => {
                    changed.context("the router stops")?;
                    let fresh = Arc::clone(&scripts.borrow_and_update());
                    for update in difference(&script, &fresh) {
                        to.write_all(&update).await?;
                    }
                    script = fresh;
                }
            }
        }
    };
    tokio::select! {
        outcome = reading => outcome,
        outcome = writing => outcome,
    }
}

async fn expect(stream: &mut TcpStream, kind: u8) -> anyhow::Result<()> {
    let (found, body) = next(stream).await?;
    anyhow::ensure!(found == kind, "message {found} {body:?} instead of {kind}");
    Ok(())
}

async fn next(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<(u8, Vec<u8>)> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await.context("no header")?;
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let is_sane = (HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&length);
    anyhow::ensure!(is_sane, "a message of {length} bytes");
    let mut body = vec![0; length - HEADER_BYTES];
    stream.read_exact(&mut body).await.context("no body")?;
    Ok((header[18], body))
}

/// What takes a neighbour from one script to the next: withdrawals, then announcements.
fn difference(old: &Script, new: &Script) -> Vec<Vec<u8>> {
    let by_prefix = |script: &Script| -> BTreeMap<Prefix, Announcement> {
        let pairs = script
            .routes
            .iter()
            .map(|route| (route.prefix, route.clone()));
        pairs.collect()
    };
    let (was, is) = (by_prefix(old), by_prefix(new));
    let gone = was.keys().filter(|prefix| !is.contains_key(prefix));
    let fresh = is
        .iter()
        .filter(|(prefix, route)| was.get(prefix) != Some(route));
    gone.map(withdraw)
        .chain(fresh.map(|(_, route)| announce(new, route)))
        .collect()
}

/// RFC 4271 section 4.1.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER_BYTES + body.len()).unwrap_or(u16::MAX);
    let mut bytes = vec![0xff; 16];
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// OPEN with IPv4 and IPv6 unicast (RFC 4760) and four-octet AS numbers (RFC 6793).
fn open(script: &Script) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4];
    capabilities.extend(script.asn.to_be_bytes());
    let short = u16::try_from(script.asn).unwrap_or(AS_TRANS);
    let mut body = vec![4];
    body.extend(short.to_be_bytes());
    body.extend(HOLD_SECONDS.to_be_bytes());
    body.extend(script.address.octets());
    body.extend([byte(capabilities.len() + 2), 2, byte(capabilities.len())]);
    body.extend(capabilities);
    message(OPEN, &body)
}

/// One route in one UPDATE.
fn announce(script: &Script, route: &Announcement) -> Vec<u8> {
    let mut attributes = attribute(0x40, 1, &[0]);
    let mut path = vec![2, byte(route.path.len() + 1)];
    for asn in [script.asn].iter().chain(&route.path) {
        path.extend(asn.to_be_bytes());
    }
    attributes.extend(attribute(0x40, 2, &path));
    let nlri = nlri(&route.prefix);
    let is_ipv4 = route.prefix.family() == Family::Ipv4;
    if is_ipv4 {
        attributes.extend(attribute(0x40, 3, &script.address.octets()));
    }
    if let Some(med) = route.med {
        attributes.extend(attribute(0x80, 4, &med.to_be_bytes()));
    }
    if is_ipv4 {
        return update(&[], &attributes, &nlri);
    }
    // RFC 4760 section 3: AFI 2, SAFI 1, next hop, one reserved octet.
    let next_hop = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let mut reach = vec![0, 2, 1, 16];
    reach.extend(next_hop.octets());
    reach.push(0);
    reach.extend(nlri);
    attributes.extend(attribute(0x80, 14, &reach));
    update(&[], &attributes, &[])
}

fn withdraw(prefix: &Prefix) -> Vec<u8> {
    let nlri = nlri(prefix);
    match prefix.family() {
        Family::Ipv4 => update(&nlri, &[], &[]),
        Family::Ipv6 => {
            let unreach = [&[0, 2, 1], nlri.as_slice()].concat();
            update(&[], &attribute(0x80, 15, &unreach), &[])
        }
    }
}

/// RFC 4724 section 2.
fn end_of_rib() -> [Vec<u8>; 2] {
    [
        update(&[], &[], &[]),
        update(&[], &attribute(0x80, 15, &[0, 2, 1]), &[]),
    ]
}

fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let length = |part: &[u8]| u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut body = length(withdrawn).to_vec();
    body.extend(withdrawn);
    body.extend(length(attributes));
    body.extend(attributes);
    body.extend(nlri);
    message(UPDATE, &body)
}

fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flags, code, byte(value.len())];
    bytes.extend(value);
    bytes
}

fn nlri(prefix: &Prefix) -> Vec<u8> {
    let octets = match prefix.address() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let used = usize::from(prefix.length()).div_ceil(8);
    [&[prefix.length()], &octets[..used]].concat()
}

/// Every length here is that of a few routes of a demo.
fn byte(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(routes: &[(&str, Option<u32>)]) -> Script {
        let route = |(prefix, med): &(&str, Option<u32>)| Announcement {
            prefix: prefix.parse().unwrap(),
            path: vec![64510],
            med: *med,
        };
        Script {
            asn: 64500,
            address: Ipv4Addr::LOCALHOST,
            boxes: Vec::new(),
            routes: routes.iter().map(route).collect(),
        }
    }

    #[test]
    fn a_change_of_script_is_what_was_withdrawn_added_or_altered() {
        let old = script(&[("192.0.2.0/24", None), ("198.51.100.0/24", None)]);
        let new = script(&[("198.51.100.0/24", Some(5)), ("2001:db8::/32", None)]);
        let updates = difference(&old, &new);
        assert_eq!(updates.len(), 3);
        assert_eq!(updates[0], withdraw(&"192.0.2.0/24".parse().unwrap()));
        assert!(difference(&new, &new).is_empty());
    }

    #[test]
    fn an_update_is_framed_as_the_rfc_draws_it() {
        let script = script(&[("192.0.2.0/23", Some(7))]);
        let bytes = announce(&script, &script.routes[0]);
        assert_eq!(
            usize::from(u16::from_be_bytes([bytes[16], bytes[17]])),
            bytes.len()
        );
        assert_eq!(bytes[bytes.len() - 4..], [23, 192, 0, 2]);
        assert_eq!(
            withdraw(&script.routes[0].prefix)[19..],
            [0, 4, 23, 192, 0, 2, 0, 0]
        );
    }
}

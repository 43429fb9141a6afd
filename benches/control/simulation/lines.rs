//! A box's connections: from a loopback address of its own, each counted.
//!
//! I/O: connects over loopback.

use super::tally::Tally;
use oca::link::dial::Dial;
use oca::link::dial::Dialling;
use oca::link::dial::Stream;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpSocket;

/// Every box has an address of its own, as in life: the listener counts by address.
#[derive(Debug)]
pub(super) struct Lines {
    source: Ipv4Addr,
    tally: Arc<Tally>,
}

impl Lines {
    pub(super) fn new(number: u32, tally: Arc<Tally>) -> Self {
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + number);
        Self { source, tally }
    }
}

impl Dial for Lines {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialling<'a> {
        Box::pin(async move {
            let address: IpAddr = host.parse().map_err(io::Error::other)?;
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(self.source.into(), 0))?;
            self.tally.dialled();
            let stream = socket.connect(SocketAddr::new(address, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

//! The addresses that are served on, as the configuration lists them, and their sockets.
//!
//! I/O: binds sockets.

use super::Config;
use super::ServeError;
use super::listener::Bind;
use super::listener::Bound;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// An address as configured, and whether TLS is spoken there.
pub(super) type Place = (SocketAddr, bool);

/// Sockets for one address, one a worker, and the address they really have.
pub(super) struct Opened {
    pub(super) place: Place,
    pub(super) actual: SocketAddr,
    pub(super) sockets: Vec<Box<dyn Bound>>,
}

pub(super) fn places(config: &Config) -> Result<Vec<Place>, ServeError> {
    let secure = config.listen.iter().map(|address| (*address, true));
    let plain = config.plain_listen.iter().map(|address| (*address, false));
    let mut places: Vec<Place> = Vec::new();
    for place in secure.chain(plain) {
        // Port 0 asks for any free port, which two lists may do at once.
        let same =
            |known: &Place| known.0 == place.0 && (place.0.port() != 0 || known.1 == place.1);
        if places.iter().any(same) {
            return Err(ServeError::Twice(place.0));
        }
        places.push(place);
    }
    Ok(places)
}

/// Binds the addresses that are not open yet, once for each worker.
pub(super) fn open_all(
    places: &[Place],
    present: &BTreeMap<Place, SocketAddr>,
    bind: &dyn Bind,
    workers: usize,
) -> Result<Vec<Opened>, ServeError> {
    let mut opened: Vec<Opened> = Vec::new();
    for place in places.iter().filter(|place| !present.contains_key(place)) {
        // Our own sockets on that port (another address, or the same with TLS) would look like
        // somebody else's.
        let port = place.0.port();
        let is_ours = present.values().any(|own| own.port() == port)
            || opened.iter().any(|own| own.actual.port() == port);
        if port != 0 && !is_ours {
            let (address, _) = *place;
            let failed = |source| ServeError::Bind { address, source };
            bind.check_free(address).map_err(failed)?;
        }
        opened.push(open_one(*place, bind, workers)?);
    }
    Ok(opened)
}

fn open_one(place: Place, bind: &dyn Bind, workers: usize) -> Result<Opened, ServeError> {
    let (configured, _) = place;
    let failed = |source| ServeError::Bind {
        address: configured,
        source,
    };
    let mut actual = configured;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let bound = bind.bind(actual).map_err(failed)?;
        // With port 0 the first bind finds the port and the others share it.
        actual = bound.local_addr().map_err(failed)?;
        sockets.push(bound);
    }
    Ok(Opened {
        place,
        actual,
        sockets,
    })
}

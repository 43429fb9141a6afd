//! What boxes say of how content reaches their clients.

use crate::prefix::Prefix;
use serde::Deserialize;
use serde::Serialize;

/// Networks in one report. A quarter of a thousand holds most of the bytes of a box, and is read in
/// a third of a millisecond: a fleet reports 60 times a second.
pub const QUALITY_NETWORKS_MAX: usize = 256;

/// Delivery over the last minutes, by client network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quality {
    /// The figures are of this long.
    pub window_s: u64,
    /// Networks that were sent anything.
    pub networks: u64,
    pub total: Delivery,
    /// Those with most bytes, in this order; at most [`QUALITY_NETWORKS_MAX`].
    pub rows: Vec<NetworkDelivery>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkDelivery {
    /// An IPv4 /24 or an IPv6 /48.
    pub prefix: Prefix,
    pub delivery: Delivery,
}

/// Figures of one network, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// With at least one byte of an object.
    pub responses: u64,
    pub bytes: u64,
    /// Responses held to a rate; they are not in the percentiles.
    pub paced: u64,
    /// Responses to requests with CMCD.
    pub cmcd: u64,
    /// Of these, to players whose buffer had run empty.
    pub starvations: u64,
    /// Time in which sampled connections had something to send, and what was confirmed in it.
    pub busy_ms: u64,
    pub acked_bytes: u64,
    /// What sampled connections sent, and what of it was sent again.
    pub sent_bytes: u64,
    pub retransmitted_bytes: u64,
    /// Mean and least round trip of the samples.
    pub rtt_us: Option<u64>,
    pub min_rtt_us: Option<u64>,
    /// Throughput that a tenth, half, nine tenths of the samples did not exceed.
    pub p10_kbps: Option<u64>,
    pub p50_kbps: Option<u64>,
    pub p90_kbps: Option<u64>,
    /// Median of what players say that they measured.
    pub mtp_p50_kbps: Option<u64>,
}

//! Delivery quality as the report carries it. Called by `calls` when a report is composed.

use crate::link::message::Delivery;
use crate::link::message::NetworkDelivery;
use crate::link::message::QUALITY_NETWORKS_MAX;
use crate::link::message::Quality;
use crate::serve::DeliveryView;
use crate::serve::QualityView;

/// `None` while nothing was delivered.
pub(super) fn quality(view: &QualityView) -> Option<Quality> {
    let rows = view.rows.iter().take(QUALITY_NETWORKS_MAX);
    let rows = rows.map(|row| NetworkDelivery {
        prefix: row.prefix,
        delivery: delivery(&row.delivery),
    });
    (view.networks > 0).then(|| Quality {
        window_s: view.window_s,
        networks: view.networks,
        total: delivery(&view.total),
        rows: rows.collect(),
    })
}

fn delivery(view: &DeliveryView) -> Delivery {
    Delivery {
        responses: view.responses,
        bytes: view.bytes,
        paced: view.paced,
        cmcd: view.cmcd,
        starvations: view.starvations,
        busy_ms: view.busy_ms,
        acked_bytes: view.acked_bytes,
        sent_bytes: view.sent_bytes,
        retransmitted_bytes: view.retransmitted_bytes,
        rtt_us: view.rtt_us,
        min_rtt_us: view.min_rtt_us,
        p10_kbps: view.p10_kbps,
        p50_kbps: view.p50_kbps,
        p90_kbps: view.p90_kbps,
        mtp_p50_kbps: view.mtp_p50_kbps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::NetworkView;

    #[test]
    fn a_report_has_the_busiest_networks_and_nothing_when_nothing_was_delivered() {
        assert_eq!(quality(&QualityView::default()), None);
        let row = |number: usize| NetworkView {
            prefix: format!("10.{}.{}.0/24", number / 256, number % 256)
                .parse()
                .unwrap(),
            delivery: DeliveryView {
                responses: 2,
                bytes: 1_000_000 - number as u64,
                starvations: 1,
                p50_kbps: Some(25_000),
                ..DeliveryView::default()
            },
        };
        let view = QualityView {
            window_s: 400,
            networks: 1_000,
            rows: (0..1_000).map(row).collect(),
            ..QualityView::default()
        };
        let told = quality(&view).unwrap();
        assert_eq!((told.window_s, told.networks), (400, 1_000));
        assert_eq!(told.rows.len(), QUALITY_NETWORKS_MAX);
        assert_eq!(told.rows[1].prefix.to_string(), "10.0.1.0/24");
        let delivery = told.rows[1].delivery;
        assert_eq!((delivery.bytes, delivery.starvations), (999_999, 1));
        assert_eq!((delivery.p50_kbps, delivery.p90_kbps), (Some(25_000), None));
    }
}

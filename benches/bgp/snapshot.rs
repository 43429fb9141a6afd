//! What a snapshot costs: a full table with all, one or a hundredth of its routes changed, as the
//! publisher makes one of a neighbour's batch.

use crate::figure::Figure;
use crate::phases::alone;
use crate::stream::Table;
use oca::clock;
use oca::prefix::Family;
use oca::route::Class;
use oca::route::Packer;
use oca::route_table;
use oca::route_table::Changes;
use oca::route_table::Key;
use oca::route_table::Row;
use oca::route_table::SetId;
use oca::route_table::Sets;
use oca::route_table::Source;
use std::hint::black_box;

/// Odd: the middle one is told.
const ROUNDS: usize = 5;

/// The routes of a table with the sets that they have.
struct Rows {
    routes: Vec<(oca::prefix::Prefix, SetId)>,
    sets: Sets,
}

pub(crate) fn figures(table: &Table) -> Vec<Figure> {
    let rows = Rows::of(table);
    let empty = route_table::Table::new(source());
    let full = empty.changed(source(), rows.changes(1), rows.sets.pages());
    let cost = |before: &route_table::Table, every: usize| -> Vec<f64> {
        let once = |_| {
            let changes = rows.changes(every);
            let begun = clock::now();
            black_box(before.changed(source(), changes, rows.sets.pages()));
            begun.elapsed().as_secs_f64() * 1e3
        };
        (0..ROUNDS).map(once).collect()
    };
    vec![
        alone("a first snapshot of all routes: ms", &cost(&empty, 1)),
        alone("a snapshot with all routes changed: ms", &cost(&full, 1)),
        alone("a snapshot with 1 % changed: ms", &cost(&full, 100)),
        alone(
            "a snapshot with one route changed: ms",
            &cost(&full, rows.routes.len()),
        ),
    ]
}

impl Rows {
    fn of(table: &Table) -> Self {
        let (mut sets, mut packer) = (Sets::default(), Packer::default());
        let routes = table.routes().filter_map(|route| {
            let set = sets.acquire(packer.pack(&route.attributes))?;
            Some((route.prefix, set))
        });
        let routes = routes.collect();
        Self { routes, sets }
    }

    /// One route in `every`, in no order.
    fn changes(&self, every: usize) -> Changes {
        let mut changes = Changes::default();
        for (prefix, set) in self.routes.iter().step_by(every) {
            match prefix.family() {
                Family::Ipv4 => changes.ipv4.push(Row::new(Key::new(prefix, 0), 0, *set)),
                Family::Ipv6 => changes.ipv6.push(Row::new(Key::new(prefix, 0), 0, *set)),
            }
        }
        changes
    }
}

fn source() -> Source {
    Source {
        neighbour: "router-0".into(),
        class: Class::Embedded,
        is_internal: false,
        router_id: None,
        address: std::net::Ipv4Addr::LOCALHOST.into(),
    }
}

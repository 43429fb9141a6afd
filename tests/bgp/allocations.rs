//! Reading a message asks for no memory, whatever the message is; and how fast it is read.
//!
//! `cargo test --release --test bgp allocations -- --nocapture` tells the speed.

use super::check;
use super::mutants::Mutants;
use oca::bgp::wire;
use oca::bgp::wire::Message;
use oca::sys::allocations::CountingAllocator;
use std::hint::black_box;
use std::time::Duration;

/// Every message once, as a neighbour's task does it: the routes and all values are looked at.
fn read(messages: &[Vec<u8>], session: &wire::Negotiated) -> usize {
    let mut routes = 0;
    for bytes in messages {
        assert!(wire::frame(bytes, session.message_bytes_max()).is_ok());
        if let Ok(Message::Update(update)) = wire::decode(bytes, Some(session)) {
            let said = update.attributes();
            black_box((
                said.as_path.length(),
                said.as_path.numbers().last(),
                said.med,
            ));
            black_box((said.communities.last(), said.large_communities.last()));
            routes += update.withdrawn().count();
            routes += update.announced().flat_map(|reach| reach.prefixes).count();
        }
    }
    routes
}

#[test]
fn reading_messages_allocates_nothing() {
    for bits in 0..=u8::MAX {
        let session = check::session(bits);
        let mutants = Mutants::new(session, u64::from(bits));
        let before = CountingAllocator::count();
        let routes = read(mutants.good(), &session);
        assert_eq!(CountingAllocator::count() - before, 0, "{session:?}");
        assert!(routes > 50);
    }
    // Errors that the session survives, and every other kind of message.
    let session = check::session(0);
    let mut mutants = Mutants::new(session, 1);
    let changed = std::iter::repeat_with(|| mutants.next()).take(20_000);
    let is_survived = |bytes: &Vec<u8>| wire::decode(bytes, Some(&session)).is_ok();
    let mut survived: Vec<Vec<u8>> = changed.filter(is_survived).collect();
    survived.extend([
        wire::keepalive(),
        wire::route_refresh(oca::prefix::Family::Ipv4),
    ]);
    survived.push(wire::notification(&wire::Notification::shutdown("done")));
    let opens = [check::open_of_bird(), check::framed(3, &[6, 2])];
    let before = CountingAllocator::count();
    read(&survived, &session);
    for open in &opens {
        match wire::decode(open, None) {
            Ok(Message::Open(open)) => assert_eq!(open.capabilities.into_iter().count(), 12),
            Ok(Message::Notification(notification)) => assert!(notification.data.is_empty()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(CountingAllocator::count() - before, 0);
}

/// What this thread has spent on a processor: others may be busy too.
fn spent() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds = text.split_ascii_whitespace().next().unwrap();
    Duration::from_nanos(nanoseconds.parse().unwrap())
}

#[test]
fn the_speed_of_reading_is_told() {
    let session = check::session(0);
    let messages: Vec<Vec<u8>> = (0..200)
        .flat_map(|seed| Mutants::new(session, seed).good().to_vec())
        .collect();
    let bytes: usize = messages.iter().map(Vec::len).sum();
    let (begun, mut routes, mut rounds) = (spent(), 0, 0);
    while spent() - begun < Duration::from_millis(200) {
        routes += read(&messages, &session);
        rounds += 1;
    }
    let seconds = (spent() - begun).as_secs_f64();
    let millions = |count: usize| f64::from(u32::try_from(count / 1000).unwrap()) / 1000.0;
    println!(
        "{:.0} MB/s, {:.2} M messages/s, {:.2} M routes/s, {} octets a message",
        millions(bytes * rounds) / seconds,
        millions(messages.len() * rounds) / seconds,
        millions(routes) / seconds,
        bytes / messages.len(),
    );
    assert!(routes > 0);
}

//! A question's answer comes in one burst: it is small beside the cap, and paid for.

use super::*;
use crate::link::body;
use crate::link::message::FILL_WANTED_MAX;
use crate::link::ticket::DIGESTS_MAX;
use crate::object::CHUNK_BYTES;

/// A segment of 4 s at 20 Mbit/s.
const LENGTH: u64 = 10_000_000;

impl World {
    /// The question that is out: objects, who pays, and how much.
    fn asked(&self) -> (usize, Class, u64) {
        let asked = self.actions.iter().find_map(|action| {
            let Action::Ask(asked) = action else {
                return None;
            };
            Some((asked.request.wanted.len(), asked.class, asked.bytes))
        });
        asked.expect("nothing is asked")
    }

    fn limited(rate: u64) -> Self {
        let mut world = Self::new();
        world.step(Input::Orders(Orders {
            rate_limit: Some(BytesPerSecond(rate)),
            clock_sane: true,
            connected: true,
            ..Orders::default()
        }));
        world
    }
}

fn long(rank: u32, length: u64) -> (Want, Class) {
    let want = Want {
        length,
        ..want(rank)
    };
    (want, Class::Night)
}

#[test]
fn an_answer_brings_no_more_than_the_cap_does_in_5_ms() {
    for (rate, objects) in [(12_500_000, 26), (50_000_000, 113), (150_000_000, 256)] {
        let mut world = World::limited(rate);
        world.plan((0..300).map(|rank| long(rank, LENGTH)).collect());
        let (asked, class, bytes) = world.asked();
        assert_eq!((asked, class), (objects, Class::Night), "{rate} B/s");
        assert!(bytes <= rate / 200, "{bytes} B of {rate} B/s");
    }
    // One is asked for at any rate.
    let mut world = World::limited(125_000);
    world.plan(vec![long(0, 1 << 30), long(1, 1 << 30)]);
    assert_eq!(world.asked().0, 1);
}

#[test]
fn each_class_pays_for_its_own_and_one_without_turns_holds_up_no_other() {
    let urgent = |rank| {
        let (mut want, _) = long(rank, LENGTH);
        want.urgent = true;
        (want, Class::Urgent)
    };
    let mut world = World::new();
    world.plan(vec![
        urgent(0),
        urgent(1),
        long(2, LENGTH),
        long(3, LENGTH),
        long(4, LENGTH),
    ]);
    let (asked, class, _) = world.asked();
    assert_eq!((asked, class), (2, Class::Urgent));
    world.actions.clear();
    world.step(Input::Unasked);
    world.elapsed += Duration::from_millis(200);
    world.step(Input::Tick);
    let (asked, class, _) = world.asked();
    assert_eq!((asked, class), (3, Class::Night));
    assert_eq!(world.machine.problem, None, "nobody has failed");
    world.actions.clear();
    world.step(Input::Unasked);
    // Urgent ones are asked for again before those of the night.
    world.pass(2);
    assert_eq!(world.asked().1, Class::Urgent);
}

/// Hexadecimal of random bytes.
fn noise(seed: &str, bytes: usize) -> String {
    let mut stream = blake3::Hasher::new().update(seed.as_bytes()).finalize_xof();
    let mut noise = vec![0; bytes];
    stream.fill(&mut noise);
    noise.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same digests in the tickets of each source, as the control plane writes them.
fn ticket(source: usize, objects: &[(Want, Class)]) -> String {
    let digests: Vec<String> = objects
        .iter()
        .map(|(want, _)| want.digest.to_string())
        .collect();
    let text = format!(r#"{{"source":"TLS{source:03}.example.isp","digests":{digests:?}}}"#);
    let text: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{text}.{}", noise(&format!("{source}{text}"), 64))
}

#[test]
fn a_real_answer_is_no_larger_than_what_is_paid_for_it() {
    let wanted: Vec<_> = (0..256).map(|rank| long(rank, LENGTH)).collect();
    assert_eq!(wanted.len(), FILL_WANTED_MAX);
    let groups: Vec<_> = wanted.chunks(DIGESTS_MAX).collect();
    // Eight boxes for each object, and the origin.
    let tickets = groups
        .iter()
        .flat_map(|group| (0..8).map(|source| ticket(source, group)));
    let origin = |want: &Want| {
        let name = format!("film/{}/part-{}.m4s", want.rank % 7, want.rank);
        let signature = noise(&name, 32);
        let query =
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20260302T010000Z&X-Amz-Expires=900";
        FillSource {
            urls: vec![format!(
                "https://s3.example/{name}?{query}&X-Amz-Signature={signature}"
            )],
            etag: Some(format!("\"{}\"", noise(&signature, 16))),
            ..source("origin", 0)
        }
    };
    let peer = |want: &Want, number: usize| FillSource {
        id: format!("TLS{number:03}.example.isp"),
        urls: vec![
            format!("https://192.0.2.{number}/fill/{}", want.digest),
            format!("https://[2001:db8::{number}]/fill/{}", want.digest),
        ],
        ticket: Some(want.rank as usize / DIGESTS_MAX * 8 + number),
        ..source("", 0)
    };
    let object = |(want, _): &(Want, Class)| ObjectSources {
        digest: want.digest,
        length: want.length,
        tree: noise(&want.digest.to_string(), 32 * 39),
        sources: (0..8)
            .map(|number| peer(want, number))
            .chain([origin(want)])
            .collect(),
        problem: None,
    };
    assert_eq!(LENGTH.div_ceil(CHUNK_BYTES), 39);
    let answer = FillSources {
        v: 1,
        objects: wanted.iter().map(object).collect(),
        tickets: tickets.collect(),
        ask_again_s: 60,
    };
    let sent = body::encode(&answer).unwrap().len() as u64;
    let mut world = World::new();
    world.plan(wanted);
    let (_, _, paid) = world.asked();
    assert!(sent <= paid, "{sent} B come, and {paid} B are paid for");
    // Too much for what comes is a night that is shorter.
    assert!(paid <= 2 * sent, "{paid} B are paid for {sent} B");
}

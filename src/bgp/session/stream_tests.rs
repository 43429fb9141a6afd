//! Recorded streams of events, and every event in every state, against what they led to when a
//! person last looked: `tests/bgp/streams/*.txt`. `OCA_BLESS=1` writes them anew.
//!
//! A line `> …` is an event, the lines `< …` below it are the actions, `= …` is the state after it.

use super::super::wire;
use super::super::wire::Fault;
use super::super::wire::Refresh;
use super::super::wire::Update;
use super::tests::World;
use super::tests::id;
use super::tests::open;
use super::tests::settings;
use super::*;
use std::fmt::Write as _;
use std::path::PathBuf;

/// The bodies of OPENs as BIRD 2.0.12 with all options and GoBGP sent them; of GoBGP's the AS is
/// that of these tests.
const BIRD: &str = "04fbf400f0c000020151024f0104000100010104000200010200050600010001000206000901004\
                    00a0078000101000002010041040000fbf4450800010103000201024600470e00010100000e100\
                    0020100000e10490402766d00";
const GOBGP: &str = "04fbf4005ac00002033202300200490402766d0001040001000101040002000141040000fbf440\
                     060078000101000506000100010002450400010103";

fn told(action: &Action) -> String {
    let family = |family: &Family| match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    };
    match action {
        Action::Connect => "connect".to_owned(),
        Action::CancelConnect => "cancel connect".to_owned(),
        Action::Send(to, bytes) => format!("send {} {}", to.0, message(bytes)),
        Action::KeepAlive(to, _) => format!("send {} KEEPALIVE, in time", to.0),
        Action::Close(to) => format!("close {}", to.0),
        Action::Up(to) => format!("up {}", to.0),
        Action::Apply(to) => format!("apply {}", to.0),
        Action::Again(to, of) => format!("again {} {}", to.0, family(of)),
        Action::MarkStale(of) => format!("mark stale {}", family(of)),
        Action::Sweep(of) => format!("sweep {}", family(of)),
        Action::SweepNotLongLived(of) => format!("sweep not long-lived {}", family(of)),
        Action::Forget(of) => format!("forget {}", family(of)),
        Action::Down { kept } => format!("down, kept {:?}", kept.words()),
        Action::Sent(said) => format!("sent {}", said.words()),
        Action::Received(said) => format!("received {}", said.words()),
    }
}

fn message(bytes: &[u8]) -> String {
    let session = Negotiated {
        ipv4: true,
        ipv6: true,
        ..Negotiated::default()
    };
    match wire::decode(bytes, Some(&session)) {
        Ok(Message::Open(_)) => "OPEN".to_owned(),
        Ok(Message::Keepalive) => "KEEPALIVE".to_owned(),
        Ok(Message::Notification(_)) => "NOTIFICATION".to_owned(),
        Ok(Message::Update(update)) => format!("End-of-RIB {:?}", update.end_of_rib),
        Ok(Message::RouteRefresh { afi, subtype, .. }) => format!("REFRESH {afi} {subtype:?}"),
        Err(error) => format!("{error:?}"),
    }
}

/// A session that is fed by words.
struct Stream {
    world: World,
    text: String,
}

impl Stream {
    fn new(settings: Settings) -> Self {
        Self {
            world: World::new(settings),
            text: String::new(),
        }
    }

    fn event(&mut self, words: &str) {
        let out = self.perform(words);
        let _ = writeln!(self.text, "> {words}");
        for action in &out {
            let _ = writeln!(self.text, "< {}", told(action));
        }
        let _ = writeln!(self.text, "= {}", self.world.session.state());
    }

    fn perform(&mut self, words: &str) -> Vec<Action> {
        let world = &mut self.world;
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        let number = || id(rest.split(' ').next().unwrap().parse().unwrap());
        let text = || rest.to_owned();
        match verb {
            "start" => world.step(Input::Start),
            "ours" => world.step(Input::Connected(Side::Ours, number())),
            "theirs" => world.step(Input::Connected(Side::Theirs, number())),
            "connect-failed" => world.step(Input::ConnectFailed(text())),
            "closed" => world.step(Input::Closed(number(), "gone".to_owned())),
            "malformed" => world.step(Input::Malformed(number(), Fault::NOT_SYNCHRONISED.into())),
            "too-many" => world.step(Input::TooManyPrefixes(Family::Ipv4, 7)),
            "out-of-resources" => world.step(Input::OutOfResources),
            "refresh" => world.step(Input::Refresh(None)),
            "held-up" => world.step(Input::HeldUp(number())),
            "stop" => world.step(Input::Stop(text())),
            "reset" => world.step(Input::Reset(text())),
            "tick" => world.tick().1,
            "wait" => {
                world.now += Duration::from_secs(rest.parse().unwrap());
                world.step(Input::Tick)
            }
            "open" => world.say(number(), Message::Open(open([192, 0, 2, 9]))),
            "keepalive" => world.say(number(), Message::Keepalive),
            "update" => world.say(number(), Message::Update(Update::default())),
            "end-of-rib" => {
                let mut update = Update::default();
                update.end_of_rib = Some(Family::Ipv4);
                world.say(number(), Message::Update(update))
            }
            "begin" | "end" | "ask" => {
                let subtype = match verb {
                    "begin" => Refresh::Begin,
                    "end" => Refresh::End,
                    _ => Refresh::Request,
                };
                let (afi, safi) = (1, 1);
                world.say(number(), Message::RouteRefresh { afi, safi, subtype })
            }
            "notification" => {
                let bye = Notification::shutdown("bye");
                world.say(number(), Message::Notification(bye.borrowed()))
            }
            "hard-reset" => {
                let bye = Notification::shutdown("bye").hard();
                world.say(number(), Message::Notification(bye.borrowed()))
            }
            "bird" => self.bytes(number(), BIRD),
            "gobgp" => self.bytes(number(), GOBGP),
            other => panic!("{other} is no event"),
        }
    }

    /// An OPEN's body, with a header before it.
    fn bytes(&mut self, to: ConnectionId, body: &str) -> Vec<Action> {
        let digit = |at: usize| u8::from_str_radix(&body[at..at + 2], 16).unwrap();
        let body: Vec<u8> = (0..body.len()).step_by(2).map(digit).collect();
        let length = u16::try_from(body.len() + wire::HEADER_BYTES).unwrap();
        let [high, low] = length.to_be_bytes();
        let bytes = [vec![0xff; 16], vec![high, low, 1], body].concat();
        let message = wire::decode(&bytes, None).unwrap();
        self.world.say(to, message)
    }
}

/// Compares with the file, or writes it.
fn check(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/bgp/streams");
    let path = path.join(format!("{name}.txt"));
    if std::env::var_os("OCA_BLESS").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "{}:{}", path.display(), number + 1);
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "{name}");
}

fn replayed(name: &str, settings: Settings, events: &[&str]) {
    let mut stream = Stream::new(settings);
    for words in events {
        stream.event(words);
    }
    check(name, &stream.text);
}

#[test]
fn a_bird_with_every_option_comes_up_restarts_and_sends_its_table_again() {
    let events = [
        "theirs 1",
        "bird 1",
        "keepalive 1",
        "update 1",
        "end-of-rib 1",
        "tick",
        "closed 1",
        "theirs 2",
        "bird 2",
        "keepalive 2",
        "end-of-rib 2",
        "refresh",
        "begin 2",
        "update 2",
        "end 2",
        "ask 2",
        "theirs 3",
        "bird 3",
        "keepalive 3",
        "hard-reset 3",
        "stop bye",
    ];
    replayed("bird", settings(), &events);
}

#[test]
fn a_gobgp_comes_up_beside_our_own_attempt_and_shuts_down() {
    let events = [
        "ours 1",
        "theirs 2",
        "gobgp 2",
        "gobgp 1",
        "keepalive 1",
        "end-of-rib 1",
        "notification 1",
        "tick",
        "connect-failed refused",
        "tick",
        "ours 3",
        "gobgp 3",
        "keepalive 3",
        "reset new policy",
        "ours 4",
        "gobgp 4",
        "keepalive 4",
        "wait 89",
        "keepalive 4",
        "wait 91",
        "stop bye",
    ];
    replayed("gobgp", settings(), &events);
}

#[test]
fn every_event_in_every_state_does_what_is_written_down() {
    let states: [(&str, &[&str]); 8] = [
        ("stopped", &["stop"]),
        ("barred", &["too-many"]),
        ("connect", &[]),
        ("active", &["connect-failed refused"]),
        ("open-sent", &["theirs 1"]),
        ("open-confirm", &["theirs 1", "open 1"]),
        ("established", &["theirs 1", "open 1", "keepalive 1"]),
        (
            "established-restart",
            &["theirs 1", "bird 1", "keepalive 1"],
        ),
    ];
    let delayed: (&str, &[&str]) = ("delayed", &["theirs 1"]);
    let events = [
        "start",
        "ours 2",
        "theirs 2",
        "connect-failed refused",
        "open 1",
        "keepalive 1",
        "update 1",
        "notification 1",
        "hard-reset 1",
        "ask 1",
        "begin 1",
        "end 1",
        "end-of-rib 1",
        "malformed 1",
        "closed 1",
        "held-up 1",
        "too-many",
        "out-of-resources",
        "refresh",
        "stop bye",
        "reset bye",
        "wait 0",
        "wait 300",
    ];
    let mut text = String::new();
    for (state, way) in states.into_iter().chain([delayed]) {
        for words in events {
            let mut options = SessionConfig::default();
            if state == "delayed" {
                options.delay_open = Duration::from_secs(5);
            }
            let mut stream = Stream::new(Settings {
                options,
                ..settings()
            });
            for step in way {
                stream.event(step);
            }
            stream.text.clear();
            stream.event(words);
            let _ = writeln!(text, "# {state}");
            text.push_str(&stream.text);
        }
    }
    check("pairs", &text);
}

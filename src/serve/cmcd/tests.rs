//! Tests of the CMCD parser: the standard's examples, players' slips, hostile bytes.

use super::*;
use crate::serve::FIELDS_MAX;
use proptest::prelude::*;
use std::mem::MaybeUninit;

fn parse(query: &[u8], fields: &[(&str, &[u8])]) -> Option<Cmcd> {
    let mut bytes = b"GET /a?".to_vec();
    bytes.extend_from_slice(query);
    bytes.extend_from_slice(b" HTTP/1.1\r\nHost: h\r\n");
    for (name, value) in fields {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let head = Head::parse(&bytes, &mut room, 64).unwrap();
    Cmcd::of(&head).map(|cmcd| *cmcd)
}

fn query(text: &str) -> Option<Cmcd> {
    let mut encoded = "a=b&CMCD=".to_owned();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02x}"));
        }
    }
    parse(encoded.as_bytes(), &[])
}

fn taken(text: &[u8]) -> Cmcd {
    let mut found = Cmcd::default();
    let mut budget = Budget {
        bytes: BYTES_MAX,
        pairs: PAIRS_MAX,
    };
    found.take(text, &mut budget);
    found
}

fn everything() -> Cmcd {
    let text = |text: &str| Some(text.to_owned());
    Cmcd {
        br: Some(3200),
        bl: Some(21300),
        bs: true,
        cid: text("faec5fc2-ac30-11ea-bb37-0242ac130002"),
        d: Some(4004),
        dl: Some(18500),
        mtp: Some(48100),
        nor: text("..%2F300kbps%2Fsegment35.m4v"),
        nrr: text("12323-48763"),
        ot: Some(ObjectType::Video),
        pr: Some(1_080),
        rtp: Some(12000),
        sf: Some(StreamFormat::Dash),
        sid: text("6e2fb550-c457-11e9-bb97-0800200c9a66"),
        st: Some(StreamType::Vod),
        su: true,
        tb: Some(6000),
        v: Some(1),
    }
}

#[test]
fn every_key_arrives_by_query_and_by_header() {
    let text = concat!(
        "bl=21300,br=3200,bs,cid=\"faec5fc2-ac30-11ea-bb37-0242ac130002\",d=4004,dl=18500,",
        "mtp=48100,nor=\"..%2F300kbps%2Fsegment35.m4v\",nrr=\"12323-48763\",ot=v,pr=1.08,",
        "rtp=12000,sf=d,sid=\"6e2fb550-c457-11e9-bb97-0800200c9a66\",st=v,su,tb=6000,v=1,",
        "com.example-myKey=\"any, thing\"",
    );
    assert_eq!(query(text), Some(everything()));
    let fields: [(&str, &[u8]); 4] = [
        ("CMCD-Object", b"br=3200,d=4004,ot=v,tb=6000"),
        (
            "cmcd-request",
            b"bl=21300,dl=18500,mtp=48100,nor=\"..%2F300kbps%2Fsegment35.m4v\",\
              nrr=\"12323-48763\",su",
        ),
        (
            "CMCD-Session",
            b"cid=\"faec5fc2-ac30-11ea-bb37-0242ac130002\", pr=1.08,sf=d, \
              sid=\"6e2fb550-c457-11e9-bb97-0800200c9a66\" ,st=v,v=1",
        ),
        ("CMCD-STATUS", b"bs,rtp=12000"),
    ];
    assert_eq!(parse(b"", &fields), Some(everything()));
}

#[test]
fn the_log_names_the_keys_as_the_standard_does() {
    let line = serde_json::to_value(everything()).unwrap();
    assert_eq!(line["pr"], 1.08);
    assert_eq!((&line["ot"], &line["bs"]), (&"v".into(), &true.into()));
    assert_eq!(line.as_object().unwrap().len(), 18);
    let empty = serde_json::to_string(&Cmcd::default()).unwrap();
    assert_eq!(empty, "{}");
}

#[test]
fn the_last_word_on_a_key_counts_and_fields_come_after_the_query() {
    let found = parse(b"CMCD=br%3D100%2Cbr%3D200", &[]).unwrap();
    assert_eq!(found.br, Some(200));
    let fields: [(&str, &[u8]); 1] = [("CMCD-Object", b"br=300")];
    let found = parse(b"CMCD=br%3D100%2Cbs", &fields).unwrap();
    assert_eq!((found.br, found.bs), (Some(300), true));
    // Only the first argument of that name, written like that.
    assert_eq!(parse(b"CMCD=br%3D1&CMCD=br%3D2", &[]).unwrap().br, Some(1));
    assert_eq!(parse(b"cmcd=br%3D1&xCMCD=br%3D2", &[]), None);
}

#[test]
fn what_cannot_be_understood_is_left_out_and_the_rest_is_kept() {
    for wrong in [
        "br=-1",
        "br=",
        "br",
        "br=1e3",
        "br=4294967296",
        "br=100000001",
        "br=\"1\"",
        "br=(1 2)",
        "bl=86400001",
        "pr=16.001",
        "pr=.5",
        "pr=1.",
        "pr=x",
        "ot=x",
        "ot=vv",
        "sf=",
        "st=V",
        "v=256",
        "bs=maybe",
        "BR=1",
        "cid=\"\"",
        "cid=\"open",
        "",
        ",,,",
        "=",
        "=1",
    ] {
        assert_eq!(taken(wrong.as_bytes()), Cmcd::default(), "{wrong}");
        if !wrong.contains("open") {
            let found = taken(format!("{wrong},tb=7").as_bytes());
            assert_eq!(found.tb, Some(7), "{wrong}");
        }
    }
    let found = taken(b"br=100.9,su=false,bs=true,pr=0,cid=bare");
    assert_eq!((found.br, found.su, found.bs), (Some(100), false, true));
    assert_eq!((found.pr, found.cid.as_deref()), (Some(0), Some("bare")));
    assert_eq!(taken(b"pr=1.9999").pr, Some(1_999));
}

#[test]
fn text_is_unescaped_bounded_and_printable() {
    let found = taken(b"cid=\"a\\\"b\\\\c,d\",sid=\"\x1b[31m\xff\"");
    // What was escaped by the player is escaped once more for the log.
    assert_eq!(found.cid.as_deref(), Some("a\\\"b\\\\c,d"));
    assert_eq!(found.sid.as_deref(), Some("\\x1b[31m\\xff"));
    let long = format!("cid=\"{}\"", "x".repeat(1_000));
    assert_eq!(taken(long.as_bytes()).cid.unwrap().len(), ID_CHARS + 3);
}

#[test]
fn what_is_looked_at_is_bounded() {
    let many = format!("{}br=5", "x=1,".repeat(PAIRS_MAX));
    assert_eq!(taken(many.as_bytes()).br, None);
    let wide = format!("{},br=5", "x".repeat(BYTES_MAX));
    assert_eq!(taken(wide.as_bytes()).br, None);
    // The budget is one for all places.
    let fields: [(&str, &[u8]); 2] = [
        ("CMCD-Object", &[b'x'; BYTES_MAX]),
        ("CMCD-Request", b"br=5"),
    ];
    assert_eq!(parse(b"", &fields), None);
}

#[test]
fn the_corpus_of_what_players_send_is_understood() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/cmcd");
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let (sent, expected) = text.split_once('\n').unwrap();
        let found = parse(sent.as_bytes(), &[]);
        let found = serde_json::to_value(found).unwrap();
        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
        assert_eq!(found, expected, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 8, "only {seen} corpus files");
}

#[test]
fn the_next_object_is_logged_without_its_token_however_it_is_written() {
    let nor = |value: &str| taken(format!("nor=\"{value}\"").as_bytes()).nor;
    let kept = "..%2F300kbps%2Fsegment35.m4v";
    assert_eq!(nor(kept).as_deref(), Some(kept));
    assert_eq!(nor("a.m4s?e=1&t=secret").as_deref(), Some("a.m4s"));
    for value in [
        "../t/e=1,t=secret/film/a",
        "..%2Ft%2Fe%3D1%2Ct%3Dsecret%2Ffilm%2Fa",
        "%2e%2e/t/e%3d1,t%3dsecret/film/a",
        "a.m4s%3Fe%3D1%26t%3Dsecret",
        "..%252Ft%252Fe%253D1%252Ct%253Dsecret",
    ] {
        assert_eq!(nor(value), None, "{value}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_and_text_stays_printable(
        bytes in proptest::collection::vec(prop_oneof![
            Just(b'='), Just(b','), Just(b'"'), Just(b'\\'), Just(b'.'), Just(b'b'), Just(b'r'),
            Just(b'%'), Just(b'1'), any::<u8>()], 0..200)) {
        let found = taken(&percent_decoded(&bytes));
        let texts = [found.cid, found.sid, found.nor, found.nrr];
        for text in texts.into_iter().flatten() {
            prop_assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            prop_assert!(text.len() <= PATH_CHARS + 3);
        }
    }

    #[test]
    fn what_a_player_writes_is_what_is_read(
        br in proptest::option::of(0..=KBPS_MAX),
        bl in proptest::option::of(0..=MS_MAX),
        rtp in proptest::option::of(0..=KBPS_MAX),
        pr in proptest::option::of(0..=PLAYBACK_MAX),
        sid in proptest::option::of("[ -~&&[^\"\\\\]]{1,60}"),
        flags in any::<(bool, bool)>(),
    ) {
        let mut pairs = Vec::new();
        pairs.extend(br.map(|br| format!("br={br}")));
        pairs.extend(bl.map(|bl| format!("bl={bl}")));
        pairs.extend(rtp.map(|rtp| format!("rtp={rtp}")));
        pairs.extend(pr.map(|pr| format!("pr={}.{:03}", pr / 1000, pr % 1000)));
        pairs.extend(sid.as_ref().map(|sid| format!("sid=\"{sid}\"")));
        pairs.extend(flags.0.then(|| "bs".to_owned()));
        pairs.extend(flags.1.then(|| "su".to_owned()));
        let expected = Cmcd { br, bl, rtp, pr, sid, bs: flags.0, su: flags.1, ..Cmcd::default() };
        let sent = pairs.join(",");
        prop_assert_eq!(query(&sent).unwrap_or_default(), expected.clone_printable());
    }
}

impl Cmcd {
    /// Text as the parser keeps it: a quote or a backslash is escaped once more.
    fn clone_printable(&self) -> Self {
        let sid = self.sid.as_ref();
        Self {
            sid: sid.map(|sid| help::printable(sid.as_bytes(), ID_CHARS)),
            ..self.clone()
        }
    }
}

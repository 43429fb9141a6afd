//! Preconditions against a naive reading of RFC 9110 section 13.2.2.

use super::*;
use crate::serve::request::FIELDS_MAX;
use crate::serve::request::Head;
use proptest::prelude::*;
use std::mem::MaybeUninit;
use std::time::Duration;
use std::time::UNIX_EPOCH;

const MODIFIED: u64 = 1_700_000_000;

fn own() -> Validators {
    Validators {
        digest: Digest::of(b"object"),
        last_modified: MODIFIED,
    }
}

fn ask(fields: &str) -> Verdict {
    let request = format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let head = Head::parse(request.as_bytes(), &mut room, 64).unwrap();
    evaluate(&head, own())
}

fn date(seconds: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

#[test]
fn all_three_date_forms_are_understood_and_others_ignored() {
    for (value, expected) in [
        ("Tue, 14 Nov 2023 22:13:20 GMT", Verdict::NotModified),
        ("Tuesday, 14-Nov-23 22:13:20 GMT", Verdict::NotModified),
        ("Tue Nov 14 22:13:20 2023", Verdict::NotModified),
        (
            "Tue, 14 Nov 2023 22:13:19 GMT",
            Verdict::Proceed { range: false },
        ),
        ("yesterday", Verdict::Proceed { range: false }),
        ("1700000000", Verdict::Proceed { range: false }),
    ] {
        assert_eq!(
            ask(&format!("If-Modified-Since: {value}\r\n")),
            expected,
            "{value}"
        );
    }
    // A field that stands twice is no date.
    let twice = format!(
        "If-Modified-Since: {0}\r\nIf-Modified-Since: {0}\r\n",
        date(MODIFIED)
    );
    assert_eq!(ask(&twice), Verdict::Proceed { range: false });
}

#[test]
fn tags_are_found_in_lists_and_lines_and_only_there() {
    let tag = format!("\"{}\"", own().digest);
    for (value, found) in [
        (tag.clone(), true),
        (format!("\"a,b\" , {tag}"), true),
        (format!("\"x\",,{tag}"), true),
        (format!("W/{tag}"), true),
        ("*".to_owned(), true),
        (tag.replace('"', ""), false),
        (tag.to_uppercase(), false),
        (format!("\"x{}", &tag[1..]), false),
        (format!("junk, {tag}"), false),
        ("\"".to_owned(), false),
        (String::new(), false),
    ] {
        let expected = if found {
            Verdict::NotModified
        } else {
            Verdict::Proceed { range: false }
        };
        assert_eq!(
            ask(&format!("If-None-Match: {value}\r\n")),
            expected,
            "{value}"
        );
    }
    let lines = format!("If-None-Match: \"x\"\r\nIf-None-Match: {tag}\r\n");
    assert_eq!(ask(&lines), Verdict::NotModified);
    assert_eq!(ask(&format!("If-Match: W/{tag}\r\n")), Verdict::Failed);
}

/// One entity tag of a request.
#[derive(Clone, Copy, Debug)]
enum Tag {
    Own,
    WeakOwn,
    Other,
}

/// The fields of one request.
#[derive(Clone, Debug)]
struct Asked {
    if_match: Option<Vec<Tag>>,
    if_none_match: Option<Vec<Tag>>,
    unmodified_since: Option<i64>,
    modified_since: Option<i64>,
    range: bool,
    if_range: Option<Result<Tag, i64>>,
}

fn tag_text(tag: Tag) -> String {
    match tag {
        Tag::Own => format!("\"{}\"", own().digest),
        Tag::WeakOwn => format!("W/\"{}\"", own().digest),
        Tag::Other => format!("\"{}\"", Digest::of(b"other")),
    }
}

fn moved(by: i64) -> String {
    date(MODIFIED.saturating_add_signed(by))
}

fn fields(asked: &Asked) -> String {
    let list = |tags: &Vec<Tag>| {
        if tags.is_empty() {
            return "*".to_owned();
        }
        let tags: Vec<String> = tags.iter().copied().map(tag_text).collect();
        tags.join(", ")
    };
    let mut text = String::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    };
    add("If-None-Match", asked.if_none_match.as_ref().map(list));
    add("If-Match", asked.if_match.as_ref().map(list));
    add("If-Modified-Since", asked.modified_since.map(moved));
    add("If-Unmodified-Since", asked.unmodified_since.map(moved));
    add("Range", asked.range.then(|| "bytes=0-0".to_owned()));
    let if_range = asked
        .if_range
        .map(|value| value.map_or_else(moved, tag_text));
    add("If-Range", if_range);
    text
}

/// Section 13.2.2, sentence by sentence.
fn naive(asked: &Asked) -> Verdict {
    let strong = |tags: &[Tag]| tags.is_empty() || tags.iter().any(|t| matches!(t, Tag::Own));
    let weak =
        |tags: &[Tag]| tags.is_empty() || tags.iter().any(|t| matches!(t, Tag::Own | Tag::WeakOwn));
    if let Some(tags) = &asked.if_match {
        if !strong(tags) {
            return Verdict::Failed;
        }
    } else if let Some(by) = asked.unmodified_since
        && by < 0
    {
        return Verdict::Failed;
    }
    if let Some(tags) = &asked.if_none_match {
        if weak(tags) {
            return Verdict::NotModified;
        }
    } else if let Some(by) = asked.modified_since
        && by >= 0
    {
        return Verdict::NotModified;
    }
    let same = match asked.if_range {
        None | Some(Ok(Tag::Own) | Err(0)) => true,
        Some(Ok(Tag::WeakOwn | Tag::Other) | Err(_)) => false,
    };
    Verdict::Proceed {
        range: asked.range && same,
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let tag = || prop::sample::select(vec![Tag::Own, Tag::WeakOwn, Tag::Other]);
    let tags = || prop::option::of(prop::collection::vec(tag(), 0..3));
    let by = || prop::option::of(-2i64..3);
    let if_range = prop::option::of(prop_oneof![tag().prop_map(Ok), (-1i64..2).prop_map(Err)]);
    (tags(), tags(), by(), by(), any::<bool>(), if_range).prop_map(|parts| Asked {
        if_match: parts.0,
        if_none_match: parts.1,
        unmodified_since: parts.2,
        modified_since: parts.3,
        range: parts.4,
        if_range: parts.5,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn preconditions_are_evaluated_in_the_order_of_the_rfc(asked in asked()) {
        prop_assert_eq!(ask(&fields(&asked)), naive(&asked));
    }

    #[test]
    fn no_field_value_panics(value in "[ -~]{0,40}") {
        let _ = ask(&format!("If-Match: {value}\r\nIf-Range: {value}\r\n"));
        let _ = ask(&format!("If-None-Match: {value}\r\nRange: {value}\r\n"));
    }
}

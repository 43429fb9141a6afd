//! The two paths of the fill over the link: who may ask, and what the head of an answer says.

use super::lab::Lab;
use super::lab::Shelf;
use super::lab::objects;
use super::lab::parsed;
use super::lab::refusal;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::Request;
use hyper::StatusCode;
use oca::control::api::link;
use oca::control::fleet;
use oca::ids::BoxId;
use oca::link::message::Code;
use oca::link::message::FillSources;
use oca::link::message::FillSourcesRequest;
use oca::object::Digest;
use oca::origin::OriginError;

impl link::FillSourcesSource for Shelf {
    fn fill_sources(
        &self,
        id: BoxId,
        request: FillSourcesRequest,
    ) -> BoxFuture<'_, Result<FillSources, fleet::Refused>> {
        let answer = FillSources {
            v: 1,
            objects: Vec::new(),
            tickets: vec![id.to_string()],
            ask_again_s: request.wanted.len() as u64,
        };
        Box::pin(std::future::ready(Ok(answer)))
    }
}

/// Ten digits under one digest; what becomes of them says the range.
impl link::OriginGateway for Shelf {
    fn open(
        &self,
        id: BoxId,
        ask: link::OriginAsk,
    ) -> BoxFuture<'_, Result<link::OriginBody, link::OriginRefusal>> {
        let digits = Bytes::from_static(b"0123456789");
        let (part, pieces) = match ask.range.as_deref() {
            _ if ask.digest != Digest::of(b"whole") => {
                let refused = fleet::Refused::new(Code::NotFound, format!("nothing for {id}"));
                let refused = Err(link::OriginRefusal::Refused(refused));
                return Box::pin(std::future::ready(refused));
            }
            Some(b"behind") => {
                let refused = Err(link::OriginRefusal::Unsatisfiable { length: 10 });
                return Box::pin(std::future::ready(refused));
            }
            Some(b"changed") => {
                return Box::pin(std::future::ready(Err(link::OriginRefusal::Changed)));
            }
            Some(b"part") => (Some((2, 4)), vec![Ok(digits.slice(2..5))]),
            Some(b"cut") => {
                let what = "file".to_owned();
                let cut = Err(OriginError::Changed { what });
                (None, vec![Ok(digits.slice(..5)), cut])
            }
            Some(_) | None => (None, vec![Ok(digits.slice(..5)), Ok(digits.slice(5..))]),
        };
        let body = link::OriginBody {
            length: 10,
            part,
            etag: "\"7\"".to_owned(),
            pieces: Box::pin(futures_util::stream::iter(pieces)),
        };
        Box::pin(std::future::ready(Ok(body)))
    }
}

fn request(count: u32) -> FillSourcesRequest {
    FillSourcesRequest {
        v: 1,
        wanted: objects(count),
        complaints: Vec::new(),
    }
}

#[tokio::test]
async fn a_box_asks_for_sources_under_the_name_of_its_certificate_and_not_too_often() {
    let lab = Lab::new(2).listen();
    let mut wire = lab.dial(2).await;
    let answer: FillSources = parsed(&wire.say("/v1/fill-sources", &request(256)).await);
    assert_eq!(answer.tickets, ["c002-tls001-example-isp"]);
    assert_eq!(answer.ask_again_s, 256);
    let mut stranger = lab.dial_with(None).await.unwrap();
    let told = refusal(&stranger.say("/v1/fill-sources", &request(1)).await);
    assert_eq!(told.1, Code::Identity);
    let mut last = None;
    for _ in 0..40 {
        last = Some(wire.say("/v1/fill-sources", &request(1)).await);
        if last.as_ref().unwrap().status() == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
    }
    let last = last.unwrap();
    assert_eq!(last.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(last.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn the_origin_is_asked_by_digest_and_answers_as_http_says() {
    let lab = Lab::new(1).listen();
    let mut wire = lab.dial(1).await;
    let digest = Digest::of(b"whole");
    let mut get = async |path: String, range: Option<&str>| {
        let mut request = Request::get(path).header("host", "localhost");
        if let Some(range) = range {
            request = request.header("range", range);
        }
        wire.send(request.body(Full::default()).unwrap()).await
    };
    let path = format!("/v1/origin/{digest}");
    let whole = get(path.clone(), None).await.unwrap();
    assert_eq!(whole.status(), StatusCode::OK);
    assert_eq!(whole.headers()["content-length"], "10");
    assert_eq!(whole.headers()["etag"], "\"7\"");
    assert_eq!(&whole.body()[..], b"0123456789");
    let part = get(path.clone(), Some("part")).await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], "bytes 2-4/10");
    assert_eq!(part.headers()["content-length"], "3");
    assert_eq!(&part.body()[..], b"234");
    let behind = get(path.clone(), Some("behind")).await.unwrap();
    assert_eq!(behind.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(behind.headers()["content-range"], "bytes */10");
    let changed = get(path.clone(), Some("changed")).await.unwrap();
    assert_eq!(changed.status(), StatusCode::PRECONDITION_FAILED);
    let unknown = Digest::of(b"unknown");
    let gone = get(format!("/v1/origin/{unknown}"), None).await.unwrap();
    assert_eq!(refusal(&gone).1, Code::NotFound);
    let bad = get("/v1/origin/../etc".to_owned(), None).await.unwrap();
    assert_eq!(refusal(&bad).1, Code::BadRequest);
    let cut = get(path, Some("cut")).await;
    assert!(
        cut.is_err(),
        "a body that breaks off is no whole one: {cut:?}"
    );
}

//! Questions of 256 objects a second, with many boxes. Figures are printed; the bound is loose,
//! because tests run unoptimised beside others.

use super::yard;
use super::yard::Yard;
use oca::clock;
use oca::control::model::FillCluster;
use oca::link::message::FillSourcesRequest;

fn ask(from: u32) -> FillSourcesRequest {
    FillSourcesRequest {
        v: 1,
        wanted: (from..from + 256).map(yard::digest).collect(),
        complaints: Vec::new(),
    }
}

/// A third of the boxes hold each object, no two the same.
async fn measure(boxes: u32, questions: u32) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let clusters: Vec<&str> = (0..boxes / 10).map(|_| "default").collect();
    let registry = yard::registry(boxes, &clusters, vec![FillCluster::named("default")]);
    let yard = Yard::new(registry, yard::library(4, 256, 1_000_000), dir.path());
    yard.view.send_modify(|view| {
        let view = std::sync::Arc::make_mut(view);
        for (number, seen) in (0_u32..).zip(view.boxes.values_mut()) {
            let mut known = oca::control::fleet::Bitmap::default();
            { 0..1_024 }
                .filter(|object| (object * 7 + number) % 3 == 0)
                .for_each(|object| known.insert(object));
            known.insert(1_024 + number);
            *seen = std::sync::Arc::new(yard::seen(std::sync::Arc::new(known)));
        }
    });
    let now = clock::now();
    // The first builds the stage.
    let asker = yard::id(0);
    let first = yard.sources.answer(&asker, ask(0), now, yard::wall());
    first.await.unwrap();
    let started = clock::now();
    for number in 0..questions {
        let (asker, from) = (yard::id(number * 97 % boxes), number % 4 * 256);
        let answer = yard.sources.answer(&asker, ask(from), now, yard::wall());
        let answer = answer.await.unwrap();
        assert_eq!(answer.objects.len(), 256);
    }
    f64::from(questions) / clock::now().duration_since(started).as_secs_f64()
}

#[tokio::test]
async fn questions_are_answered_fast_enough_for_a_fleet() {
    let small = measure(1_000, 20).await;
    let large = measure(18_000, 5).await;
    println!("{small:.0} questions/s with 1,000 boxes, {large:.0} with 18,000");
    assert!(small > 5.0 && large > 1.0, "{small} {large}");
}

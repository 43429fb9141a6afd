//! Waiting for others is no trouble, and lasts no longer than the control plane says.

use super::*;

impl World {
    fn asks(&self) -> bool {
        let mut actions = self.actions.iter();
        actions.any(|action| matches!(action, Action::Ask(_)))
    }

    /// Answers with what may be asked only later, or with nobody.
    fn put_off(&mut self, source: Option<FillSource>, problem: Option<&str>, ask_again_s: u64) {
        self.actions.clear();
        self.step(Input::Answered(Ok(FillSources {
            v: 1,
            objects: vec![ObjectSources {
                digest: want(0).digest,
                length: 10,
                tree: String::new(),
                sources: source.into_iter().collect(),
                problem: problem.map(str::to_owned),
            }],
            tickets: Vec::new(),
            ask_again_s,
        })));
    }

    /// Seconds until it asks again.
    fn until_asked(&mut self) -> u64 {
        for seconds in 0..1_000 {
            if self.asks() {
                return seconds;
            }
            self.pass(1);
        }
        1_000
    }
}

fn unnamed(not_before_s: u64) -> FillSource {
    FillSource {
        urls: Vec::new(),
        ..source("network", not_before_s)
    }
}

#[test]
fn whoever_waits_for_others_asks_as_soon_as_it_was_told_and_calls_it_no_problem() {
    let mut world = World::new();
    world.plan(nightly(0..1));
    for _ in 0..20 {
        assert!(world.asks());
        world.put_off(Some(unnamed(600)), None, 5);
        assert_eq!(world.machine.problem, None);
        assert!(world.machine.deferred);
        let waited = world.until_asked();
        assert!((5..=20).contains(&waited), "{waited}");
    }
    world.put_off(Some(unnamed(3)), None, 60);
    assert_eq!(world.until_asked(), 3, "when the source's time has come");
    world.put_off(None, None, 5);
    assert_eq!(world.machine.problem, None);
    assert!(world.until_asked() <= 20);
}

#[test]
fn what_nobody_can_give_is_asked_for_ever_less_and_named() {
    let mut world = World::new();
    world.plan(nightly(0..1));
    let mut last = 0;
    for _ in 0..12 {
        world.put_off(None, Some("its place cannot be used"), 60);
        assert!(world.machine.problem.is_some() && !world.machine.deferred);
        last = world.until_asked();
        assert!((60..=300).contains(&last), "{last}");
    }
    assert!(last >= 240, "{last}");
}

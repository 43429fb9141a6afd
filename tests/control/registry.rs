//! The store: one suite that every engine has to pass.

use crate::values::appliance;
use crate::values::at;
use crate::values::cluster;
use crate::values::furnish;
use crate::values::id;
use crate::values::key;
use crate::values::missing;
use crate::values::origin;
use crate::values::partner;
use crate::values::prefix;
use crate::values::refusal;
use crate::values::site;
use oca::control::store::CachedDigest;
use oca::control::store::ControlStore;
use oca::control::store::ImportedKey;
use oca::control::store::Issued;
use oca::ids::Profile;
use oca::link::message::Position;
use oca::object::Digest;
use std::collections::BTreeMap;

/// What every engine behind [`ControlStore`] has to do. `store` is empty.
pub(crate) async fn suite(store: &dyn ControlStore) {
    registry(store).await;
    approvals(store).await;
    boxes(store).await;
    tokens(store).await;
    content(store).await;
    popularity(store).await;
    memory_of_other_rooms(store).await;
    crate::night::suite(store).await;
}

async fn registry(store: &dyn ControlStore) {
    let empty = store.registry().await.unwrap();
    assert!(empty.partners.is_empty() && empty.appliances.is_empty());
    let before = store.revision().await.unwrap();
    let what = missing(store.put_site(site("TLS001.example.ISP", "example")).await);
    assert_eq!(what, "partner `example`");
    assert_eq!(store.revision().await.unwrap(), before);
    let what = missing(store.put_appliance(appliance(1)).await);
    assert_eq!(what, "site `tls001-example-isp`");

    furnish(store).await;
    let after = store.revision().await.unwrap();
    assert!(after.registry > before.registry && after.library == before.library);
    let registry = store.registry().await.unwrap();
    assert_eq!(registry.revision, after.registry);
    assert_eq!(registry.partners["example"], partner("example"));
    let held = site("TLS001.example.ISP", "example");
    assert_eq!(registry.sites["tls001-example-isp"], held);
    assert_eq!(registry.clusters["south"], cluster("south"));
    assert_eq!(registry.appliances.len(), 2);
    assert_eq!(registry.appliances[&appliance(1).id], appliance(1));

    for bad in ["", "Example", "-a", "a-", "a b", "a/b", &"a".repeat(64)] {
        let message = refusal(store.put_partner(partner(bad)).await);
        assert!(message.contains("lower-case"), "{message}");
        refusal(store.put_cluster(cluster(bad)).await);
    }
    let spelling = site("tls001.EXAMPLE.isp", "example");
    let message = refusal(store.put_site(spelling).await);
    assert!(
        message.contains("exists as `TLS001.example.ISP`"),
        "{message}"
    );
    let mut nowhere = site("LHR001.example.ISP", "example");
    nowhere.latitude = 91.0;
    refusal(store.put_site(nowhere.clone()).await);
    nowhere.latitude = f64::NAN;
    refusal(store.put_site(nowhere.clone()).await);
    nowhere.latitude = 51.47;
    nowhere.timezone = "Europe/Atlantis".to_owned();
    let message = refusal(store.put_site(nowhere).await);
    assert!(message.contains("IANA"), "{message}");
}

async fn approvals(store: &dyn ControlStore) {
    store.put_partner(partner("other")).await.unwrap();
    let approve = |partner: &str, what| store.approve(partner.to_owned(), what);
    approve("example", prefix("203.0.113.0/24")).await.unwrap();
    approve("example", prefix("2001:db8::/32")).await.unwrap();
    approve("example", origin(64496)).await.unwrap();
    // Again, and a part of what is one's own: nothing to refuse.
    approve("example", origin(64496)).await.unwrap();
    approve("example", prefix("203.0.113.0/25")).await.unwrap();
    for theirs in ["203.0.113.128/25", "203.0.112.0/23", "203.0.113.0/24"] {
        let message = refusal(approve("other", prefix(theirs)).await);
        let named = message.contains(theirs)
            && message.contains("`other`")
            && message.contains("`example`")
            && message.contains("203.0.113.0/2");
        assert!(named, "{message}");
    }
    let message = refusal(approve("other", origin(64496)).await);
    assert!(message.contains("AS64496"), "{message}");
    approve("other", prefix("198.51.100.0/24")).await.unwrap();
    for nobody in [
        prefix("0.0.0.0/0"),
        prefix("::/0"),
        origin(0),
        origin(23456),
    ] {
        refusal(approve("example", nobody).await);
    }
    assert_eq!(
        missing(approve("nobody", origin(64500)).await),
        "partner `nobody`"
    );

    let registry = store.registry().await.unwrap();
    let held = &registry.partners["example"].approvals;
    let expected = [
        prefix("203.0.113.0/24"),
        prefix("203.0.113.0/25"),
        prefix("2001:db8::/32"),
        origin(64496),
    ];
    assert_eq!(held[..], expected);
    // A partner that is put again keeps its approvals.
    store.put_partner(partner("example")).await.unwrap();
    let disapprove = |partner: &str, what| store.disapprove(partner.to_owned(), what);
    for what in [prefix("203.0.113.0/24"), prefix("203.0.113.0/25")] {
        disapprove("example", what).await.unwrap();
    }
    missing(disapprove("example", prefix("203.0.113.0/24")).await);
    missing(disapprove("other", origin(64496)).await);
    approve("other", prefix("203.0.113.128/25")).await.unwrap();
    let registry = store.registry().await.unwrap();
    assert_eq!(registry.partners["example"].approvals.len(), 2);
    assert_eq!(registry.partners["other"].approvals.len(), 2);
}

async fn boxes(store: &dyn ControlStore) {
    let mut foreign = appliance(3);
    foreign.id = id("c003-lhr001-example-isp");
    let message = refusal(store.put_appliance(foreign).await);
    assert!(message.contains("does not belong"), "{message}");
    let mut homeless = appliance(3);
    homeless.cluster = "north".to_owned();
    assert_eq!(
        missing(store.put_appliance(homeless).await),
        "cluster `north`"
    );
    let mut twin = appliance(3);
    twin.ipv4 = appliance(1).ipv4;
    let message = refusal(store.put_appliance(twin.clone()).await);
    assert!(message.contains("c001-tls001-example-isp"), "{message}");
    // Behind one address, on another port: a lab.
    twin.https_port = 8443;
    store.put_appliance(twin).await.unwrap();
    let spoilt: [fn(&mut oca::control::model::Appliance); 4] = [
        |one| one.https_port = 0,
        |one| one.capacity = 0,
        |one| one.capacity = u64::MAX,
        |one| one.ipv4 = Some(std::net::Ipv4Addr::UNSPECIFIED),
    ];
    for spoil in spoilt {
        let mut bad = appliance(4);
        spoil(&mut bad);
        refusal(store.put_appliance(bad).await);
    }

    let one = appliance(1).id;
    store.set_enabled(one.clone(), true).await.unwrap();
    let reason = Some("two boots".to_owned());
    store.quarantine(one.clone(), reason.clone()).await.unwrap();
    let mut changed = appliance(1);
    changed.profile = Profile::Storage;
    changed.ipv6 = Some("2001:db8::1".parse().unwrap());
    store.put_appliance(changed.clone()).await.unwrap();
    changed.enabled = true;
    changed.quarantined = reason;
    let registry = store.registry().await.unwrap();
    assert_eq!(registry.appliances[&one], changed);
    store.quarantine(one.clone(), None).await.unwrap();
    let registry = store.registry().await.unwrap();
    assert_eq!(registry.appliances[&one].quarantined, None);
    let nobody = id("c099-tls001-example-isp");
    missing(store.set_enabled(nobody.clone(), true).await);
    missing(store.quarantine(nobody.clone(), None).await);
    missing(store.revoke(nobody.clone()).await);
    missing(
        store
            .put_token(nobody, Digest::of(b"x"), at("2027-01-01T00:00:00Z"))
            .await,
    );
}

async fn tokens(store: &dyn ControlStore) {
    let one = appliance(1).id;
    let (day, ends) = (at("2026-11-21T00:00:00Z"), at("2026-11-24T00:00:00Z"));
    let redeem =
        |text: &str, key: &str, now| store.redeem(Digest::of(text.as_bytes()), key.to_owned(), now);
    missing(redeem("first", "aa", day).await);
    let put = |text: &str| store.put_token(one.clone(), Digest::of(text.as_bytes()), ends);
    put("first").await.unwrap();
    put("second").await.unwrap();
    missing(redeem("first", "aa", day).await);
    let message = refusal(redeem("second", "aa", ends).await);
    assert!(message.contains("ended"), "{message}");
    assert_eq!(redeem("second", "aa", day).await.unwrap(), one);
    // The reply was lost: the same key asks again.
    assert_eq!(redeem("second", "aa", day).await.unwrap(), one);
    let message = refusal(redeem("second", "bb", day).await);
    assert!(message.contains("another key"), "{message}");

    let issued = |key: &str| Issued {
        key_fingerprint: key.to_owned(),
        ends,
    };
    refusal(store.put_issued(one.clone(), issued("bb")).await);
    store.put_issued(one.clone(), issued("aa")).await.unwrap();
    let registry = store.registry().await.unwrap();
    let held = &registry.appliances[&one];
    assert_eq!(held.key_fingerprint.as_deref(), Some("aa"));
    assert_eq!(held.certificate_ends, Some(ends));

    // One key, one box.
    let two = appliance(2).id;
    let hash = Digest::of(b"of two");
    store.put_token(two.clone(), hash, ends).await.unwrap();
    let message = refusal(redeem("of two", "aa", day).await);
    assert!(message.contains(one.as_str()), "{message}");
    assert_eq!(redeem("of two", "cc", day).await.unwrap(), two);

    store.revoke(one.clone()).await.unwrap();
    missing(redeem("second", "aa", day).await);
    refusal(store.put_issued(one.clone(), issued("aa")).await);
    let registry = store.registry().await.unwrap();
    assert!(registry.appliances[&one].revoked);
    put("third").await.unwrap();
    let registry = store.registry().await.unwrap();
    let held = &registry.appliances[&one];
    assert_eq!((held.revoked, &held.key_fingerprint), (false, &None));
    assert_eq!(held.certificate_ends, None);
    assert_eq!(redeem("third", "dd", day).await.unwrap(), one);
}

async fn content(store: &dyn ControlStore) {
    assert_eq!(store.put_keys(Vec::new()).await.unwrap(), 0);
    let first = vec![
        key("film/hd/2.m4s", "two"),
        key("film/hd/1.m4s", "one"),
        key("film/sd/1.m4s", "one"),
        key("top.mp4", "top"),
    ];
    let before = store.revision().await.unwrap();
    assert_eq!(store.put_keys(first.clone()).await.unwrap(), 4);
    let after = store.revision().await.unwrap();
    assert!(after.library > before.library && after.registry == before.registry);
    // Nothing new: nobody has to load a library again.
    assert_eq!(store.put_keys(first).await.unwrap(), 0);
    assert_eq!(store.revision().await.unwrap(), after);

    let library = store.library().await.unwrap();
    assert_eq!(library.revision, after.library);
    assert_eq!((library.objects.len(), library.bundles.len()), (3, 3));
    let hd = library.bundle_of("film/hd/1.m4s").unwrap();
    assert_eq!(
        (hd.directory.as_str(), hd.title.as_str()),
        ("film/hd", "film")
    );
    let names: Vec<&str> = hd.keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!((names, hd.bytes), (vec!["1.m4s", "2.m4s"], 6));
    let one = library.object(hd.keys[0].object).unwrap();
    assert_eq!((one.digest, one.length), (Digest::of(b"one"), 3));
    assert_eq!(library.object_numbers[&one.digest], hd.keys[0].object);
    assert_eq!(hd.keys[0].last_modified, 1_790_000_000);
    let top = library.bundle_of("top.mp4").unwrap();
    assert_eq!((top.directory.as_str(), top.keys.len()), ("", 1));

    // A changed key takes the whole call with it.
    let changed = vec![key("film/new/1.m4s", "new"), key("film/hd/1.m4s", "other")];
    let message = refusal(store.put_keys(changed).await);
    assert!(message.contains("film/hd/1.m4s"), "{message}");
    let twice = vec![key("a/1", "one"), key("a/1", "two")];
    let message = refusal(store.put_keys(twice).await);
    assert!(message.contains("a/1"), "{message}");
    let mut liar = key("b/1", "one");
    liar.length = 4;
    let message = refusal(store.put_keys(vec![liar]).await);
    assert!(message.contains("two lengths"), "{message}");
    let many: Vec<ImportedKey> = (0..1_200)
        .map(|n| key(&format!("many/{n:04}"), &format!("bytes {n}")))
        .collect();
    assert_eq!(store.put_keys(many).await.unwrap(), 1_200);
    let changed = (0..1_200).map(|n| key(&format!("many/{n:04}"), "same"));
    let message = refusal(store.put_keys(changed.collect()).await);
    assert!(message.contains("and 1195 more"), "{message}");

    // Numbers stay what they are.
    let library = store.library().await.unwrap();
    assert!(!library.bundle_numbers.contains_key("film/new"));
    assert_eq!(
        library.bundle_of("film/hd/1.m4s").unwrap().number,
        hd_number(&library)
    );
    let numbers = library.bundles.iter().flatten().map(|bundle| bundle.number);
    assert!(numbers.eq(0..4), "dense");
    assert_eq!(library.objects.len(), 3 + 1_200);
}

fn hd_number(library: &oca::control::model::Library) -> u32 {
    library.bundle_numbers["film/hd"]
}

async fn popularity(store: &dyn ControlStore) {
    let feed = |rows: &[(&str, f64)]| -> BTreeMap<String, f64> {
        let rows = rows.iter();
        rows.map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    };
    let first = feed(&[("film/hd", 7.5), ("film/sd", 1.0), ("nowhere", 3.0)]);
    assert_eq!(store.put_popularity(first).await.unwrap(), 1);
    let popularity = async |key: &str| {
        let library = store.library().await.unwrap();
        library.bundle_of(key).unwrap().popularity
    };
    assert!((popularity("film/hd/1.m4s").await - 7.5).abs() < 1e-9);
    assert_eq!(
        store
            .put_popularity(feed(&[("film/sd", 2.0)]))
            .await
            .unwrap(),
        0
    );
    assert!(popularity("film/hd/1.m4s").await.abs() < 1e-9);
    refusal(store.put_popularity(feed(&[("film/sd", f64::NAN)])).await);
    refusal(store.put_popularity(feed(&[("film/sd", -1.0)])).await);
    assert!((popularity("film/sd/1.m4s").await - 2.0).abs() < 1e-9);
}

async fn memory_of_other_rooms(store: &dyn ControlStore) {
    let source = "file:///srv/media".to_owned();
    let cached = |size| CachedDigest {
        size,
        tag: "\"etag\"".to_owned(),
        digest: Digest::of(b"one"),
    };
    let put = |rows: &[(&str, u64)]| {
        let rows = rows.iter();
        let rows = rows.map(|(path, size)| ((*path).to_owned(), cached(*size)));
        store.put_cached_digests(source.clone(), rows.collect())
    };
    put(&[("a", 1), ("b", 2)]).await.unwrap();
    put(&[("b", 3)]).await.unwrap();
    let known = store.cached_digests(source.clone()).await.unwrap();
    assert_eq!((known.len(), &known["b"]), (2, &cached(3)));
    let other = store
        .cached_digests("s3://bucket".to_owned())
        .await
        .unwrap();
    assert!(other.is_empty());

    let one = appliance(1).id;
    let position = |epoch, generation| Position { epoch, generation };
    let put = |at| store.put_published(one.clone(), at, Digest::of(b"rows"));
    put(position(1, 9)).await.unwrap();
    refusal(put(position(1, 9)).await);
    refusal(put(position(1, 8)).await);
    refusal(put(position(0, 10)).await);
    put(position(2, 1)).await.unwrap();
    let published = store.published().await.unwrap();
    assert_eq!(published[&one], (position(2, 1), Digest::of(b"rows")));
    let nobody = id("c099-tls001-example-isp");
    missing(
        store
            .put_published(nobody, position(1, 1), Digest::of(b""))
            .await,
    );
}

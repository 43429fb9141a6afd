//! Tickets: the control plane's signed word that one box may fetch these objects from one source.
//!
//! `control::sources` writes them with the manifest key; the source's `peer` listener (or the
//! control plane's own gateway) reads them. A ticket says who asks, so that it is worth nothing to
//! anybody else (SAFETY: fill).

use super::hex;
use super::manifest::Signer;
use super::manifest::Verifier;
use crate::clock;
use crate::clock::Wall;
use crate::ids::BoxId;
use crate::object::Digest;
use serde::Deserialize;
use serde::Serialize;

/// The scheme of the `Authorization` header.
pub const SCHEME: &str = "OCA-Ticket";

/// Objects of one ticket: it must fit in a request head.
pub const DIGESTS_MAX: usize = 32;

/// A ticket's text is no longer.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;

/// How far the control plane's clock may be from ours.
pub const CLOCK_SLACK_S: u64 = 60;

/// What may be fetched by whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The box that may fetch.
    pub asker: BoxId,
    /// The box that may be asked, or `origin`.
    pub source: String,
    pub digests: Vec<Digest>,
    /// Seconds since the Unix epoch.
    pub not_before: u64,
    pub expires: u64,
    /// All bodies together.
    pub bytes: u64,
    /// The most that all of them together may have of it in a second, in bits; what the source
    /// gives to anybody where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_bps: Option<u64>,
}

/// Why a ticket is worth nothing here and now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    #[error("this is not a ticket of version 1")]
    Form,
    #[error("the ticket is not signed by this box's control plane")]
    Signature,
    #[error("the ticket is for {0}, and not for the box that shows it")]
    Asker(BoxId),
    #[error("the ticket is for the source {0}")]
    Source(String),
    #[error("the ticket does not name the object")]
    Object,
    #[error("the ticket is not valid before {0} (seconds since the epoch)")]
    Early(u64),
    #[error("the ticket ended at {0} (seconds since the epoch)")]
    Ended(u64),
}

impl Ticket {
    /// May `asker` fetch `digest` from `source` at `now`? The byte budget is the caller's to keep.
    pub fn check(
        &self,
        asker: &BoxId,
        source: &str,
        digest: Digest,
        now: Wall,
    ) -> Result<(), TicketError> {
        let now = clock::unix_seconds(now);
        if self.asker != *asker {
            return Err(TicketError::Asker(self.asker.clone()));
        }
        if self.source != source {
            return Err(TicketError::Source(self.source.clone()));
        }
        if !self.digests.contains(&digest) {
            return Err(TicketError::Object);
        }
        if now.saturating_add(CLOCK_SLACK_S) < self.not_before {
            return Err(TicketError::Early(self.not_before));
        }
        if now >= self.expires.saturating_add(CLOCK_SLACK_S) {
            return Err(TicketError::Ended(self.expires));
        }
        Ok(())
    }
}

impl Signer {
    /// `<JSON in hexadecimal>.<signature in hexadecimal>`: nothing in it needs escaping.
    pub fn ticket(&self, ticket: &Ticket) -> String {
        let json = serde_json::to_vec(ticket).unwrap_or_default();
        let signature = self.sign_text("oca-ticket-v1", &json);
        format!("{}.{}", hex::encode(&json), hex::encode(&signature))
    }
}

impl Verifier {
    /// Believes a ticket that a control plane's key signed; [`Ticket::check`] comes next.
    pub fn ticket(&self, text: &str) -> Result<Ticket, TicketError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TicketError::Form);
        }
        // One ticket has one text: sources count its bytes by it.
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(TicketError::Form);
        }
        let (json, signature) = text.split_once('.').ok_or(TicketError::Form)?;
        let json = hex::decode_any(json).ok_or(TicketError::Form)?;
        let signature: [u8; 64] = hex::decode(signature).ok_or(TicketError::Form)?;
        if !self.is_signed("oca-ticket-v1", &json, &signature) {
            return Err(TicketError::Signature);
        }
        let ticket: Ticket = serde_json::from_slice(&json).map_err(|_| TicketError::Form)?;
        if ticket.digests.len() > DIGESTS_MAX {
            return Err(TicketError::Form);
        }
        Ok(ticket)
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 8032 section 7.1, test 1.
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

    /// What the ticket below is in JSON, and what Ed25519 makes of it with that key: docs/LINK.md.
    const JSON: &str = "{\"asker\":\"c002-tls001-example-isp\",\
                        \"source\":\"c001-tls001-example-isp\",\
                        \"digests\":[\"af1349b9f5f9a1a6a0404dea36dcc949\
                        9bcb25c9adc112b7cc9a93cae41f3262\"],\
                        \"not_before\":1767225600,\"expires\":1767226200,\"bytes\":1000000}";
    const SIGNATURE: &str = "a11a0dbce0bde348332b3259fedc5b5b369c14ad5b87ba7fe122d95f9fb8a2a1\
                             2fbbd773edec8fb159977f671651b649d3ed23cf8d2bd2db95666264c3752402";

    fn signer() -> Signer {
        let seed: [u8; 32] = hex::decode(SEED).unwrap();
        let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        Signer::from_pkcs8(pair.to_pkcs8().unwrap().as_ref()).unwrap()
    }

    fn verifier() -> Verifier {
        Verifier::new(&[signer().public_hex()]).unwrap()
    }

    fn id(text: &str) -> BoxId {
        BoxId::parse(text).unwrap()
    }

    fn ticket() -> Ticket {
        Ticket {
            asker: id("c002-tls001-example-isp"),
            source: "c001-tls001-example-isp".to_owned(),
            digests: vec![Digest::of(b"")],
            not_before: 1_767_225_600,
            expires: 1_767_226_200,
            bytes: 1_000_000,
            rate_bps: None,
        }
    }

    fn at(seconds: u64) -> Wall {
        Wall::from_second(seconds.try_into().unwrap()).unwrap()
    }

    #[test]
    fn the_text_of_a_ticket_is_what_the_contract_shows() {
        let text = signer().ticket(&ticket());
        let (json, signature) = text.split_once('.').unwrap();
        let json = String::from_utf8(hex::decode_any(json).unwrap()).unwrap();
        assert_eq!(json, JSON);
        assert_eq!(signature, SIGNATURE);
        assert_eq!(verifier().ticket(&text), Ok(ticket()));
    }

    #[test]
    fn fields_of_a_later_control_plane_do_not_make_a_ticket_void() {
        let json = JSON.replace("}", ",\"later\":[1]}").into_bytes();
        let signature = signer().sign_text("oca-ticket-v1", &json);
        let text = format!("{}.{}", hex::encode(&json), hex::encode(&signature));
        assert_eq!(verifier().ticket(&text), Ok(ticket()));
    }

    #[test]
    fn a_signature_for_another_purpose_makes_no_ticket() {
        let json = JSON.as_bytes();
        let signature = signer().sign_text("oca-deletion-override-v1", json);
        let text = format!("{}.{}", hex::encode(json), hex::encode(&signature));
        assert_eq!(verifier().ticket(&text), Err(TicketError::Signature));
        let nobody = Verifier::new(&[]).unwrap();
        let text = signer().ticket(&ticket());
        assert_eq!(nobody.ticket(&text), Err(TicketError::Signature));
    }

    #[test]
    fn the_largest_ticket_fits_and_one_object_more_is_refused() {
        let long = "c123456789-tls001-".to_owned() + &"x".repeat(60) + "-isp";
        let asker = BoxId::parse(&long).unwrap_or_else(|_| id("c123456789-tls001-example-isp"));
        let mut large = Ticket {
            source: asker.to_string(),
            asker,
            digests: vec![Digest::of(b"x"); DIGESTS_MAX],
            not_before: u64::MAX,
            expires: u64::MAX,
            bytes: u64::MAX,
            rate_bps: Some(u64::MAX),
        };
        let text = signer().ticket(&large);
        assert!(text.len() <= TEXT_BYTES_MAX, "{}", text.len());
        assert_eq!(verifier().ticket(&text), Ok(large.clone()));
        large.digests.push(Digest::of(b"y"));
        let text = signer().ticket(&large);
        assert_eq!(verifier().ticket(&text), Err(TicketError::Form));
    }

    #[test]
    fn time_counts_to_the_second_with_a_slack_at_both_ends_and_never_overflows() {
        let ticket = ticket();
        let (first, end) = (ticket.not_before - 60, ticket.expires + 60);
        let check = |second| {
            let asker = &ticket.asker;
            ticket.check(asker, &ticket.source, Digest::of(b""), at(second))
        };
        assert_eq!(check(first - 1), Err(TicketError::Early(ticket.not_before)));
        assert_eq!(check(first), Ok(()));
        assert_eq!(check(end - 1), Ok(()));
        assert_eq!(check(end), Err(TicketError::Ended(ticket.expires)));
        let mut for_ever = ticket.clone();
        (for_ever.not_before, for_ever.expires) = (0, u64::MAX);
        let asker = &for_ever.asker;
        let verdict = for_ever.check(asker, &ticket.source, Digest::of(b""), Wall::MAX);
        assert_eq!(verdict, Ok(()));
    }

    #[test]
    fn every_flipped_bit_makes_a_ticket_void() {
        let text = signer().ticket(&ticket());
        let verifier = verifier();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let Ok(changed) = String::from_utf8(bytes) else {
                    continue;
                };
                assert!(verifier.ticket(&changed).is_err(), "bit {bit} of {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_no_ticket_and_never_panics(text in "\\PC{0,300}") {
            prop_assert!(verifier().ticket(&text).is_err());
        }

        #[test]
        fn signed_nonsense_is_an_error_and_never_panics(
            json in proptest::collection::vec(any::<u8>(), 0..300)) {
            let signature = signer().sign_text("oca-ticket-v1", &json);
            let text = format!("{}.{}", hex::encode(&json), hex::encode(&signature));
            prop_assert_eq!(verifier().ticket(&text), Err(TicketError::Form));
        }

        #[test]
        fn cut_and_lengthened_tickets_are_void(cut in 0_usize..900, tail in "[0-9a-f.]{1,8}") {
            let text = signer().ticket(&ticket());
            if cut < text.len() {
                prop_assert!(verifier().ticket(&text[..cut]).is_err());
            }
            let longer = [text.clone() + &tail, tail + &text];
            prop_assert!(longer.iter().all(|text| verifier().ticket(text).is_err()));
        }
    }
}

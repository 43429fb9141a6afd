//! The certificate of content: what a box held, whole, when it was filled before it was shipped.
//!
//! A file of text: the first line is a [`Certificate`] in JSON, then one line an object's key,
//! `<digest> <length> <key>`, in the order of the keys. The first line has counts and the BLAKE3
//! digest of all other lines, and is signed with the box's own key. `appliance` writes and checks
//! the file. Pure.

use crate::ids::BoxId;
use crate::key::KEY_BYTES_MAX;
use crate::key::Key;
use crate::link::identity;
use crate::link::identity::Identity;
use crate::link::message::Position;
use crate::object::Digest;
use serde::Deserialize;
use serde::Serialize;
use std::collections::HashSet;

/// Begins the text that is signed, and names the kind of file in the first line.
const KIND: &str = "oca-certificate-of-content-v1";

/// The first line is no longer.
pub const HEAD_BYTES_MAX: u64 = 16 << 10;

/// Digest, length and key of a line, with what is between them.
pub const LINE_BYTES_MAX: u64 = KEY_BYTES_MAX as u64 + 64 + 20 + 3;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub kind: String,
    #[serde(rename = "box")]
    pub id: BoxId,
    /// RFC 3339 UTC.
    pub made: String,
    /// Of the manifest by which it was filled.
    #[serde(flatten)]
    pub position: Position,
    pub counts: Counts,
    /// BLAKE3 of all other lines.
    pub list: Digest,
    /// SubjectPublicKeyInfo, DER, hexadecimal; the registry has its SHA-256.
    pub public_key: String,
    /// ECDSA with P-256 and SHA-256 over [`Certificate::signed_text`], hexadecimal.
    pub signature: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Lines of the list.
    pub keys: u64,
    /// Different objects among them, and their bytes.
    pub objects: u64,
    pub bytes: u64,
    /// Keys of the manifest that the box did not hold.
    pub missing: u64,
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub digest: Digest,
    pub length: u64,
    pub key: Key,
}

/// Why a file is no certificate that this box could be compared with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("this is no certificate of content of version 1; `oca fill certificate` names ours")]
    Form,
    #[error("line {0} is not `<digest> <length> <key>` behind the line before it")]
    Line(u64),
    #[error("the list is not the one that was signed: the file was damaged or changed")]
    List,
    #[error("the signature is not that of its key: the file was damaged or changed")]
    Signature,
    #[error("this is the certificate of {of}, and this box is {own}")]
    Box { of: BoxId, own: BoxId },
    #[error(
        "it was signed with another key than this box's: another machine had the name then, or \
         somebody else made it; fill and certify again"
    )]
    Key,
}

/// Counts and digest of a list, as it is written or read.
#[derive(Debug, Default)]
pub struct List {
    hasher: blake3::Hasher,
    objects: HashSet<Digest>,
    counts: Counts,
    last: Option<Key>,
}

impl List {
    /// The line's text. `None`: it does not come behind the one before.
    pub fn add(&mut self, line: Line) -> Option<String> {
        if self
            .last
            .as_ref()
            .is_some_and(|last| last.as_str() >= line.key.as_str())
        {
            return None;
        }
        let text = line.text();
        self.hasher.update(text.as_bytes());
        self.counts.keys += 1;
        if self.objects.insert(line.digest) {
            self.counts.objects += 1;
            self.counts.bytes = self.counts.bytes.saturating_add(line.length);
        }
        self.last = Some(line.key);
        Some(text)
    }

    /// A key that the manifest has and no disk does.
    pub fn miss(&mut self) {
        self.counts.missing += 1;
    }

    /// The certificate of what was added.
    pub fn certify(
        &self,
        identity: &Identity,
        id: BoxId,
        made: String,
        position: Position,
    ) -> Result<Certificate, identity::IdentityError> {
        let mut certificate = Certificate {
            kind: KIND.to_owned(),
            id,
            made,
            position,
            counts: self.counts,
            list: Digest(*self.hasher.finalize().as_bytes()),
            public_key: identity.public_key(),
            signature: String::new(),
        };
        certificate.signature = identity.sign(&certificate.signed_text())?;
        Ok(certificate)
    }

    /// Is it the list that this certificate was made of?
    pub fn check(&self, certificate: &Certificate) -> Result<(), CertificateError> {
        let counts = Counts {
            missing: certificate.counts.missing,
            ..self.counts
        };
        let list = Digest(*self.hasher.finalize().as_bytes());
        let same = list == certificate.list && counts == certificate.counts;
        same.then_some(()).ok_or(CertificateError::List)
    }
}

impl Certificate {
    /// Reads a first line and believes its signature.
    pub fn parse(text: &str) -> Result<Self, CertificateError> {
        let parsed: Self = serde_json::from_str(text).map_err(|_| CertificateError::Form)?;
        if parsed.kind != KIND {
            return Err(CertificateError::Form);
        }
        let said = parsed.signed_text();
        if !identity::is_word_of(&parsed.public_key, &said, &parsed.signature) {
            return Err(CertificateError::Signature);
        }
        Ok(parsed)
    }

    /// Was it made by this box, under the key that it has?
    pub fn is_of(&self, id: &BoxId, identity: &Identity) -> Result<(), CertificateError> {
        if self.id != *id {
            let (of, own) = (self.id.clone(), id.clone());
            return Err(CertificateError::Box { of, own });
        }
        let same = self.public_key == identity.public_key();
        same.then_some(()).ok_or(CertificateError::Key)
    }

    /// Each figure on a line of its own, as docs/OPERATING.md says.
    fn signed_text(&self) -> String {
        let Position { epoch, generation } = self.position;
        let Counts {
            keys,
            objects,
            bytes,
            missing,
        } = self.counts;
        format!(
            "{KIND}\n{}\n{}\n{epoch}\n{generation}\n{keys}\n{objects}\n{bytes}\n{missing}\n{}\n",
            self.id, self.made, self.list
        )
    }
}

impl Line {
    fn text(&self) -> String {
        format!("{} {} {}\n", self.digest, self.length, self.key.as_str())
    }

    /// With its line end; `number` is for the error.
    pub fn parse(text: &str, number: u64) -> Result<Self, CertificateError> {
        let parse = || {
            let (digest, rest) = text.strip_suffix('\n')?.split_once(' ')?;
            let (length, key) = rest.split_once(' ')?;
            let line = Self {
                digest: digest.parse().ok()?,
                length: length.parse().ok()?,
                key: Key::parse(key.as_bytes()).ok()?,
            };
            // One line has one text.
            (line.text() == text).then_some(line)
        };
        parse().ok_or(CertificateError::Line(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn own() -> (BoxId, Identity) {
        let pin = format!("sha256:{}", "ab".repeat(32));
        let id = BoxId::parse("c009-tls001-example-isp").unwrap();
        (id, Identity::transient(&pin).unwrap())
    }

    fn line(content: &str, key: &str) -> Line {
        Line {
            digest: Digest::of(content.as_bytes()),
            length: content.len() as u64,
            key: Key::parse(key.as_bytes()).unwrap(),
        }
    }

    const POSITION: Position = Position {
        epoch: 3,
        generation: 7,
    };

    fn list() -> (List, String) {
        let mut list = List::default();
        let lines = [line("one", "a/b"), line("one", "a/c"), line("other", "d")];
        let text = lines.map(|line| list.add(line).unwrap()).concat();
        list.miss();
        (list, text)
    }

    #[test]
    fn what_was_certified_is_read_back_counted_and_believed() {
        let (id, identity) = own();
        let (list, text) = list();
        let made = "2026-01-02T03:04:05Z".to_owned();
        let certificate = list.certify(&identity, id.clone(), made, POSITION).unwrap();
        let counts = certificate.counts;
        assert_eq!(
            (counts.keys, counts.objects),
            (3, 2),
            "two keys name one object"
        );
        assert_eq!((counts.bytes, counts.missing), (8, 1));
        assert_eq!(
            certificate.list,
            Digest::of(text.as_bytes()),
            "b3sum says the same"
        );
        let head = serde_json::to_string(&certificate).unwrap();
        assert!((head.len() as u64) < HEAD_BYTES_MAX);
        let read = Certificate::parse(&head).unwrap();
        assert_eq!(read, certificate);
        assert_eq!(read.is_of(&id, &identity), Ok(()));
        let mut again = List::default();
        for (number, text) in text.split_inclusive('\n').enumerate() {
            again
                .add(Line::parse(text, number as u64).unwrap())
                .unwrap();
        }
        assert_eq!(again.check(&read), Ok(()));
    }

    #[test]
    fn another_figure_another_list_another_box_and_another_key_are_refused() {
        let (id, identity) = own();
        let (mut list, _) = list();
        let certificate = list
            .certify(&identity, id.clone(), "now".into(), POSITION)
            .unwrap();
        let changes: [fn(&mut Certificate); 4] = [
            |one| one.counts.bytes += 1,
            |one| one.position.generation += 1,
            |one| one.list = Digest::of(b"another"),
            |one| one.made.push('!'),
        ];
        for change in changes {
            let mut changed = certificate.clone();
            change(&mut changed);
            let text = serde_json::to_string(&changed).unwrap();
            assert_eq!(Certificate::parse(&text), Err(CertificateError::Signature));
        }
        assert_eq!(Certificate::parse("{}"), Err(CertificateError::Form));
        assert_eq!(list.check(&certificate), Ok(()));
        list.add(line("more", "e")).unwrap();
        assert_eq!(list.check(&certificate), Err(CertificateError::List));
        let (_, replaced) = own();
        assert_eq!(
            certificate.is_of(&id, &replaced),
            Err(CertificateError::Key)
        );
        let other = BoxId::parse("c010-tls001-example-isp").unwrap();
        let refused = certificate.is_of(&other, &identity).unwrap_err();
        assert!(refused.to_string().contains("c010-tls001"), "{refused}");
    }

    #[test]
    fn a_key_twice_or_out_of_order_is_no_list() {
        let mut list = List::default();
        assert!(list.add(line("one", "b")).is_some());
        assert!(list.add(line("two", "b")).is_none());
        assert!(list.add(line("two", "a")).is_none());
        assert!(list.add(line("two", "b/a")).is_some());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), number in any::<u64>()) {
            let _ = (Line::parse(&text, number), Certificate::parse(&text));
        }
    }
}

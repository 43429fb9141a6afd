//! What a box says under its own key, beside TLS: a text, and who could have signed it.
//!
//! The key is the one that the registry binds to the box's name, so that whoever reads the registry
//! can believe the text. Each kind of text begins with a line of its own.

use super::Identity;
use super::IdentityError;
use super::x509;
use crate::link::hex;
use aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1;
use aws_lc_rs::signature::UnparsedPublicKey;
use rcgen::PublicKeyData as _;
use rcgen::SigningKey as _;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Neither a key nor a signature of P-256 is longer.
const TEXT_BYTES_MAX: usize = 1024;

impl Identity {
    /// The public key (SubjectPublicKeyInfo, DER), hexadecimal.
    pub fn public_key(&self) -> String {
        hex::encode(&self.key.0.subject_public_key_info())
    }

    /// ECDSA with P-256 and SHA-256, hexadecimal.
    pub fn sign(&self, text: &str) -> Result<String, IdentityError> {
        let signature = self.key.0.sign(text.as_bytes());
        let signature = signature.map_err(|error| IdentityError::Library(error.to_string()))?;
        Ok(hex::encode(&signature))
    }
}

/// Did the holder of this key sign the text? Both in hexadecimal, as [`Identity`] gives them.
pub fn is_word_of(public_key: &str, text: &str, signature: &str) -> bool {
    let decode = |text: &str| {
        let text = Some(text).filter(|text| text.len() <= TEXT_BYTES_MAX)?;
        hex::decode_any(text)
    };
    let (Some(key), Some(signature)) = (decode(public_key), decode(signature)) else {
        return false;
    };
    let Ok(([], key)) = SubjectPublicKeyInfo::from_der(&key) else {
        return false;
    };
    let point: &[u8] = &key.subject_public_key.data;
    let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
    x509::is_p256(&key) && verifier.verify(text.as_bytes(), &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_believed_under_its_own_key_and_no_other() {
        let pin = format!("sha256:{}", "ab".repeat(32));
        let identity = || Identity::transient(&pin).unwrap();
        let (one, other) = (identity(), identity());
        let signature = one.sign("kind-v1\nword\n").unwrap();
        assert!(is_word_of(&one.public_key(), "kind-v1\nword\n", &signature));
        assert!(!is_word_of(
            &one.public_key(),
            "kind-v1\nwork\n",
            &signature
        ));
        assert!(!is_word_of(
            &other.public_key(),
            "kind-v1\nword\n",
            &signature
        ));
        for nonsense in ["", "zz", "00", &"00".repeat(600), "é"] {
            assert!(!is_word_of(nonsense, "kind-v1\nword\n", &signature));
            assert!(!is_word_of(&one.public_key(), "kind-v1\nword\n", nonsense));
        }
    }
}

//! The signed permission to delete more than a box's own pace allows.
//!
//! The control plane signs with [`Signer::permit`] what an operator granted; the box's `fill`
//! believes it by [`Verifier::permit`] and by nothing else (SAFETY: deletion).

use super::hex;
use super::manifest::Signer;
use super::manifest::Verifier;
use super::message::DeletionOverride;
use super::message::Position;
use crate::clock;
use crate::clock::Wall;
use crate::ids::BoxId;

const PURPOSE: &str = "oca-deletion-override-v1";

/// Why a permission permits nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PermitError {
    #[error("the deletion override is for another box")]
    Foreign,
    #[error("the deletion override is not signed by this box's control plane")]
    Signature,
    #[error("the deletion override has ended, or is not valid yet")]
    Time,
}

impl Signer {
    /// Times in seconds since the Unix epoch.
    pub fn permit(
        &self,
        id: &BoxId,
        position: Position,
        bytes: u64,
        issued: u64,
        expires: u64,
    ) -> DeletionOverride {
        let mut permit = DeletionOverride {
            id: id.to_string(),
            position,
            bytes,
            issued,
            expires,
            key: self.public_hex(),
            signature: String::new(),
        };
        let signature = self.sign_text(PURPOSE, permit.signed_text().as_bytes());
        permit.signature = hex::encode(&signature);
        permit
    }
}

impl Verifier {
    /// Is it signed, for this box, and in its time?
    pub fn permit(
        &self,
        permit: &DeletionOverride,
        id: &BoxId,
        now: Wall,
    ) -> Result<(), PermitError> {
        let signature = hex::decode::<64>(&permit.signature).ok_or(PermitError::Signature)?;
        if !self.is_signed(PURPOSE, permit.signed_text().as_bytes(), &signature) {
            return Err(PermitError::Signature);
        }
        if permit.id != id.as_str() {
            return Err(PermitError::Foreign);
        }
        let now = clock::unix_seconds(now);
        if now < permit.issued || now >= permit.expires {
            return Err(PermitError::Time);
        }
        Ok(())
    }
}

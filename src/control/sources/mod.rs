//! Who may fetch what from whom: the answer to `POST /v1/fill-sources`, and the origin's gateway.
//!
//! `availability` finds the boxes that hold an object → `rank` orders them: peer, tier, network,
//! origin, each by cost → `masters` elects who goes to the origin for a title and region →
//! `escalation` says when the others may → `tickets` signs, `presign` and `gateway` are the origin.

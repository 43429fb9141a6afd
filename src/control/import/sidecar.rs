//! `<key>.b3`: the digest of the file beside it, as `b3sum` prints it.
//!
//! An operator who hashed a file where it was made tells what it has to be. A file of one chunk is
//! not read then; a larger one is read once for its chunk tree and must have that digest. Boxes
//! verify what they fetch against the digest, so a wrong word costs a fill, never a viewer.

use crate::object::Digest;

/// A digest, two spaces and a path.
pub(super) const SIDECAR_BYTES_MAX: u64 = 4096;

/// Why a `.b3` file is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SidecarError {
    #[error("it is longer than {SIDECAR_BYTES_MAX} bytes")]
    TooLong,
    #[error("it does not hold one line of 64 lower-case hexadecimal digits and a name")]
    Form,
    #[error("it names another file")]
    Name,
    #[error("the file's bytes have another digest")]
    Digest,
}

/// Reads the word on the file called `name` (a key).
pub(super) fn parse(bytes: &[u8], name: &str) -> Result<Digest, SidecarError> {
    let text = std::str::from_utf8(bytes).map_err(|_| SidecarError::Form)?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains(['\n', '\r', '\0']) {
        return Err(SidecarError::Form);
    }
    let (digits, rest) = line.split_at_checked(64).ok_or(SidecarError::Form)?;
    let digest: Digest = digits.parse().map_err(|_| SidecarError::Form)?;
    if rest.is_empty() {
        return Ok(digest);
    }
    let said = rest.strip_prefix([' ', '\t']).ok_or(SidecarError::Form)?;
    let said = said.trim_matches([' ', '\t', '*']);
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    // `-` is what `b3sum` calls its standard input.
    if said.is_empty() || said == "-" || last(said) == last(name) {
        Ok(digest)
    } else {
        Err(SidecarError::Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_b3sum_prints_is_believed_and_anything_else_refused() {
        let digest = Digest::of(b"film");
        for good in [
            format!("{digest}"),
            format!("{digest}\n"),
            format!("{digest}\r\n"),
            format!("{digest}  a.mp4\n"),
            format!("{digest}  ./t/a.mp4\n"),
            format!("{digest} *a.mp4"),
            format!("{digest}  -\n"),
        ] {
            assert_eq!(parse(good.as_bytes(), "t/a.mp4"), Ok(digest), "{good:?}");
        }
        let upper = digest.to_string().to_uppercase();
        for (bad, error) in [
            (String::new(), SidecarError::Form),
            (upper, SidecarError::Form),
            (digest.to_string()[1..].to_owned(), SidecarError::Form),
            (format!("{digest}a.mp4"), SidecarError::Form),
            (format!("{digest}0"), SidecarError::Form),
            (format!("{digest}\n{digest}\n"), SidecarError::Form),
            (format!("BLAKE3 (a.mp4) = {digest}"), SidecarError::Form),
            (format!("{digest}  b.mp4"), SidecarError::Name),
        ] {
            assert_eq!(parse(bad.as_bytes(), "t/a.mp4"), Err(error), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, "a");
        }
    }
}

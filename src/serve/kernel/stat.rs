//! `/proc/net/tls_stat`: how many sockets of this host seal in the kernel, in software or on the
//! network card, since it booted.
//!
//! I/O: reads one small file of the kernel's.

use std::collections::BTreeMap;
use std::io::Read;

/// A dozen lines as of Linux 6.18.
const STAT_BYTES_MAX: u64 = 16 * 1024;

/// Through `self`, because a hardened unit may hide the rest of `/proc`.
const STAT_PATH: &str = "/proc/self/net/tls_stat";

/// Nothing where the kernel has no TLS.
pub(super) fn read() -> BTreeMap<String, u64> {
    let mut text = String::new();
    match std::fs::File::open(STAT_PATH) {
        Ok(file) => match file.take(STAT_BYTES_MAX).read_to_string(&mut text) {
            Ok(_) => parse(&text),
            Err(_) => BTreeMap::new(),
        },
        Err(_) => BTreeMap::new(),
    }
}

fn parse(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_names_and_numbers_and_others_are_left_out() {
        let text = "TlsCurrTxSw                     \t3\nTlsTxDevice\t0\nodd\nTlsX \tyes\n";
        let known = parse(text);
        assert_eq!(known["TlsCurrTxSw"], 3);
        assert_eq!(known["TlsTxDevice"], 0);
        assert_eq!(known.len(), 2);
    }
}

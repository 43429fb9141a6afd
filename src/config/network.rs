//! The values of networks: addresses of machines, AS numbers, names, URLs, fingerprints.
//!
//! [`super::value`] calls these for the kinds of the same names. Each takes the text and gives the
//! value, or what is wrong and what to write. Nothing is looked up.

use super::value::Value;
use std::net::IpAddr;
use std::net::Ipv4Addr;

/// What is wrong, and what to write instead.
type Told = (String, String);

/// Lower-case host labels have at most 63 bytes, names at most 253 (RFC 1035 section 2.3.4).
const LABEL_MAX: usize = 63;
const HOST_MAX: usize = 253;

/// A domain leaves room for `ipv6-c<number>-<site>.` before it.
const DOMAIN_MAX: usize = 180;

/// Stands for four-octet numbers towards old routers (RFC 6793 section 9): nobody's AS.
const AS_TRANS: u64 = 23_456;

/// An address that one machine can have, without a zone.
pub(super) fn ip(text: &str) -> Result<Value, Told> {
    let Ok(address) = text.parse::<IpAddr>() else {
        let remedy = "write for example `\"192.0.2.1\"` or `\"2001:db8::1\"`, without a port or \
                      a length; names are not looked up";
        return Err((format!("`{text}` is not an IP address"), remedy.to_owned()));
    };
    let refused = |what: &str, remedy: String| Err((format!("`{text}` is {what}"), remedy));
    let machine = || "write the address of one machine".to_owned();
    match address {
        _ if address.is_unspecified() => refused("no machine's address", machine()),
        _ if address.is_multicast() => refused("a multicast address", machine()),
        IpAddr::V4(v4) if v4.is_broadcast() => refused("the broadcast address", machine()),
        IpAddr::V4(_) => Ok(Value::Ip(address)),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => refused("an IPv4 address in disguise", format!("write `\"{v4}\"`")),
            None if v6.is_unicast_link_local() => refused(
                "a link-local address, which means nothing without its interface",
                "write a global or unique local address".to_owned(),
            ),
            None => Ok(Value::Ip(address)),
        },
    }
}

/// The same, or one of a link, whose interface another key names.
pub(super) fn router(text: &str) -> Result<Value, Told> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.is_unicast_link_local() => Ok(Value::Ip(v6.into())),
        Ok(IpAddr::V4(_) | IpAddr::V6(_)) => ip(text),
        Err(_) => match text.split_once('%') {
            Some((address, interface)) => Err((
                format!("`{text}` has its interface in it"),
                format!("write `\"{address}\"`, and `interface = \"{interface}\"` beside it"),
            )),
            None => ip(text),
        },
    }
}

pub(super) fn router_id(text: &str) -> Result<Value, Told> {
    match text.parse::<Ipv4Addr>() {
        Ok(id) if !id.is_unspecified() => Ok(Value::RouterId(id)),
        Ok(_) | Err(_) => Err((
            format!("`{text}` is not a BGP identifier"),
            "write an IPv4 address of this box, for example `\"192.0.2.9\"`; on a box without one \
             any number in this form that no neighbour uses, but not 0.0.0.0"
                .to_owned(),
        )),
    }
}

/// A whole number that may be an AS.
pub(super) fn asn(number: Option<u64>, written: &str) -> Result<Value, Told> {
    match number {
        Some(AS_TRANS) => Err((
            "23456 is AS_TRANS: it stands for numbers that old routers cannot write".to_owned(),
            "write the real AS number, for example `64500`".to_owned(),
        )),
        Some(number) if (1..=u64::from(u32::MAX)).contains(&number) => Ok(Value::Number(number)),
        Some(_) | None => Err((
            format!("`{written}` is outside the range from 1 to {}", u32::MAX),
            format!("write a value from 1 to {}", u32::MAX),
        )),
    }
}

/// An AS number in another form than ours: `"64500"`, `"AS64500"`, `1.10`, `"1.10"`.
pub(super) fn disguised_asn(written: &str) -> Option<Told> {
    let bare = written.strip_prefix("AS").or(written.strip_prefix("as"));
    let bare = bare.unwrap_or(written);
    let number = match bare.split_once('.') {
        Some((high, low)) => {
            let half = |part: &str| part.parse::<u16>().ok().map(u64::from);
            (half(high)? << 16) | half(low)?
        }
        None => bare.parse::<u32>().ok()?.into(),
    };
    Some((
        format!("`{written}` is not the plain form of an AS number"),
        format!("write one number without quotes: `{number}`"),
    ))
}

pub(super) fn fingerprint(text: &str) -> Result<Value, Told> {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Value::Text(text.to_ascii_lowercase()));
    }
    let remedy = "write `\"sha256:<64 hexadecimal digits>\"` as the provisioning file has it";
    Err((format!("`{text}` is not a fingerprint"), remedy.to_owned()))
}

/// Scheme, host and port, and nothing else. Kept in lower case.
pub(super) fn url(text: &str, plain: bool) -> Result<Value, Told> {
    let lower = text.to_ascii_lowercase();
    let schemes: &[&str] = if plain {
        &["https://", "http://"]
    } else {
        &["https://"]
    };
    let example = "`\"https://control.example.net:8443\"`";
    let rest = schemes.iter().find_map(|scheme| lower.strip_prefix(scheme));
    let Some(rest) = rest else {
        let known = schemes.join("` or `");
        let problem = format!("`{text}` does not begin with `{known}`");
        return Err((problem, format!("write for example {example}")));
    };
    if let Some((before, _)) = rest.split_once(['/', '?', '#']) {
        let scheme = lower.strip_suffix(rest).unwrap_or_default();
        let problem = format!("`{text}` has more than a host and a port");
        return Err((problem, format!("write `\"{scheme}{before}\"`")));
    }
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        Some(_) | None => (rest, None),
    };
    let is_port = |port: &str| {
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        digits && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    let is_host = match name.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').is_some_and(is_ipv6),
        None => is_host(name),
    };
    if is_host && port.is_none_or(is_port) {
        Ok(Value::Text(lower))
    } else {
        let problem = format!("`{text}` does not name a host and a port");
        Err((problem, format!("write for example {example}")))
    }
}

/// A word that can stand between separators: in logs, file names, and a route's canonical line.
pub(super) fn label(text: &str) -> Result<Value, Told> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=LABEL_MAX).contains(&text.len()) && text.bytes().all(plain) {
        return Ok(Value::Text(text.to_owned()));
    }
    let remedy = format!("write 1 to {LABEL_MAX} letters, digits, `-`, `_` or `.`");
    Err((format!("`{text}` is not a plain name"), remedy))
}

pub(super) fn domain(text: &str) -> Result<Value, Told> {
    let is_address = text.parse::<IpAddr>().is_ok();
    if text.len() <= DOMAIN_MAX && is_host(text) && !is_address {
        return Ok(Value::Text(text.to_ascii_lowercase()));
    }
    let remedy = format!(
        "write a DNS name of at most {DOMAIN_MAX} bytes, without dots at its ends, for example \
         `\"oca.example.net\"`"
    );
    Err((format!("`{text}` is not a domain"), remedy))
}

/// A DNS name or an IP address, as a certificate may carry it.
pub(super) fn host(text: &str) -> Result<String, Told> {
    if is_host(text) || is_ipv6(text) {
        return Ok(text.to_ascii_lowercase());
    }
    let remedy = "write a DNS name or an IP address, without a scheme or a port";
    Err((format!("`{text}` is not a host"), remedy.to_owned()))
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// A DNS name, or an IPv4 address: a name that ends in a number would be taken for one.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_name = text.len() <= HOST_MAX && text.split('.').all(is_label);
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
    is_name && (!is_number || text.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedy<T: std::fmt::Debug>(outcome: Result<T, Told>) -> String {
        outcome.unwrap_err().1
    }

    #[test]
    fn only_addresses_that_one_machine_can_have_are_taken() {
        for good in ["192.0.2.1", "2001:db8::1", "127.0.0.1", "::1", "fd00::1"] {
            assert_eq!(ip(good), Ok(Value::Ip(good.parse().unwrap())));
        }
        for bad in [
            "",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert!(ip(bad).is_err(), "{bad}");
        }
        for bad in [
            "192.0.2.1:179",
            "192.0.2.0/24",
            "fe80::1%eth0",
            "router.example.net",
        ] {
            assert!(remedy(ip(bad)).contains("without a port"), "{bad}");
        }
        assert_eq!(remedy(ip("::ffff:192.0.2.1")), "write `\"192.0.2.1\"`");
        assert!(ip("fe80::1").unwrap_err().0.contains("link-local"));
        assert_eq!(router("fe80::1"), Ok(Value::Ip("fe80::1".parse().unwrap())));
        assert_eq!(router("192.0.2.1"), ip("192.0.2.1"));
        assert_eq!(router("::"), ip("::"));
        assert!(remedy(router("fe80::1%eth0")).contains("`interface = \"eth0\"`"));
        assert!(router_id("0.0.0.0").is_err() && router_id("2001:db8::1").is_err());
        assert!(router_id("0.0.0.1").is_ok());
    }

    #[test]
    fn an_as_number_is_one_number_and_other_forms_are_told_theirs() {
        assert_eq!(asn(Some(1), ""), Ok(Value::Number(1)));
        assert_eq!(
            asn(Some(4_294_967_295), ""),
            Ok(Value::Number(4_294_967_295))
        );
        for bad in [Some(0), Some(23_456), Some(4_294_967_296), None] {
            assert!(asn(bad, "x").is_err(), "{bad:?}");
        }
        let told = |written| disguised_asn(written).map(|(_, remedy)| remedy);
        for written in ["1.10", "AS1.10", "65546", "as65546"] {
            let plain = "write one number without quotes: `65546`";
            assert_eq!(told(written).as_deref(), Some(plain));
        }
        for no_number in ["", "AS", "1.70000", "1.2.3", "-1", "example"] {
            assert_eq!(told(no_number), None, "{no_number}");
        }
    }

    #[test]
    fn a_url_is_a_scheme_a_host_and_a_port() {
        for good in [
            "https://control.example.net",
            "https://control.example.net:8443",
            "https://192.0.2.1:1",
            "https://[2001:db8::1]",
            "https://[2001:db8::1]:65535",
        ] {
            assert_eq!(url(good, false), Ok(Value::Text(good.to_owned())), "{good}");
        }
        let upper = url("HTTPS://Control.Example.NET", false);
        assert_eq!(upper, url("https://control.example.net", false));
        for bad in [
            "https://",
            "https://:8443",
            "https://a:0",
            "https://a:65536",
            "https://a:+1",
            "https://a:",
            "https://user@a",
            "https://a b",
            "https://2001:db8::1",
            "https://[192.0.2.1]",
            "https://192.0.2.999",
            "https://-a.example.net",
            "https://a..example.net",
            "https://é.example.net",
        ] {
            assert!(url(bad, true).is_err(), "{bad}");
        }
        assert!(url("http://a", false).is_err() && url("http://a", true).is_ok());
        assert_eq!(remedy(url("https://A/", false)), "write `\"https://a\"`");
        assert_eq!(remedy(url("http://a:1?x", true)), "write `\"http://a:1\"`");
    }

    #[test]
    fn names_hosts_and_fingerprints_have_one_form() {
        assert!(label("transit-1.b_c").is_ok());
        for bad in ["", "a b", "a|b", "é", &"x".repeat(64)] {
            assert!(label(bad).is_err(), "{bad}");
        }
        assert!(domain("oca.example.net").is_ok());
        for bad in ["", "oca.example.net.", "192.0.2.1", &"a.".repeat(100)] {
            assert!(domain(bad).is_err(), "{bad}");
        }
        assert_eq!(host("Control.example.NET").unwrap(), "control.example.net");
        assert!(host("2001:db8::1").is_ok() && host("192.0.2.1").is_ok());
        assert!(host("a:443").is_err() && host("https://a").is_err());
        let hex = "0123456789abcdefABCDEF0123456789".repeat(2);
        let taken = fingerprint(&format!("sha256:{hex}"));
        assert_eq!(
            taken,
            Ok(Value::Text(format!("sha256:{}", hex.to_lowercase())))
        );
        for bad in [
            &hex,
            "sha256:",
            &format!("sha256:{hex}0"),
            &format!("SHA256:{hex}"),
        ] {
            assert!(fingerprint(bad).is_err(), "{bad}");
        }
    }
}

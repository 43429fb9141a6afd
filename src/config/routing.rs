//! The elements of lists: hosts, addresses, prefixes, communities; and ranges of prefix lengths.
//!
//! [`super::value`] calls these for the kinds of the same names. Each takes the text and gives it
//! back in its one form, or what is wrong and what to write.

use super::keys::Kind;
use super::network;
use super::value::Value;
use crate::bgp::Lengths;
use crate::prefix::Prefix;
use crate::prefix::PrefixError;
use crate::route::Community;

/// What is wrong, and what to write instead.
type Told = (String, String);

/// One element of a list of `kind`, as text that the builder reads again.
pub(super) fn element(kind: Kind, text: &str) -> Result<String, Told> {
    if let Kind::Hosts = kind {
        return network::host(text);
    }
    if let Kind::Ips = kind {
        let Value::Ip(address) = network::ip(text)? else {
            return Err(no_address(text));
        };
        return Ok(address.to_string());
    }
    if let Kind::Communities = kind {
        let remedy = "write for example `\"64500:120\"`: two numbers from 0 to 65535";
        let community = text.parse::<Community>();
        return community
            .map(|community| community.to_string())
            .map_err(|_| (format!("`{text}` is not a community"), remedy.to_owned()));
    }
    match text.parse::<Prefix>() {
        Ok(prefix) => Ok(prefix.to_string()),
        Err(PrefixError::HostBits(_, meant)) => Err((
            format!("`{text}` has bits set beyond its length"),
            format!("write `\"{meant}\"`"),
        )),
        Err(PrefixError::Text(_) | PrefixError::Length { .. }) => Err((
            format!("`{text}` is not a prefix"),
            "write for example `\"192.0.2.0/24\"` or `\"2001:db8::/32\"`".to_owned(),
        )),
    }
}

fn no_address(text: &str) -> Told {
    let remedy = "write for example `\"192.0.2.9\"`";
    (format!("`{text}` is not an IP address"), remedy.to_owned())
}

/// `8-31`, of a family whose addresses have `bits`.
pub(super) fn lengths(text: &str, bits: u8) -> Result<Value, Told> {
    match text.parse::<Lengths>() {
        Ok(lengths) if lengths.longest() <= bits => Ok(Value::Text(lengths.to_string())),
        Ok(_) | Err(_) => Err((
            format!("`{text}` is not a range of prefix lengths from 0 to {bits}"),
            "write the shortest and the longest with `-` between them, as in `\"8-24\"`".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_one_form_and_a_slip_is_told_what_was_meant() {
        assert_eq!(
            element(Kind::Prefixes, "2001:DB8::/32").unwrap(),
            "2001:db8::/32"
        );
        let (problem, remedy) = element(Kind::Prefixes, "192.0.2.1/24").unwrap_err();
        assert!(problem.contains("beyond its length"), "{problem}");
        assert_eq!(remedy, "write `\"192.0.2.0/24\"`");
        assert_eq!(element(Kind::Communities, "65535:0").unwrap(), "65535:0");
        for bad in ["65536:0", "1", "1:2:3", "", "a:b"] {
            assert!(element(Kind::Communities, bad).is_err(), "{bad}");
        }
        assert_eq!(element(Kind::Ips, "2001:DB8::1").unwrap(), "2001:db8::1");
        assert!(element(Kind::Ips, "0.0.0.0").is_err());
        assert_eq!(lengths("8 - 24", 32), Ok(Value::Text("8-24".to_owned())));
        assert!(lengths("8-33", 32).is_err() && lengths("8-33", 128).is_ok());
    }
}

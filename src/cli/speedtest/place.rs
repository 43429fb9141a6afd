//! Where the box is, from the URL of the command line. Sans-IO.

use hyper::Uri;
use std::fmt;

/// A box and what goes with each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) is_secure: bool,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    query: Option<String>,
}

/// Why a URL names no speed test.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` is no URL of a box: {problem}; write for example https://cache.example.net")]
pub(super) struct PlaceError {
    url: String,
    problem: &'static str,
}

impl Place {
    pub(super) fn parse(text: &str) -> Result<Self, PlaceError> {
        let problem = |problem| PlaceError {
            url: crate::help::printable(text.as_bytes(), 200),
            problem,
        };
        let uri: Uri = text.parse().map_err(|_| problem("it cannot be read"))?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(problem("only https and http are spoken")),
            None => return Err(problem("it does not begin with https:// or http://")),
        };
        let authority = uri.authority().ok_or_else(|| problem("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(problem("names and passwords are not sent"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(problem("it has no host"));
        }
        if !matches!(uri.path(), "" | "/" | "/speedtest") {
            return Err(problem("its path is not /speedtest"));
        }
        Ok(Self {
            is_secure,
            host,
            port: authority
                .port_u16()
                .unwrap_or(if is_secure { 443 } else { 80 }),
            query: uri.query().map(str::to_owned),
        })
    }

    /// The target of a request, with the query if there is one.
    pub(super) fn target(&self, path: &str) -> String {
        match &self.query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        }
    }

    /// The `Host` field.
    pub(super) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

/// Without the query: it may be a token.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_box_and_what_goes_with_each_request() {
        let place = Place::parse("https://cache.example.net/speedtest?t=x%2F").unwrap();
        assert_eq!((place.is_secure, place.port), (true, 443));
        assert_eq!(place.target("/speedtest"), "/speedtest?t=x%2F");
        assert_eq!(place.to_string(), "https://cache.example.net:443");
        let place = Place::parse("http://[2001:db8::1]:8080").unwrap();
        assert_eq!((place.host.as_str(), place.port), ("2001:db8::1", 8080));
        assert_eq!(place.authority(), "[2001:db8::1]:8080");
        assert_eq!(place.target("/a"), "/a");
    }

    #[test]
    fn what_is_no_url_of_a_box_is_refused_with_the_form_to_write() {
        for (text, word) in [
            ("cache.example.net", "begin with"),
            ("ftp://cache.example.net", "only https"),
            ("https://u:p@cache.example.net", "passwords"),
            ("https://cache.example.net/film", "path"),
            ("https://", "read"),
            ("", "read"),
        ] {
            let told = Place::parse(text).unwrap_err().to_string();
            assert!(
                told.contains(word) && told.contains("https://cache"),
                "{told}"
            );
        }
    }
}

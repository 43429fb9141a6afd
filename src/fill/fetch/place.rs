//! Where a source is: its URL, read once, and what is to be believed there.
//!
//! [`super::transfer`] asks for the place of each of a source's URLs. A box must be given by its
//! address, the gateway by a path of the link, and the origin by a URL; anything else is refused.
//! Connects nowhere.

use super::Config;
use super::Gateway;
use crate::fill::Fault;
use crate::help::printable;
use crate::link::message::FillSource;
use crate::link::message::SourceKind;
use crate::object::Digest;
use hyper::Uri;
use std::net::IpAddr;

/// Presigned URLs are about 500 bytes; the longest a service takes is 8 KiB.
const URL_BYTES_MAX: usize = 8 << 10;

/// How a URL of the gateway begins.
const GATEWAY_PATH: &str = "/v1/origin/";

/// One place to connect to, and what to ask there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) door: Door,
    /// Path and query.
    pub(super) target: String,
    /// The `Host` header.
    pub(super) authority: String,
}

/// Requests through one door share connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Door {
    pub(super) way: Way,
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// Who answers, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Another box, of this name.
    Box(String),
    /// The control plane's link.
    Gateway,
    /// The content owner's store.
    Origin { tls: bool },
}

impl Place {
    pub(super) fn of(
        source: &FillSource,
        url: &str,
        digest: Digest,
        config: &Config,
    ) -> Result<Self, Fault> {
        let refused = |problem: &str| {
            let shown = printable(url.split('?').next().unwrap_or_default().as_bytes(), 200);
            Fault::Refused(format!("`{shown}` {problem}"))
        };
        if url.len() > URL_BYTES_MAX {
            return Err(refused("is too long for a URL"));
        }
        if url.starts_with('/') {
            return Self::of_gateway(source, url, digest, config.gateway.as_ref()).map_err(refused);
        }
        let uri: Uri = url.parse().map_err(|_| refused("is not a URL"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(refused("is not a URL"));
        };
        if authority.as_str().contains('@') {
            return Err(refused(
                "holds a user name; sources are known by certificates or tickets",
            ));
        }
        let tls = match scheme {
            "https" => true,
            "http" if source.kind == SourceKind::Origin && config.plain_origin => false,
            "http" => return Err(refused("is plain HTTP, which `[fill]` does not allow")),
            _ => return Err(refused("is neither HTTPS nor a path of the link")),
        };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(_) | None => authority
                .port_u16()
                .ok_or_else(|| refused("has no such port"))?,
        };
        let way = match source.kind {
            SourceKind::Peer | SourceKind::Tier | SourceKind::Network => {
                let is_box = host.parse::<IpAddr>().is_ok()
                    && uri.path() == format!("/fill/{digest}")
                    && uri.query().is_none();
                if !is_box {
                    return Err(refused("is not a box's `https://<address>/fill/<digest>`"));
                }
                Way::Box(source.id.clone())
            }
            SourceKind::Origin => Way::Origin { tls },
        };
        Ok(Self {
            door: Door { way, host, port },
            target: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            authority: authority.as_str().to_owned(),
        })
    }

    fn of_gateway(
        source: &FillSource,
        path: &str,
        digest: Digest,
        gateway: Option<&Gateway>,
    ) -> Result<Self, &'static str> {
        let gateway = gateway.ok_or("is a path of the link, but there is no control plane")?;
        let asked = path.strip_prefix(GATEWAY_PATH);
        if source.kind != SourceKind::Origin || asked != Some(digest.to_string().as_str()) {
            return Err("is not the object's path on the link (`/v1/origin/<digest>`)");
        }
        let (host, port) = (gateway.host.clone(), gateway.port);
        let bracketed = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Ok(Self {
            door: Door {
                way: Way::Gateway,
                host,
                port,
            },
            target: path.to_owned(),
            authority: bracketed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::fetch::Limits;
    use rustls::pki_types::ServerName;

    fn config() -> Config {
        Config {
            private_sources: false,
            plain_origin: false,
            origin_ca: None,
            gateway: Some(Gateway {
                host: "control.example.net".into(),
                port: 8443,
                server_name: ServerName::try_from("control.example.net").unwrap(),
            }),
            limits: Limits::default(),
        }
    }

    fn place(kind: SourceKind, url: &str) -> Result<Place, String> {
        let source = FillSource {
            id: "c002".into(),
            kind,
            urls: vec![],
            not_before_s: 0,
            ticket: None,
            etag: None,
            expires_s: 60,
        };
        Place::of(&source, url, Digest([7; 32]), &config()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_box_is_an_address_and_the_digest_that_was_asked_for() {
        let digest = Digest([7; 32]);
        let found = place(
            SourceKind::Tier,
            &format!("https://[2001:db8::1]:7443/fill/{digest}"),
        );
        let found = found.unwrap();
        assert_eq!(found.door.way, Way::Box("c002".into()));
        assert_eq!(
            (found.door.host.as_str(), found.door.port),
            ("2001:db8::1", 7443)
        );
        assert_eq!(found.authority, "[2001:db8::1]:7443");
        let found = place(
            SourceKind::Peer,
            &format!("https://192.0.2.1/fill/{digest}"),
        )
        .unwrap();
        assert_eq!(found.door.port, 443);
        for bad in [
            format!("https://box.example.net/fill/{digest}"),
            format!("http://192.0.2.1/fill/{digest}"),
            format!("https://192.0.2.1/fill/{}", Digest([8; 32])),
            format!("https://192.0.2.1/fill/{digest}?x=1"),
            format!("https://a@192.0.2.1/fill/{digest}"),
            format!("https://192.0.2.1:99999/fill/{digest}"),
            format!("https://192.0.2.1:/fill/{digest}"),
            format!("/v1/origin/{digest}"),
            String::new(),
            "https://192.0.2.1/".repeat(1000),
        ] {
            let refused = place(SourceKind::Network, &bad).unwrap_err();
            assert!(refused.len() < 400, "{refused}");
        }
    }

    #[test]
    fn the_origin_is_a_presigned_url_or_a_path_of_the_link() {
        let digest = Digest([7; 32]);
        let url = "https://films.example.net:9000/a%20b?X-Amz-Signature=12";
        let found = place(SourceKind::Origin, url).unwrap();
        assert_eq!(found.door.way, Way::Origin { tls: true });
        assert_eq!(found.target, "/a%20b?X-Amz-Signature=12");
        assert_eq!(found.authority, "films.example.net:9000");
        let found = place(SourceKind::Origin, &format!("/v1/origin/{digest}")).unwrap();
        assert_eq!(found.door.way, Way::Gateway);
        assert_eq!(found.authority, "control.example.net:8443");
        for bad in [
            format!("/v1/origin/{}", Digest([8; 32])),
            "/v1/report".into(),
            "http://films.example.net/a".into(),
            "file:///etc/passwd".into(),
        ] {
            place(SourceKind::Origin, &bad).unwrap_err();
        }
    }

    #[test]
    fn a_signature_in_a_url_is_not_repeated_in_messages() {
        let told = place(
            SourceKind::Origin,
            "ftp://films.example.net/a?X-Amz-Signature=secret",
        );
        assert!(!told.unwrap_err().contains("secret"));
    }
}

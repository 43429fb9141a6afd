//! The request head: bytes from a viewer become a [`Head`] that cannot be wrong, or a [`Fault`].
//!
//! Sans-IO. `connection` calls [`Head::parse`] with what [`super::head_scan`] has let through.
//! Strict by design: no request of this protocol but the speed test's upload has a body, so nothing
//! else that could frame one is accepted, and there is no second way to read any head that is (RFC
//! 9112 section 11.2). An upload is framed by one Content-Length and nothing else.

use super::range;
use super::speedtest;
use super::target;
use super::target::Parsed;
use super::target::Target;
use httparse::Header;
use std::mem::MaybeUninit;

/// Header fields in any one head, whatever the configuration says: the size of a stack array.
pub const FIELDS_MAX: usize = 128;

/// Longest request target; a key has at most 1 KiB, CMCD adds a query of about as much.
const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Room for parsed fields; lives on the stack of the caller.
pub(super) type Fields<'b> = [MaybeUninit<Header<'b>>; FIELDS_MAX];

/// What is wrong with a request. The text goes to the viewer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("a line of the head ends in LF without CR")]
    BareLf,
    #[error("a CR without LF in the head")]
    BareCr,
    #[error("control byte 0x{0:02x} in the head")]
    Control(u8),
    #[error("a header line that begins with white space (obsolete folding)")]
    Folded,
    #[error("too many empty lines before the request line")]
    EmptyLines,
    #[error("the request head is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the head has more than {0} header fields")]
    TooManyFields(usize),
    #[error("the request line is not `METHOD TARGET HTTP/1.1`")]
    RequestLine,
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
    #[error("a header field has a bad name; no space may stand before the colon")]
    FieldName,
    #[error("a header field has a bad value")]
    FieldValue,
    #[error("HTTP/1.1 needs exactly one Host field")]
    HostMissing,
    #[error("more than one Host field")]
    HostTwice,
    #[error("the host is not a name or address with an optional port")]
    HostSyntax,
    #[error("Transfer-Encoding: requests with bodies are not accepted")]
    TransferEncoding,
    #[error("Content-Length is not a single `0`")]
    ContentLength,
    #[error("requests with bodies are not accepted")]
    Body,
    #[error("Expect: no expectation is met here")]
    Expect,
    #[error("the request target is longer than {TARGET_BYTES_MAX} bytes")]
    TargetTooLong,
    #[error("the request target is neither a path nor an http(s) URL")]
    TargetSyntax,
    #[error("this method is not allowed; use GET, HEAD or OPTIONS")]
    NotAllowed,
    #[error("this method is not known")]
    UnknownMethod,
    #[error("the request head did not arrive in time")]
    Slow,
    #[error("the body did not arrive in time")]
    SlowBody,
    #[error("an upload needs a Content-Length")]
    LengthRequired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Options,
    /// To the speed test alone.
    Post,
}

/// The body that a request announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    pub length: u64,
    /// The viewer waits for `100 Continue` before it sends.
    pub expects_continue: bool,
}

/// A request head, valid by construction.
#[derive(Debug)]
pub struct Head<'h, 'b> {
    pub method: Method,
    pub target: Target<'b>,
    /// Of the target, without its `?`; empty where there is none.
    pub query: &'b [u8],
    /// Host and port that the viewer means, as it wrote them; only HTTP/1.0 may leave it out.
    pub host: Option<&'b [u8]>,
    /// The viewer wants (HTTP/1.0) or accepts (HTTP/1.1) further requests on this connection.
    pub keep_alive: bool,
    /// HTTP/1.0 viewers must be told that the connection stays.
    pub is_http_1_0: bool,
    /// With [`Method::Post`] and no other.
    pub upload: Option<Upload>,
    /// Which of the fields that `answer` asks for are there at all.
    interest: Interest,
    fields: &'h [Header<'b>],
}

/// Fields that few requests carry; most answers need not search for them.
#[derive(Clone, Copy, Debug, Default)]
struct Interest {
    conditional: bool,
    range: bool,
    cmcd: bool,
}

/// What framing depends on, gathered in one pass over the fields.
#[derive(Default)]
struct Framing<'b> {
    hosts: usize,
    host: &'b [u8],
    transfer_encoding: bool,
    lengths: usize,
    length: &'b [u8],
    expectations: usize,
    expectation: &'b [u8],
    close: bool,
    keep_alive: bool,
    interest: Interest,
}

impl Fault {
    /// RFC 9110 section 15.5 and 15.6.
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLarge(_) | Self::TooManyFields(_) => 431,
            Self::Version => 505,
            Self::Body => 413,
            Self::Expect => 417,
            Self::TargetTooLong => 414,
            Self::NotAllowed => 405,
            Self::UnknownMethod => 501,
            Self::Slow | Self::SlowBody => 408,
            Self::LengthRequired => 411,
            Self::BareLf
            | Self::BareCr
            | Self::Control(_)
            | Self::Folded
            | Self::EmptyLines
            | Self::RequestLine
            | Self::FieldName
            | Self::FieldValue
            | Self::HostMissing
            | Self::HostTwice
            | Self::HostSyntax
            | Self::TransferEncoding
            | Self::ContentLength
            | Self::TargetSyntax => 400,
        }
    }
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
        }
    }

    fn parse(token: &str) -> Result<Self, Fault> {
        match token {
            "GET" => Ok(Self::Get),
            "HEAD" => Ok(Self::Head),
            "OPTIONS" => Ok(Self::Options),
            "POST" | "PUT" | "DELETE" | "CONNECT" | "TRACE" | "PATCH" => Err(Fault::NotAllowed),
            _ => Err(Fault::UnknownMethod),
        }
    }
}

impl<'h, 'b> Head<'h, 'b> {
    /// Parses one head, from its request line to its closing empty line.
    pub fn parse(
        head: &'b [u8],
        room: &'h mut Fields<'b>,
        fields_max: usize,
    ) -> Result<Self, Fault> {
        let most = fields_max.min(FIELDS_MAX);
        let mut parsed = httparse::Request::new(&mut []);
        let outcome = parsed.parse_with_uninit_headers(head, &mut room[..most]);
        match outcome {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(Fault::RequestLine),
            Err(error) => return Err(fault(error, head, most)),
        }
        let (Some(token), Some(raw), Some(minor)) = (parsed.method, parsed.path, parsed.version)
        else {
            return Err(Fault::RequestLine);
        };
        let fields: &'h [Header<'b>] = parsed.headers;
        let framing = Framing::gather(fields);
        let is_http_1_0 = minor == 0;
        framing.check_host(is_http_1_0)?;
        if framing.transfer_encoding {
            return Err(Fault::TransferEncoding);
        }
        let has_body = framing.has_body()?;
        let (method, upload) = if token == "POST" && is_upload(raw) {
            (Method::Post, Some(framing.upload(is_http_1_0)?))
        } else {
            (Method::parse(token)?, None)
        };
        if has_body && upload.is_none() {
            return Err(Fault::Body);
        }
        if framing.expectations > 0 && upload.is_none() {
            return Err(Fault::Expect);
        }
        if raw.len() > TARGET_BYTES_MAX {
            return Err(Fault::TargetTooLong);
        }
        let parsed = Target::parse(raw.as_bytes(), method)?;
        let host = (framing.hosts > 0).then_some(framing.host);
        Ok(Self {
            method,
            target: parsed.target,
            query: parsed.query,
            host: parsed.authority.or(host),
            // RFC 9112 section 9.3.
            keep_alive: !framing.close && (!is_http_1_0 || framing.keep_alive),
            is_http_1_0,
            upload,
            interest: framing.interest,
            fields,
        })
    }

    /// Values of every field of that name, in order. Lower-case `name`.
    pub fn values(&self, name: &'static str) -> impl Iterator<Item = &'b [u8]> {
        self.fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }

    /// The value of a field that may stand only once; `None` if absent or repeated.
    pub fn single(&self, name: &'static str) -> Option<&'b [u8]> {
        let mut values = self.values(name);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    /// There is an `If-…` field other than `If-Range`.
    pub fn is_conditional(&self) -> bool {
        self.interest.conditional
    }

    pub fn has_range(&self) -> bool {
        self.interest.range
    }

    /// There is one of the four `CMCD-…` fields.
    pub fn has_cmcd(&self) -> bool {
        self.interest.cmcd
    }
}

impl<'b> Framing<'b> {
    fn gather(fields: &[Header<'b>]) -> Self {
        let mut framing = Self::default();
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            // By length first: six comparisons a field would cost more than the rest of the parse.
            match field.name.len() {
                4 if is("host") => {
                    framing.hosts += 1;
                    framing.host = field.value;
                }
                5 if is("range") => framing.interest.range = true,
                6 if is("expect") => {
                    framing.expectations += 1;
                    framing.expectation = field.value;
                }
                8 if is("if-match") => framing.interest.conditional = true,
                10 if is("connection") => framing.connection(field.value),
                11 if is("cmcd-object") || is("cmcd-status") => framing.interest.cmcd = true,
                12 if is("cmcd-request") || is("cmcd-session") => framing.interest.cmcd = true,
                13 if is("if-none-match") => framing.interest.conditional = true,
                14 if is("content-length") => {
                    framing.lengths += 1;
                    framing.length = field.value;
                }
                17 if is("transfer-encoding") => framing.transfer_encoding = true,
                17 if is("if-modified-since") => framing.interest.conditional = true,
                19 if is("if-unmodified-since") => framing.interest.conditional = true,
                _ => {}
            }
        }
        framing
    }

    fn connection(&mut self, value: &[u8]) {
        for token in value.split(|byte| *byte == b',') {
            let token = token.trim_ascii();
            self.close |= token.eq_ignore_ascii_case(b"close");
            self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9112 section 3.2.
    fn check_host(&self, is_http_1_0: bool) -> Result<(), Fault> {
        match self.hosts {
            0 if is_http_1_0 => Ok(()),
            0 => Err(Fault::HostMissing),
            1 if target::is_host(self.host) => Ok(()),
            1 => Err(Fault::HostSyntax),
            _ => Err(Fault::HostTwice),
        }
    }

    /// RFC 9112 section 6.3; lists and repeated fields are refused even where they agree.
    fn has_body(&self) -> Result<bool, Fault> {
        match (self.lengths, self.length) {
            (0, _) | (1, b"0") => Ok(false),
            (1, digits) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
                // `00` is a number, but not one that every reader spells so.
                if digits[0] == b'0' {
                    return Err(Fault::ContentLength);
                }
                Ok(true)
            }
            _ => Err(Fault::ContentLength),
        }
    }

    /// Of a POST to the speed test, whose length [`Framing::has_body`] has checked.
    fn upload(&self, is_http_1_0: bool) -> Result<Upload, Fault> {
        if self.lengths == 0 {
            return Err(Fault::LengthRequired);
        }
        let expects_continue = match self.expectations {
            0 => false,
            // RFC 9110 section 10.1.1 knows no other expectation.
            1 if !is_http_1_0 && self.expectation.eq_ignore_ascii_case(b"100-continue") => true,
            _ => return Err(Fault::Expect),
        };
        Ok(Upload {
            length: range::digits(self.length).ok_or(Fault::ContentLength)?,
            expects_continue,
        })
    }
}

/// Is this target the one that takes a body?
fn is_upload(raw: &str) -> bool {
    let target = Target::parse(raw.as_bytes(), Method::Post);
    let is_path = |parsed: Parsed<'_>| parsed.target == Target::Path(speedtest::PATH);
    raw.len() <= TARGET_BYTES_MAX && target.is_ok_and(is_path)
}

fn fault(error: httparse::Error, head: &[u8], most: usize) -> Fault {
    match error {
        httparse::Error::HeaderName => Fault::FieldName,
        httparse::Error::HeaderValue => Fault::FieldValue,
        httparse::Error::TooManyHeaders => Fault::TooManyFields(most),
        httparse::Error::Version if names_another_version(head) => Fault::Version,
        httparse::Error::Version
        | httparse::Error::NewLine
        | httparse::Error::Status
        | httparse::Error::Token => Fault::RequestLine,
    }
}

/// `… HTTP/2.0`: understood well enough to say 505 rather than 400.
fn names_another_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let last = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    match last.strip_prefix(b"HTTP/") {
        Some(b"1.0" | b"1.1") => false,
        Some([major, b'.', minor]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        Some([major]) => major.is_ascii_digit(),
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests;

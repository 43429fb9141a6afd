//! How the box reaches its control plane: TCP in the daemon, something in memory in tests.
//!
//! [`super::client`] asks for a stream whenever it has none. Serving needs no DNS and the link
//! hardly: when a name cannot be resolved, the addresses that last worked are tried.
//!
//! I/O: resolves names, connects.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What [`Dial::dial`] returns.
pub type Dialling<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Makes connections.
pub trait Dial: Send + Sync + fmt::Debug {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialling<'a>;
}

/// TCP, as the daemon does it.
#[derive(Debug, Default)]
pub struct TcpDial {}

impl Dial for TcpDial {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialling<'a> {
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect((host, port)).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

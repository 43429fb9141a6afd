//! A viewer of a box, who asks for hot files one after another, beside a fill and without.
//!
//! The box serves from the disk that the fill writes to, on the core of the origin: what a fill
//! costs the viewer is disk and memory, and the core that nobody else has is the fill's.
//!
//! I/O: starts a box, asks it over loopback.

use crate::figure::Pair;
use crate::filler::Filler;
use crate::origin::Origin;
use anyhow::Context as _;
use oca::clock;
use oca::demo::Appliance;
use oca::demo::Role;
use oca::demo::Settings;
use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

const FILES: usize = 200;
const FILE_BYTES: usize = 16 << 10;
const ROUNDS: usize = 5;
const REQUESTS: usize = 2_000;

/// A viewer asks a thousand times a second, and does not fill the core.
const PAUSE: Duration = Duration::from_micros(700);

/// Medians beside a fill, and without.
pub(crate) fn measure(origin: &Origin, objects: usize, cap: u64) -> anyhow::Result<Vec<Pair>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let dir = origin.scratch.join("box");
    let media = dir.join("media");
    fs::create_dir_all(media.join("hot"))?;
    for number in 0..FILES {
        let byte = u8::try_from(number % 256).unwrap_or(0);
        fs::write(media.join(format!("hot/{number}.bin")), [byte; FILE_BYTES])?;
    }
    let settings = Settings {
        workers: 1,
        disks: 1,
        access_log: false,
        role: Role::Alone,
    };
    let mut oca = Appliance::new(Path::new(env!("CARGO_BIN_EXE_oca")), &dir, settings)?;
    runtime.block_on(async {
        oca.prefill(&media).await?;
        oca.start().await
    })?;
    let address = oca.addresses()?.plain;
    median(address)?;
    let mut pairs = Vec::new();
    for _ in 0..ROUNDS {
        let peer = median(address)?;
        let filler = Filler::start(origin, objects, Some(cap))?;
        // Its trees are made first, and its first bytes are on their way.
        clock::block_for(Duration::from_secs(2));
        let ours = median(address)?;
        drop(filler);
        pairs.push(Pair { ours, peer });
    }
    runtime.block_on(oca.terminate(Duration::from_secs(10)))?;
    Ok(pairs)
}

/// Microseconds of a request, the head included.
fn median(address: SocketAddr) -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = vec![0; FILE_BYTES + 4096];
    let mut times = Vec::with_capacity(REQUESTS);
    for number in 0..REQUESTS {
        let request = format!(
            "GET /hot/{}.bin HTTP/1.1\r\nHost: x\r\n\r\n",
            number % FILES
        );
        let begun = clock::now();
        stream.write_all(request.as_bytes())?;
        let mut filled = 0;
        loop {
            let count = stream.read(&mut buffer[filled..])?;
            anyhow::ensure!(count > 0, "the box hung up");
            filled += count;
            let head = buffer[..filled]
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            if head.is_some_and(|at| filled >= at + 4 + FILE_BYTES) {
                break;
            }
        }
        anyhow::ensure!(
            buffer.starts_with(b"HTTP/1.1 200"),
            "another answer than 200"
        );
        times.push((clock::now() - begun).as_secs_f64() * 1e6);
        clock::block_for(PAUSE);
    }
    times.sort_by(f64::total_cmp);
    times.get(REQUESTS / 2).copied().context("no requests")
}

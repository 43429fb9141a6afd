//! Compares what the disks hold with a certificate: every object that it lists is read.
//!
//! The file is read twice: its signature and its digest first, so that nothing is compared with a
//! list that nobody signed; then line by line. It never changes it.
//!
//! I/O: reads the certificate; threads that read disks.

use super::Checked;
use super::Difference;
use super::Job;
use super::SHOWN_MAX;
use crate::command::Refusal;
use crate::fill::Certificate;
use crate::fill::CertificateError;
use crate::fill::HEAD_BYTES_MAX;
use crate::fill::LINE_BYTES_MAX;
use crate::fill::Line;
use crate::fill::List;
use crate::lock::lock;
use crate::object::Digest;
use crate::store::AuditBuffer;
use crate::store::AuditError;
use crate::sys::priority;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

/// Readers at a time: each keeps a disk busy, and a core with it.
const READERS_MAX: usize = 8;

/// Behind everybody who serves somebody.
const NICE: i32 = 15;

/// Why a file could not be taken for a certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The lines of a certificate, one after the other.
struct Lines {
    file: BufReader<File>,
    number: u64,
}

/// What the readers share.
struct Round<'a> {
    job: &'a Job,
    lines: Mutex<Lines>,
    /// Read by somebody, or being read.
    seen: Mutex<HashSet<Digest>>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    total: u64,
    first: BTreeSet<Difference>,
    error: Option<String>,
}

/// The first line alone.
pub(super) fn head_of(path: &Path) -> Result<Certificate, ReadError> {
    Lines::open(path).map(|(certificate, _)| certificate)
}

/// Is the file a certificate of this box? Nothing of its list is read.
pub(super) fn claim(job: &Job, path: &Path) -> Result<Certificate, Refusal> {
    let bad = |error: ReadError| Refusal::BadRequest(format!("{}: {error}", path.display()));
    let certificate = head_of(path).map_err(bad)?;
    let identity = job.line.identity().ok_or_else(|| {
        Refusal::State("this box is not enrolled: it cannot say which certificate is its".into())
    })?;
    let own = certificate.is_of(&job.id, &identity);
    own.map_err(|error| Refusal::State(error.to_string()))?;
    Ok(certificate)
}

/// Blocks for as long as the disks need to be read whole.
pub(super) fn check(job: &Job, path: PathBuf, claimed: &Certificate) -> Result<Checked, String> {
    let told = |error: ReadError| format!("{}: {error}", path.display());
    let lines = believe(&path, claimed).map_err(told)?;
    let round = Round {
        job,
        lines: Mutex::new(lines),
        seen: Mutex::default(),
        found: Mutex::default(),
    };
    let readers = job.store.view().disks.len().clamp(1, READERS_MAX);
    std::thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| round.read());
        }
    });
    let found = round
        .found
        .into_inner()
        .map_err(|_| "a reader ended by a panic".to_owned())?;
    if let Some(error) = found.error {
        return Err(error);
    }
    let counts = claimed.counts;
    Ok(Checked {
        same: found.total == 0,
        keys: counts.keys,
        objects: counts.objects,
        bytes: counts.bytes,
        differences_total: found.total,
        differences: found.first.into_iter().collect(),
        file: path,
    })
}

/// The list has the digest that was signed; its lines from the first on.
fn believe(path: &Path, claimed: &Certificate) -> Result<Lines, ReadError> {
    let (certificate, mut lines) = Lines::open(path)?;
    if certificate != *claimed {
        return Err(CertificateError::List.into());
    }
    let mut list = List::default();
    while let Some(line) = lines.next()? {
        let number = lines.number;
        list.add(line).ok_or(CertificateError::Line(number))?;
    }
    list.check(claimed)?;
    let (again, lines) = Lines::open(path)?;
    if again != *claimed {
        return Err(CertificateError::List.into());
    }
    Ok(lines)
}

impl Lines {
    fn open(path: &Path) -> Result<(Certificate, Self), ReadError> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(CertificateError::Form.into());
        }
        let mut lines = Self {
            file: BufReader::new(file),
            number: 0,
        };
        let head = lines.text(HEAD_BYTES_MAX)?.ok_or(CertificateError::Form)?;
        Ok((Certificate::parse(head.trim_end_matches('\n'))?, lines))
    }

    fn next(&mut self) -> Result<Option<Line>, ReadError> {
        let text = self.text(LINE_BYTES_MAX)?;
        let line = text.map(|text| Line::parse(&text, self.number));
        Ok(line.transpose()?)
    }

    /// `None` at the end.
    fn text(&mut self, most: u64) -> Result<Option<String>, ReadError> {
        let mut bytes = Vec::new();
        self.number += 1;
        (&mut self.file)
            .take(most + 1)
            .read_until(b'\n', &mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| CertificateError::Line(self.number))?;
        Ok(Some(text))
    }
}

impl Round<'_> {
    /// One reader's part: lines until there are no more.
    fn read(&self) {
        // Without these it is less polite.
        let _ = priority::stand_back(NICE).and(priority::stand_back_at_disks());
        let mut buffer = AuditBuffer::new();
        loop {
            if self.job.stop.load(Ordering::Relaxed) {
                return self.fail("the daemon stops; check again".to_owned());
            }
            let line = match lock(&self.lines).next() {
                Ok(Some(line)) => line,
                Ok(None) => return,
                Err(error) => return self.fail(error.to_string()),
            };
            if let Some(problem) = self.compare(&line, &mut buffer) {
                self.differs(&line, problem);
            }
            self.job.progress.keys_done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn compare(&self, line: &Line, buffer: &mut AuditBuffer) -> Option<String> {
        let binding = self.job.store.binding(line.key.as_str());
        let named = match binding {
            None => Some("the manifest does not name it any more".to_owned()),
            Some(bound) if bound.digest != line.digest => Some(format!(
                "the manifest names another object, {}",
                bound.digest
            )),
            Some(_) => None,
        };
        // Another key of the same bytes was compared already.
        if !lock(&self.seen).insert(line.digest) {
            return named;
        }
        let progress = &self.job.progress.bytes_done;
        let mut left = line.length;
        let mut go_on = |bytes: u64| {
            let counted = bytes.min(left);
            left -= counted;
            progress.fetch_add(counted, Ordering::Relaxed);
            !self.job.stop.load(Ordering::Relaxed)
        };
        let audited = self.job.store.audit(line.digest, buffer, &mut go_on);
        progress.fetch_add(left, Ordering::Relaxed);
        match audited {
            Ok(()) | Err(AuditError::Stopped) => named,
            Err(
                error @ (AuditError::NotHeld
                | AuditError::Damaged { .. }
                | AuditError::Unread { .. }),
            ) => Some(error.to_string()),
        }
    }

    fn differs(&self, line: &Line, problem: String) {
        let mut found = lock(&self.found);
        found.total += 1;
        found.first.insert(Difference {
            key: line.key.as_str().to_owned(),
            problem,
        });
        if found.first.len() > SHOWN_MAX {
            found.first.pop_last();
        }
    }

    fn fail(&self, error: String) {
        lock(&self.found).error.get_or_insert(error);
    }
}

//! The files of a configuration: found, read within bounds, and their bytes turned into places.
//!
//! [`super::load`] calls [`read`]. A file that cannot be read becomes an empty source and a
//! problem, so that the others are still checked. Never looks at what the text says.
//!
//! I/O: reads the main file, lists and reads its directory of drop-ins.

use super::keys::Schema;
use super::problem::At;
use super::problem::Report;
use std::fs::File;
use std::io::ErrorKind;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;

/// A real configuration is some kilobytes; a larger file is a mistake, not a configuration.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Files in the drop-in directory. More are refused rather than half of them read.
const FILES_MAX: usize = 256;

/// One file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// All of the file was read; what is cut short would only look like broken syntax.
    pub(super) is_whole: bool,
    line_starts: Vec<usize>,
}

impl Source {
    pub(super) fn from_text(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0)
            .chain(ends.map(|(index, _)| index + 1))
            .collect();
        Self {
            path,
            text,
            is_whole: true,
            line_starts,
        }
    }

    fn partial(path: PathBuf, text: impl Into<String>) -> Self {
        Self {
            is_whole: false,
            ..Self::from_text(path, text)
        }
    }

    /// The path as it is shown; a path that is not UTF-8 is shown as well as it can be.
    pub(super) fn name(&self) -> String {
        super::problem::clean(&self.path.to_string_lossy())
    }

    /// The line of a byte, from 1. Past the end means the end.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// Line and column, both from 1; the column counts characters.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let line = self.line(offset);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.as_bytes().get(start..offset).unwrap_or_default();
        // Every byte of a character but its first is a continuation byte, 0b10xxxxxx.
        let column = before.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        (line, column + 1)
    }
}

/// The main file and its drop-ins, in lexical order. The main file is always first.
pub(super) fn read(schema: &Schema, main: &Path, report: &mut Report) -> Vec<Source> {
    let mut sources = vec![read_one(schema, main.to_owned(), 0, report)];
    let dir = main.parent().unwrap_or(Path::new("")).join(schema.drop_ins);
    for path in listed(&dir, report) {
        sources.push(read_one(schema, path, sources.len(), report));
    }
    sources
}

/// Files are named the way a shell's `*.toml` names them: hidden ones (of editors) are left out.
fn listed(dir: &Path, report: &mut Report) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => return unlisted(dir, &error.to_string(), report),
    };
    let mut paths = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => {
                let name = entry.file_name();
                let name = name.as_encoded_bytes();
                if name.ends_with(b".toml") && !name.starts_with(b".") {
                    paths.push(entry.path());
                }
            }
            Err(error) => return unlisted(dir, &error.to_string(), report),
        }
        if paths.len() > FILES_MAX {
            let problem = format!("it holds more than {FILES_MAX} files");
            return unlisted(dir, &problem, report);
        }
    }
    paths.sort();
    paths
}

fn unlisted(dir: &Path, problem: &str, report: &mut Report) -> Vec<PathBuf> {
    let problem = format!(
        "the directory `{}` cannot be used: {problem}",
        dir.display()
    );
    let remedy = "make it a directory that this user may read, with few files, or remove it";
    report.add_unread(At::START, "", problem, remedy);
    Vec::new()
}

fn read_one(schema: &Schema, path: PathBuf, file: usize, report: &mut Report) -> Source {
    let at = |offset| At { file, offset };
    let bytes = match read_bytes(schema, &path, file > 0) {
        Ok(bytes) => bytes,
        Err((problem, remedy)) => {
            report.add_unread(at(0), "", problem, remedy);
            return Source::partial(path, "");
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => Source::from_text(path, text),
        Err(error) => {
            let end = error.utf8_error().valid_up_to();
            let problem = "the text is not UTF-8 from here on";
            report.add_unread(at(end), "", problem, "save the file as UTF-8");
            // What comes before is kept, so that the place of the problem is right.
            let bytes = error.as_bytes().get(..end).unwrap_or_default();
            Source::partial(path, String::from_utf8_lossy(bytes))
        }
    }
}

/// The bytes, or a problem and its remedy. The main file may be a pipe; drop-ins are listed, not
/// chosen, and opening a pipe there would wait for ever.
fn read_bytes(
    schema: &Schema,
    path: &Path,
    regular_only: bool,
) -> Result<Vec<u8>, (String, String)> {
    let refused = |error: std::io::Error| {
        let kind = error.kind();
        let remedy = if kind == ErrorKind::NotFound {
            let example = schema.example;
            format!("write the file, starting from {example}, or name another with --config")
        } else if kind == ErrorKind::PermissionDenied {
            "let this user read the file, or run as root".to_owned()
        } else {
            "make it a file that can be read".to_owned()
        };
        (format!("cannot be read: {error}"), remedy)
    };
    if regular_only && !std::fs::metadata(path).map_err(refused)?.is_file() {
        let remedy = "put a file here, or give it a name that does not end in `.toml`";
        return Err(("is not a file".to_owned(), remedy.to_owned()));
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    let file = File::open(path).map_err(refused)?;
    file.take(most).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() > FILE_BYTES_MAX {
        let problem = format!("is larger than {} MiB", FILE_BYTES_MAX >> 20);
        let remedy = "name the configuration file; a real one is some kilobytes";
        return Err((problem, remedy.to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::APPLIANCE;
    use super::*;

    #[test]
    fn places_count_characters_from_one() {
        let source = Source::from_text("a", "ab\né=1\n\nx");
        assert_eq!(source.place(0), (1, 1));
        assert_eq!(source.place(1), (1, 2));
        assert_eq!(source.place(3), (2, 1));
        assert_eq!(source.place(5), (2, 2));
        assert_eq!(source.place(9), (4, 1));
        assert_eq!(source.place(9_999), (4, 2));
        assert_eq!(Source::from_text("a", "").place(7), (1, 1));
    }

    #[test]
    fn files_are_read_in_lexical_order_and_the_unreadable_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("oca.toml");
        let drop_in = dir.path().join("conf.d");
        std::fs::create_dir(&drop_in).unwrap();
        std::fs::create_dir(drop_in.join("30.toml")).unwrap();
        std::fs::write(&main, "").unwrap();
        std::fs::write(drop_in.join("20.toml"), b"ok = 1\nbad = \"\xff\"").unwrap();
        std::fs::write(drop_in.join("10.toml"), vec![b'#'; FILE_BYTES_MAX + 1]).unwrap();
        std::fs::write(drop_in.join(".hidden.toml"), "").unwrap();
        std::fs::write(drop_in.join("note.txt"), "").unwrap();
        let mut report = Report::default();
        let sources = read(&APPLIANCE, &main, &mut report);
        let names: Vec<_> = sources.iter().filter_map(|s| s.path.file_name()).collect();
        assert_eq!(names, ["oca.toml", "10.toml", "20.toml", "30.toml"]);
        assert!(!report.is_complete());
        let problems = report.finish(&sources).0;
        assert_eq!(problems.len(), 3);
        assert!(problems[0].problem.contains("larger than 1 MiB"));
        assert!(problems[1].problem.contains("not UTF-8"));
        assert_eq!((problems[1].line, problems[1].column), (2, 8));
        assert!(problems[2].problem.contains("is not a file"));
    }

    #[test]
    fn a_missing_main_file_is_a_problem_with_a_remedy() {
        let mut report = Report::default();
        let sources = read(&APPLIANCE, Path::new("/nonexistent/oca.toml"), &mut report);
        let problems = report.finish(&sources).0;
        assert_eq!(problems.len(), 1);
        assert!(problems[0].remedy.contains("config/oca.toml"));
    }
}

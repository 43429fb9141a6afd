//! Where log lines go and in which form; changing the filter while running.
//!
//! Logs go to standard error, or to journald's socket when that is the chosen form. Called by
//! `appliance`.
//!
//! I/O: writes standard error or the journal's socket, reads the environment.

use super::Config;
use super::LogFormat;
use super::TelemetryError;
use super::filter;
use super::json::Json;
use super::json::Utc;
use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use tracing::Dispatch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Changes the filter of the running process. Clones share it.
#[derive(Clone, Debug)]
pub struct Handle {
    filter: reload::Handle<EnvFilter, Registry>,
    /// As the operator wrote it; the parsed form is printed in another order.
    text: Arc<Mutex<String>>,
}

/// [`LogFormat`] with `Auto` decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Text { colour: bool },
    Journald,
}

/// Facts that decide [`LogFormat::Auto`].
#[derive(Clone, Copy, Debug)]
struct Surroundings {
    journal: bool,
    terminal: bool,
    no_color: bool,
}

/// Sets up logging for the whole process, and has panics logged as errors.
pub fn start(config: &Config) -> Result<Handle, TelemetryError> {
    let form = choose(config.log_format, surroundings());
    let (dispatch, handle) = match build(&config.log_level, form, std::io::stderr) {
        // A journal that went away must not keep the box from starting when nobody insisted.
        Err(TelemetryError::Journald(_)) if config.log_format == LogFormat::Auto => {
            build(&config.log_level, Form::Json, std::io::stderr)?
        }
        other => other?,
    };
    dispatch
        .try_init()
        .map_err(|_| TelemetryError::AlreadyStarted)?;
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("no message");
        let place = panic
            .location()
            .map_or_else(String::new, ToString::to_string);
        tracing::error!(target: "oca::panic", place, "panic: {text}");
    }));
    Ok(handle)
}

impl Handle {
    /// Sets the filter and tells the former one. A bad one changes nothing.
    pub fn set_filter(&self, text: &str) -> Result<String, TelemetryError> {
        let filter = filter::parse(text)?;
        let mut current = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        self.filter
            .reload(filter)
            .map_err(|error| TelemetryError::Gone(error.to_string()))?;
        Ok(std::mem::replace(&mut *current, text.to_owned()))
    }

    /// The filter in use.
    pub fn filter(&self) -> String {
        self.text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn build<W>(text: &str, form: Form, writer: W) -> Result<(Dispatch, Handle), TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, reload) = reload::Layer::new(filter::parse(text)?);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let output = match form {
        Form::Json => lines
            .fmt_fields(JsonFields::new())
            .event_format(Json)
            .boxed(),
        Form::Text { colour } => lines.with_ansi(colour).with_timer(Utc).boxed(),
        Form::Journald => tracing_journald::layer()
            .map_err(TelemetryError::Journald)?
            .with_syslog_identifier("oca".to_owned())
            .with_field_prefix(Some("OCA".to_owned()))
            .boxed(),
    };
    let handle = Handle {
        filter: reload,
        text: Arc::new(Mutex::new(text.to_owned())),
    };
    Ok((Dispatch::new(registry.with(output)), handle))
}

fn choose(format: LogFormat, around: Surroundings) -> Form {
    let text = Form::Text {
        colour: around.terminal && !around.no_color,
    };
    match format {
        LogFormat::Auto if around.journal => Form::Journald,
        LogFormat::Auto if around.terminal => text,
        LogFormat::Auto | LogFormat::Json => Form::Json,
        LogFormat::Text => text,
        LogFormat::Journald => Form::Journald,
    }
}

fn surroundings() -> Surroundings {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    Surroundings {
        journal: is_stderr(&stream),
        terminal: std::io::stderr().is_terminal(),
        no_color: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
    }
}

/// `$JOURNAL_STREAM` is `device:inode` of the stream systemd gave; it is inherited by processes
/// whose standard error was sent elsewhere, so it counts only if it still names ours.
fn is_stderr(stream: &str) -> bool {
    let Some((device, inode)) = stream.split_once(':') else {
        return false;
    };
    let Ok(copy) = std::io::stderr().as_fd().try_clone_to_owned() else {
        return false;
    };
    File::from(copy)
        .metadata()
        .is_ok_and(|about| device.parse() == Ok(about.dev()) && inode.parse() == Ok(about.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// A writer whose lines a test can read.
    #[derive(Clone, Debug, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if let Ok(mut page) = self.0.lock() {
                page.extend_from_slice(bytes);
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn lines(&self) -> Vec<Value> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            String::from_utf8(bytes)
                .unwrap()
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }
    }

    fn json_at(filter: &str) -> (Page, Dispatch, Handle) {
        let page = Page::default();
        let writer = page.clone();
        let (dispatch, handle) = build(filter, Form::Json, move || writer.clone()).unwrap();
        (page, dispatch, handle)
    }

    #[test]
    fn a_line_is_json_with_time_level_target_message_and_fields() {
        let (page, dispatch, _) = json_at("info");
        tracing::dispatcher::with_default(&dispatch, || {
            let span = tracing::info_span!("connection", peer = "192.0.2.7");
            let _inside = span.enter();
            tracing::info!(
                bytes = 7_u64,
                ok = true,
                ts = "mine",
                "sent \"x\"\n\u{1b}[31m"
            );
        });
        let lines = page.lines();
        let line = &lines[0];
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "oca::telemetry::logs::tests");
        assert_eq!(line["msg"], "sent \"x\"\n\u{1b}[31m");
        assert_eq!(line["bytes"], 7);
        assert_eq!(line["ok"], true);
        assert_eq!(line["field_ts"], "mine");
        assert_eq!(line["spans"][0]["name"], "connection");
        assert_eq!(line["spans"][0]["fields"]["peer"], "192.0.2.7");
        let ts: jiff::Timestamp = line["ts"].as_str().unwrap().parse().unwrap();
        assert!(line["ts"].as_str().unwrap().ends_with('Z'));
        assert!(crate::clock::unix_seconds(ts) > 1_700_000_000);
    }

    #[test]
    fn the_filter_changes_while_running_and_a_bad_one_changes_nothing() {
        let (page, dispatch, handle) = json_at("info");
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::debug!("one");
            assert_eq!(handle.set_filter("debug").unwrap(), "info");
            tracing::debug!("two");
            assert!(handle.set_filter("loud").is_err());
            assert_eq!(handle.filter(), "debug");
            tracing::debug!("three");
            assert_eq!(handle.set_filter("off").unwrap(), "debug");
            tracing::error!("four");
        });
        let told: Vec<_> = page
            .lines()
            .iter()
            .map(|line| line["msg"].clone())
            .collect();
        assert_eq!(told, ["two", "three"]);
    }

    #[test]
    fn auto_means_journal_then_terminal_then_json() {
        let around = |journal, terminal, no_color| Surroundings {
            journal,
            terminal,
            no_color,
        };
        let auto = |around| choose(LogFormat::Auto, around);
        assert_eq!(auto(around(true, false, false)), Form::Journald);
        assert_eq!(
            auto(around(false, true, false)),
            Form::Text { colour: true }
        );
        assert_eq!(
            auto(around(false, true, true)),
            Form::Text { colour: false }
        );
        assert_eq!(auto(around(false, false, false)), Form::Json);
        assert_eq!(
            choose(LogFormat::Json, around(true, true, false)),
            Form::Json
        );
    }

    #[test]
    fn an_inherited_journal_stream_that_is_not_ours_does_not_count() {
        for other in ["", "1", "1:2", "x:y", "::"] {
            assert!(!is_stderr(other), "{other}");
        }
        let copy = std::io::stderr().as_fd().try_clone_to_owned().unwrap();
        let about = File::from(copy).metadata().unwrap();
        assert!(is_stderr(&format!("{}:{}", about.dev(), about.ino())));
    }
}

//! One JSON object a line: `ts level target msg`, then the event's own fields, then its spans.
//!
//! Called by `tracing` for each event that passes the filter.
//!
//! I/O: reads the wall clock.

use crate::clock;
use serde_json::Map;
use serde_json::Value;
use std::fmt;
use tracing::Event;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::FormatEvent;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::registry::LookupSpan;

/// The line format.
#[derive(Clone, Copy, Debug)]
pub(super) struct Json;

/// RFC 3339, UTC, milliseconds; for the text format.
#[derive(Clone, Copy, Debug)]
pub(super) struct Utc;

/// The first four names belong to the line itself.
const OWN_FIELDS: [&str; 5] = ["ts", "level", "target", "msg", "spans"];

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:.3}", clock::wall())
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (ts, about) = (clock::wall(), event.metadata());
        let target = Value::from(about.target());
        let message = Value::from(fields.message);
        let level = about.level();
        write!(
            writer,
            r#"{{"ts":"{ts:.3}","level":"{level}","target":{target},"msg":{message}"#
        )?;
        for (name, value) in &fields.others {
            write!(writer, ",{}:{value}", Value::from(name.as_str()))?;
        }
        if let Some(spans) = context.event_scope() {
            let mut comma = r#","spans":["#;
            for span in spans.from_root() {
                let name = Value::from(span.name());
                write!(writer, r#"{comma}{{"name":{name}"#)?;
                if let Some(text) = span.extensions().get::<FormattedFields<N>>()
                    && text.fields.starts_with('{')
                {
                    write!(writer, r#","fields":{text}"#)?;
                }
                writer.write_char('}')?;
                comma = ",";
            }
            writer.write_char(']')?;
        }
        writer.write_str("}\n")
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name();
        if name == "message" {
            self.message = match value {
                Value::String(text) => text,
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Array(_)
                | Value::Object(_) => value.to_string(),
            };
        } else if OWN_FIELDS.contains(&name) {
            self.others.insert(format!("field_{name}"), value);
        } else {
            self.others.insert(name.to_owned(), value);
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, Value::from(value.to_string()));
    }
}

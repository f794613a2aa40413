//! What serde_json says of a document, without the values in it.

/// serde_json's messages quote the offending value ("invalid type: string \"…\""): keep what was
/// expected and the place, never the value.
pub(super) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!("line {} column {}", error.line(), error.column());
    let kept = match error.classify() {
        serde_json::error::Category::Eof => "ends too early",
        serde_json::error::Category::Syntax => "is not JSON",
        _ if text.starts_with("missing field")
            || text.starts_with("unknown field")
            || text.starts_with("duplicate field") =>
        {
            return field_message(&text, &place);
        }
        _ => match text.find(", expected ") {
            Some(at) => {
                return format!(
                    "has the wrong type{} ({place})",
                    text[at..].split(" at line ").next().unwrap_or("")
                );
            }
            None => "has a wrong value",
        },
    };
    format!("{kept} ({place})")
}

/// "missing field `x`" names the field alone, and "unknown field `x`, expected …" a name out of the
/// document, cut and cleaned here because somebody may have put a secret in the wrong place.
fn field_message(text: &str, place: &str) -> String {
    let mut parts = text.split('`');
    let what = parts.next().unwrap_or_default().trim();
    let name: String = parts
        .next()
        .unwrap_or_default()
        .chars()
        .take(32)
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '?' })
        .collect();
    format!("{what} {name} ({place})")
}

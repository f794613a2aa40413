//! What every section of a document is checked with: how a refusal reads, and which texts are safe.

/// Why a document is refused: the field, and what is wrong with it. Holds no value of the
/// document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentError {
    /// Path of the field, such as `logins[0].password_hash`; empty for the document itself.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for DocumentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "device.json: {}", self.reason),
            field => write!(f, "device.json: {field}: {}", self.reason),
        }
    }
}

impl std::error::Error for DocumentError {}

pub(crate) fn fail<T>(field: impl Into<String>, reason: String) -> Result<T, DocumentError> {
    Err(DocumentError { field: field.into(), reason })
}

/// 1 to 128 printable ASCII characters: safe on a console, in a log line and in a prompt.
pub(crate) fn is_label(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b))
}

/// RFC 1123 section 2.1: labels of letters, digits and inner hyphens, 63 bytes each, 253 in all.
pub(crate) fn is_host_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

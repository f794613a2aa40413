//! What the machine is told at boot: who may enter, as whom it answers, how it is reached.
//!
//! A source looks for a document in one place ([`Source::gather`]) and says what it found, what it
//! ignored and why. [`gather`] asks them in the order of [`SOURCES`], and the first document wins.
//! A source that is there but malformed closes the door, whatever the sources below it say: else
//! damage to one document would let in those that another one names.
//!
//! To add a source: write `creds/<source>.rs` with a `pub(super) const SOURCE: Source`, and add its
//! row to [`SOURCES`].

use std::path::Path;

use rescue_schema::credentials::Document;
use rescue_schema::paths;
use zeroize::Zeroizing;

use crate::sys::secrets;

mod appended;
pub mod part;

/// Every source, the one that is trusted most first.
const SOURCES: &[Source] = &[appended::SOURCE];

/// Longest seed in bytes that is taken; 32 are enough.
const MAX_SEED: usize = 4096;

/// A place that a document may come from.
struct Source {
    /// What it is called in findings.
    name: &'static str,
    /// Looks there, with `root` in the place of `/`. Removes what holds secrets.
    gather: fn(root: &Path) -> Outcome,
}

/// What a source has to say.
enum Outcome {
    /// Nothing is there: the text says where was looked.
    Absent(String),
    /// A valid document, and a line on what it holds, without secrets.
    Found(Box<Document>, String),
    /// Something is there that is not a valid document: why.
    Refused(String),
}

/// What one source found or ignored, and why; without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the source.
    pub source: &'static str,
    /// One line.
    pub text: String,
}

/// What all sources together say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gathered {
    /// The document, when one was found and nothing was refused.
    pub document: Option<Document>,
    /// A line a source, in order of precedence.
    pub findings: Vec<Finding>,
    /// Why a document that is there was refused, naming the field.
    pub refused: Option<String>,
}

impl Gathered {
    /// Why nobody may log in, and what to do about it; `None` when somebody may.
    pub fn closed(&self) -> Option<String> {
        match (&self.refused, &self.document) {
            (Some(reason), _) => Some(format!("the credentials were refused: {reason}")),
            (None, None) => Some(
                "no credentials were injected: append a device.cpio (`imagebuilder inject`) to the initrd"
                    .into(),
            ),
            (None, Some(document)) if document.logins.is_empty() => {
                Some("device.json: logins: empty: it names nobody who may enter".into())
            }
            _ => None,
        }
    }
}

/// Asks every source, with `root` in the place of `/`. Nothing is left behind: documents are
/// removed from the file system once read, the malformed ones too.
pub fn gather(root: &Path) -> Gathered {
    merge(SOURCES.iter().map(|source| (source.name, (source.gather)(root))))
}

/// The seed for the kernel's random numbers, removed once read; `None` when there is none, or when
/// it is not a file of 1 to 4096 bytes: a boot does without.
pub fn seed(root: &Path) -> Option<Zeroizing<Vec<u8>>> {
    let seed = secrets::take(&below(root, paths::RANDOM_SEED), MAX_SEED).ok().flatten()?;
    (!seed.is_empty()).then_some(seed)
}

fn merge(outcomes: impl Iterator<Item = (&'static str, Outcome)>) -> Gathered {
    let mut all = Gathered::default();
    for (source, outcome) in outcomes {
        let settled = all.document.is_some() || all.refused.is_some();
        let text = match outcome {
            Outcome::Absent(text) => text,
            Outcome::Found(_, text) | Outcome::Refused(text) if settled => {
                format!("ignored, a source above it was there: {text}")
            }
            Outcome::Found(document, text) => {
                all.document = Some(*document);
                text
            }
            Outcome::Refused(reason) => {
                all.refused = Some(reason.clone());
                format!("refused: {reason}")
            }
        };
        all.findings.push(Finding { source, text });
    }
    all
}

fn below(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(name: &str) -> Box<Document> {
        let json =
            format!(r#"{{"version":1,"logins":[{{"name":"{name}","authorized_keys":["ssh-ed25519 A"]}}]}}"#);
        Box::new(Document::parse(json.as_bytes()).unwrap())
    }

    #[test]
    fn the_first_document_wins_and_the_others_are_told() {
        let all = merge(
            [
                ("a", Outcome::Absent("not there".into())),
                ("b", Outcome::Found(document("root"), "root".into())),
                ("c", Outcome::Found(document("admin"), "admin".into())),
                ("d", Outcome::Refused("damaged".into())),
            ]
            .into_iter(),
        );
        assert_eq!(all.document, Some(*document("root")));
        assert_eq!((all.refused.clone(), all.closed()), (None, None));
        let texts: Vec<_> = all.findings.iter().map(|f| f.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "not there",
                "root",
                "ignored, a source above it was there: admin",
                "ignored, a source above it was there: damaged"
            ]
        );
    }

    #[test]
    fn a_damaged_document_keeps_the_door_closed_for_those_below() {
        let all = merge(
            [
                ("a", Outcome::Refused("device.json: version: 2".into())),
                ("b", Outcome::Found(document("root"), "root".into())),
            ]
            .into_iter(),
        );
        assert_eq!(all.document, None);
        assert_eq!(all.closed().as_deref(), Some("the credentials were refused: device.json: version: 2"));
    }
}

//! A conversation with a metadata service as a pure function: from the answers so far to the next question,
//! or to what they come to.

use crate::creds::part::Part;
use crate::web::http::Answer;

/// Longest page where nothing else is said, and the longest of all, in bytes.
pub const PAGE: usize = 64 << 10;
/// A document that holds all there is, or user-data.
pub const LONG_PAGE: usize = 1 << 20;

/// What is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `PUT`.
    pub method: &'static str,
    /// Path and query, put behind the address.
    pub path: String,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// Longest answer that is taken, in bytes.
    pub most: usize,
}

impl Request {
    /// A page.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), headers: Vec::new(), most: PAGE }
    }

    /// A page of up to [`LONG_PAGE`].
    #[must_use]
    pub fn long(path: impl Into<String>) -> Self {
        Self { most: LONG_PAGE, ..Self::get(path) }
    }

    /// Puts nothing there.
    #[must_use]
    pub fn put(path: impl Into<String>) -> Self {
        Self { method: "PUT", ..Self::get(path) }
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Headers may hold a token.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// Why a conversation has not come to a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// This is to be asked next.
    Ask(Request),
    /// What answers there is none of this kind, or has nothing to say.
    Absent(String),
    /// It answers what is not taken.
    Refused(String),
}

/// From the answers so far to the next question, or the end.
pub type Step = fn(&Seen) -> Result<Part, Stop>;

/// The answers so far.
#[derive(Debug, Default)]
pub struct Seen {
    answers: Vec<(&'static str, String, Answer)>,
}

impl Seen {
    /// Takes an answer.
    pub fn add(&mut self, request: &Request, answer: Answer) {
        self.answers.push((request.method, request.path.clone(), answer));
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.answers.len()
    }

    /// The answer to this, whatever it is.
    ///
    /// # Errors
    /// That it is to be asked.
    pub fn any(&self, request: Request) -> Result<&Answer, Stop> {
        let known =
            self.answers.iter().find(|(method, path, _)| (*method, path) == (request.method, &request.path));
        known.map(|(_, _, answer)| answer).ok_or(Stop::Ask(request))
    }

    /// A page that need not be there, nor hold anything.
    ///
    /// # Errors
    /// That it is to be asked; that it is no page of a metadata service.
    pub fn may(&self, request: Request) -> Result<Option<&Answer>, Stop> {
        let path = request.path.clone();
        let answer = self.any(request)?;
        match answer.status {
            200 if answer.is_web_page() => Err(Stop::Refused(format!("{path}: a web page came back"))),
            200 => Ok(Some(answer).filter(|answer| !answer.body.trim_ascii().is_empty())),
            204 | 404 | 410 => Ok(None),
            status => Err(Stop::Refused(format!("{path}: HTTP {status}"))),
        }
    }

    /// The page without which there is no such service. One that wants to be asked otherwise is another.
    ///
    /// # Errors
    /// As [`Self::may`]; that it is not there.
    pub fn must(&self, request: Request) -> Result<&Answer, Stop> {
        let path = request.path.clone();
        match self.any(request.clone())?.status {
            status @ (400 | 401 | 403 | 405) => Err(Stop::Absent(format!("{path}: HTTP {status}"))),
            _ => self.may(request)?.ok_or_else(|| Stop::Absent(format!("no {path}"))),
        }
    }
}

/// A translator's error, with the page that it is about.
pub fn refused(page: &str) -> impl Fn(String) -> Stop {
    move |why| Stop::Refused(format!("{page}: {why}"))
}

//! JSON and YAML as one bounded tree of texts, for all who read documents of others.

use saphyr_parser::{Event, Parser};

/// Deepest nesting.
pub const MAX_DEPTH: usize = 24;
/// Most nodes, copies by aliases counted.
pub const MAX_NODES: usize = 20_000;
/// Most bytes in all nodes, copies counted.
const MAX_TEXT: usize = 2 << 20;

/// Why a document is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The line, counted from 1; 0 where it is none.
    pub line: usize,
    /// What the parser says, which may repeat what stands there.
    pub why: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Error {}

type Result<T> = std::result::Result<T, Error>;

/// A node. Numbers and booleans are their text: what a field is, its reader knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Node {
    /// Nothing.
    #[default]
    Null,
    /// A scalar.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in its order.
    Map(Vec<(String, Node)>),
}

static NULL: Node = Node::Null;

impl Node {
    /// The value of a key; of one that stands twice, the last, as readers of both languages do.
    pub fn get(&self, key: &str) -> &Node {
        match self {
            Self::Map(pairs) => pairs.iter().rev().find(|(k, _)| k == key).map_or(&NULL, |(_, v)| v),
            _ => &NULL,
        }
    }

    /// The values of a key that may stand several times.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Node> {
        let pairs = match self {
            Self::Map(pairs) => pairs.as_slice(),
            _ => &[],
        };
        pairs.iter().filter(move |(k, _)| k == key).map(|(_, value)| value)
    }

    /// The value of the first of these keys that is there.
    pub fn any(&self, keys: &[&str]) -> &Node {
        keys.iter().map(|key| self.get(key)).find(|node| **node != Self::Null).unwrap_or(&NULL)
    }

    /// Its text, where it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Yes or no.
    #[must_use]
    pub fn flag(&self) -> Option<bool> {
        flag(self.text()?)
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        *self == Self::Null
    }

    /// Its items; one that is no list is a list of itself.
    pub fn items(&self) -> &[Node] {
        match self {
            Self::Null => &[],
            Self::List(items) => items,
            one => std::slice::from_ref(one),
        }
    }

    /// Its texts: a list's, or the words of one text.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Self::Text(text) => words(text).collect(),
            other => other.items().iter().filter_map(Node::text).collect(),
        }
    }

    /// The pairs of a mapping.
    #[must_use]
    pub fn pairs(&self) -> &[(String, Node)] {
        match self {
            Self::Map(pairs) => pairs,
            _ => &[],
        }
    }
}

/// Yes or no, as the formats say it (YAML 1.1, systemd.syntax(7), sysconfig).
#[must_use]
pub fn flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "y" | "yes" | "true" | "on" | "t" => Some(true),
        "0" | "n" | "no" | "false" | "off" | "f" => Some(false),
        _ => None,
    }
}

/// Words, separated by blanks, commas or semicolons.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\t', ',', ';', '\n']).filter(|w| !w.is_empty())
}

/// What may still be made.
struct Budget {
    nodes: usize,
    text: usize,
}

impl Budget {
    const fn new() -> Self {
        Self { nodes: MAX_NODES, text: MAX_TEXT }
    }

    fn take(&mut self, bytes: usize) -> Option<()> {
        self.nodes = self.nodes.checked_sub(1)?;
        self.text = self.text.checked_sub(bytes)?;
        Some(())
    }

    /// For a copy.
    fn take_all(&mut self, node: &Node) -> Option<()> {
        match node {
            Node::Null => self.take(0),
            Node::Text(text) => self.take(text.len()),
            Node::List(items) => {
                self.take(0)?;
                items.iter().try_for_each(|item| self.take_all(item))
            }
            Node::Map(pairs) => {
                self.take(0)?;
                pairs.iter().try_for_each(|(key, value)| {
                    self.take(key.len())?;
                    self.take_all(value)
                })
            }
        }
    }
}

/// Reads JSON. Its parser refuses more than 128 levels by itself.
///
/// # Errors
/// What is no JSON, or too much of it.
pub fn json(bytes: &[u8]) -> Result<Node> {
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|e| Error { line: e.line(), why: e.to_string() })?;
    let mut budget = Budget::new();
    from_json(value, 0, &mut budget).ok_or_else(|| too_much(0))
}

fn from_json(value: serde_json::Value, depth: usize, budget: &mut Budget) -> Option<Node> {
    use serde_json::Value;
    if depth > MAX_DEPTH {
        return None;
    }
    let text = |text: String, budget: &mut Budget| {
        budget.take(text.len())?;
        Some(Node::Text(text))
    };
    match value {
        Value::Null => budget.take(0).map(|()| Node::Null),
        Value::Bool(flag) => text(flag.to_string(), budget),
        Value::Number(number) => text(number.to_string(), budget),
        Value::String(it) => text(it, budget),
        Value::Array(items) => {
            budget.take(0)?;
            let items = items.into_iter().map(|item| from_json(item, depth + 1, budget));
            items.collect::<Option<_>>().map(Node::List)
        }
        Value::Object(pairs) => {
            budget.take(0)?;
            let pairs = pairs.into_iter().map(|(key, value)| {
                budget.take(key.len())?;
                Some((key, from_json(value, depth + 1, budget)?))
            });
            pairs.collect::<Option<_>>().map(Node::Map)
        }
    }
}

/// A collection that is being read.
struct Open {
    anchor: usize,
    /// Whether it is a mapping.
    map: bool,
    key: Option<String>,
    items: Vec<Node>,
    pairs: Vec<(String, Node)>,
}

/// Reads the first document of a YAML stream: anchors, aliases and merge keys (`<<`) included.
///
/// # Errors
/// What is no YAML, or too much of it.
pub fn yaml(bytes: &[u8]) -> Result<Node> {
    let text = std::str::from_utf8(bytes).map_err(|e| Error { line: 0, why: e.to_string() })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut budget = Budget::new();
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: Vec<(usize, Node)> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| Error { line: e.marker().line(), why: e.to_string() })?;
        let line = span.start.line();
        let too_much = || too_much(line);
        let (node, anchor) = match event {
            Event::Scalar(value, style, anchor, _) => {
                budget.take(value.len()).ok_or_else(too_much)?;
                let plain = matches!(style, saphyr_parser::ScalarStyle::Plain);
                match value.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if plain => (Node::Null, anchor),
                    other => (Node::Text(other.into()), anchor),
                }
            }
            Event::Alias(anchor) => {
                let known = anchors.iter().rev().find(|(id, _)| *id == anchor);
                let (_, node) =
                    known.ok_or_else(|| Error { line, why: "an alias within its own anchor".into() })?;
                budget.take_all(node).ok_or_else(too_much)?;
                (node.clone(), 0)
            }
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                budget.take(0).filter(|()| open.len() < MAX_DEPTH).ok_or_else(too_much)?;
                let map = matches!(event, Event::MappingStart(..));
                open.push(Open { anchor, map, key: None, items: Vec::new(), pairs: Vec::new() });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open { anchor, map: true, pairs, .. }) => (Node::Map(pairs), anchor),
                Some(Open { anchor, items, .. }) => (Node::List(items), anchor),
                None => return Err(Error { line, why: "not well-formed".into() }),
            },
            Event::DocumentEnd | Event::StreamEnd => break,
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => continue,
        };
        if anchor > 0 {
            budget.take_all(&node).ok_or_else(too_much)?;
            anchors.push((anchor, node.clone()));
        }
        let Some(parent) = open.last_mut() else { return Ok(node) };
        if !parent.map {
            parent.items.push(node);
            continue;
        }
        match parent.key.take() {
            None => {
                // A key that is a collection is nothing that any format has.
                parent.key = Some(node.text().unwrap_or_default().to_string());
            }
            Some(key) if key == "<<" => {
                let own = std::mem::take(&mut parent.pairs);
                for source in node.items() {
                    parent.pairs.extend(source.pairs().iter().cloned());
                }
                parent.pairs.extend(own);
            }
            Some(key) => parent.pairs.push((key, node)),
        }
    }
    Ok(Node::Null)
}

fn too_much(line: usize) -> Error {
    let place = if line == 0 { String::new() } else { format!("line {line}: ") };
    Error { line, why: format!("{place}too deep, or too much in all") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_and_merges() {
        let node = yaml(b"a: &a {mtu: 9000, dhcp4: yes}\nb: {<<: *a, mtu: 1500}\nc: *a\nd: ~\n").unwrap();
        assert_eq!(node.get("b").get("mtu").text(), Some("1500"));
        assert_eq!(node.get("b").get("dhcp4").flag(), Some(true));
        assert_eq!(node.get("c"), node.get("a"));
        assert!(node.get("d").is_null() && node.get("nothing").is_null());
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            let list = format!("*a{}", i - 1);
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![list; 9].join(",")));
        }
        assert!(yaml(bomb.as_bytes()).unwrap_err().to_string().contains("too much"));
        assert!(yaml("[".repeat(100_000).as_bytes()).is_err());
        assert!(yaml(b"a: &a [*a]").is_err());
        assert!(yaml(b"a: [1, 2\nb: }").is_err());
        assert!(json(format!("{}1{}", "[".repeat(60), "]".repeat(60)).as_bytes()).is_err());
        assert!(json(b"{\"a\":").is_err());
        assert_eq!(yaml(b"").unwrap(), Node::Null);
    }
}

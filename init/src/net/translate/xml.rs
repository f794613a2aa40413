//! XML as the bounded tree of the other languages: an element is a map of its children by their names, or
//! the text in it. Attributes and comments are passed over, and documents that define entities are refused.

use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::tree::{MAX_DEPTH, MAX_NODES, Node};

/// An element that is open: its name, its children and its text.
#[derive(Default)]
struct Open {
    name: String,
    children: Vec<(String, Node)>,
    text: String,
}

impl Open {
    fn close(self) -> (String, Node) {
        let text = self.text.trim();
        let node = match self.children.is_empty() && !text.is_empty() {
            true => Node::Text(text.into()),
            false => Node::Map(self.children),
        };
        (self.name, node)
    }
}

/// Reads a document, or several roots one after another.
pub(super) fn parse(bytes: &[u8]) -> Result<Node, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "no UTF-8")?;
    let mut reader = Reader::from_str(text);
    let mut stack = vec![Open::default()];
    let mut nodes = 0;
    loop {
        let event = reader.read_event().map_err(|e| format!("byte {}: {e}", reader.error_position()))?;
        let (start, is_closed) = match event {
            Event::Start(start) => (Some(start), false),
            Event::Empty(start) => (Some(start), true),
            Event::End(_) => (None, true),
            Event::Text(text) => {
                push(&mut stack, &text.xml10_content());
                continue;
            }
            Event::CData(text) => {
                push(&mut stack, &text.xml10_content());
                continue;
            }
            Event::GeneralRef(reference) => {
                push(&mut stack, &resolve(reference.as_ref()).ok_or("an entity that is not known")?);
                continue;
            }
            Event::DocType(_) => return Err("it defines its own language (DOCTYPE)".into()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => continue,
            Event::Eof => break,
        };
        if let Some(start) = start {
            nodes += 1;
            if nodes > MAX_NODES || stack.len() > MAX_DEPTH {
                return Err(format!("over {MAX_NODES} elements, or over {MAX_DEPTH} deep"));
            }
            let name = String::from_utf8_lossy(start.name().as_ref().as_ref()).into_owned();
            stack.push(Open { name, ..Open::default() });
        }
        if is_closed && let Some(open) = stack.pop() {
            let closed = open.close();
            stack.last_mut().ok_or("an element ends that was not begun")?.children.push(closed);
        }
    }
    match (stack.pop(), stack.is_empty()) {
        (Some(root), true) => Ok(Node::Map(root.children)),
        (Some(open), false) => Err(format!("it ends within <{}>", open.name)),
        (None, _) => Ok(Node::Null),
    }
}

fn push(stack: &mut [Open], text: &str) {
    if let Some(open) = stack.last_mut() {
        open.text.push_str(text);
    }
}

/// What stands between `&` and `;`: XML's own entities and characters by number.
fn resolve(reference: &str) -> Option<String> {
    let named = match reference {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        number => {
            let number = number.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some(named.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_a_tree() {
        let text = "<?xml version=\"1.0\"?><!-- c --><a k=\"v\"> <b>1 &amp; &#x32;<![CDATA[ <3]]></b><b/><ns:c>\n x \n</ns:c></a><d/>";
        let root = parse(text.as_bytes()).unwrap();
        let a = root.get("a");
        let b: Vec<&Node> = a.all("b").collect();
        assert_eq!(b, [&Node::Text("1 & 2 <3".into()), &Node::Map(Vec::new())]);
        assert_eq!((a.get("ns:c").text(), root.get("d").is_null()), (Some("x"), false));
        assert_eq!(parse(b""), Ok(Node::Map(Vec::new())));
    }

    #[test]
    fn bombs_and_damage_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY x \"xxxx\"><!ENTITY y \"&x;&x;\">]><a>&y;</a>";
        for (text, why) in [
            (bomb, "DOCTYPE"),
            ("<a>&y;</a>", "entity"),
            ("<a>&#xffffffffff;</a>", "entity"),
            ("<a><b></a>", "byte"),
            ("<a>", "it ends within <a>"),
            ("</a>", "byte"),
            ("<a", "byte"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(parse(&"<a>".repeat(100_000).into_bytes()).unwrap_err().contains("deep"));
        assert!(parse(&"<a/>".repeat(100_000).into_bytes()).unwrap_err().contains("elements"));
        assert!(parse(&[0xff, b'<']).is_err());
    }
}

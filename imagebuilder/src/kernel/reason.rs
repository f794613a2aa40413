//! Why a symbol that was asked for is not in a configuration: what it depends on, read out of the Kconfig
//! files (Documentation/kbuild/kconfig-language.rst).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where symbols are defined, and on what they depend there.
pub(super) struct Definitions {
    by_symbol: BTreeMap<String, Vec<Definition>>,
}

#[derive(Debug, Clone, Default)]
struct Definition {
    at: String,
    depends: Vec<String>,
    prompt: bool,
}

impl Definitions {
    /// Reads every Kconfig file of x86's below `source`.
    pub(super) fn read(source: &Path) -> Self {
        let mut all = Self { by_symbol: BTreeMap::new() };
        let mut queue = vec![source.to_path_buf()];
        while let Some(folder) = queue.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
                let foreign = folder.ends_with("arch") && name != "x86" && !name.starts_with("Kconfig");
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !foreign {
                    queue.push(path);
                } else if name.starts_with("Kconfig")
                    && let Ok(text) = std::fs::read_to_string(&path)
                {
                    let file = path.strip_prefix(source).unwrap_or(&path).display().to_string();
                    all.file(&file, &text);
                }
            }
        }
        all
    }

    fn file(&mut self, file: &str, text: &str) {
        // What an enclosing `if` or `menu` asks for.
        let mut around: Vec<Vec<String>> = Vec::new();
        let mut own: Option<(String, Definition)> = None;
        let mut in_menu = false;
        for (number, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            let (word, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
            let rest = rest.trim();
            match word {
                "config" | "menuconfig" => {
                    self.keep(own.take());
                    let depends = around.iter().flatten().cloned().collect();
                    let at = format!("{file}:{}", number + 1);
                    own = Some((rest.to_string(), Definition { at, depends, prompt: false }));
                    in_menu = false;
                }
                "depends" => {
                    let text = rest.strip_prefix("on").unwrap_or(rest).trim().to_string();
                    match (&mut own, in_menu) {
                        (Some((_, definition)), _) => definition.depends.push(text),
                        (None, true) => around.last_mut().into_iter().for_each(|top| top.push(text.clone())),
                        (None, false) => {}
                    }
                }
                "bool" | "tristate" | "string" | "hex" | "int" | "prompt" => {
                    if let Some((_, definition)) = &mut own {
                        definition.prompt |= rest.starts_with(['"', '\'']);
                    }
                }
                "if" | "menu" | "choice" => {
                    self.keep(own.take());
                    around.push(if word == "if" { vec![rest.to_string()] } else { Vec::new() });
                    in_menu = word != "if";
                }
                "endif" | "endmenu" | "endchoice" => {
                    self.keep(own.take());
                    around.pop();
                    in_menu = false;
                }
                "source" | "comment" => {
                    self.keep(own.take());
                    in_menu = false;
                }
                _ => {}
            }
        }
        self.keep(own);
    }

    fn keep(&mut self, own: Option<(String, Definition)>) {
        if let Some((symbol, definition)) = own {
            self.by_symbol.entry(symbol).or_default().push(definition);
        }
    }

    /// Why `symbol` (with its `CONFIG_`) is not as it was asked for in this configuration.
    pub(super) fn why(&self, symbol: &str, config: &BTreeMap<&str, &str>) -> String {
        let name = symbol.trim_start_matches("CONFIG_");
        let Some(found) = self.by_symbol.get(name) else {
            return "this kernel has no such symbol".into();
        };
        let mut unmet = BTreeSet::new();
        for definition in found {
            for word in definition.depends.iter().flat_map(|text| text.split(|c: char| !is_word(c))) {
                let is_symbol = word.bytes().any(|b| b.is_ascii_uppercase());
                let full = format!("CONFIG_{word}");
                if is_symbol && !config.contains_key(full.as_str()) {
                    unmet.insert(format!("{word}=n"));
                }
            }
        }
        let places: Vec<&str> = found.iter().map(|definition| definition.at.as_str()).collect();
        let at = places.join(", ");
        match (unmet.is_empty(), found.iter().any(|definition| definition.prompt)) {
            (false, _) => {
                format!("it depends on {} ({at})", unmet.into_iter().collect::<Vec<_>>().join(", "))
            }
            (true, false) => format!("nobody sets it by hand: other symbols select it ({at})"),
            (true, true) => format!("see {at}"),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_depends_on_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("arch/arm")).unwrap();
        std::fs::write(folder.path().join("arch/arm/Kconfig"), "config A\n\tbool \"arm\"\n").unwrap();
        let text = "menu \"x\"\n\tdepends on NET\nif PCI\nconfig A\n\tbool \"a\"\n\tdepends on B && !C\n\thelp\n\t  x\n\
                    endif\nendmenu\nconfig D\n\ttristate\nconfig E\n\tbool \"e\"\n";
        std::fs::write(folder.path().join("Kconfig"), text).unwrap();
        let all = Definitions::read(folder.path());
        let config = BTreeMap::from([("CONFIG_NET", "y"), ("CONFIG_C", "y")]);
        assert_eq!(all.why("CONFIG_A", &config), "it depends on B=n, PCI=n (Kconfig:4)");
        assert_eq!(
            all.why("CONFIG_D", &config),
            "nobody sets it by hand: other symbols select it (Kconfig:11)"
        );
        assert_eq!(all.why("CONFIG_E", &config), "see Kconfig:13");
        assert_eq!(all.why("CONFIG_F", &config), "this kernel has no such symbol");
    }
}

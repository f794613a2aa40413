//! `rescue completions`: what a shell completes, out of the table of verbs, so that it is never stale.

use std::process::ExitCode;

use super::wrapped::put;
use super::{COMMANDS, Command, Usage};

pub(super) const COMMAND: Command = Command {
    name: "completions",
    links: &[],
    usage: "bash|zsh|fish",
    about: "a completion script for your shell",
    run,
};

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let script = match args {
        [shell] => script(shell),
        _ => None,
    };
    let script = script.ok_or_else(|| Usage("which shell: bash, zsh or fish?".into()))?;
    put!("{script}");
    Ok(ExitCode::SUCCESS)
}

fn script(shell: &str) -> Option<String> {
    let verbs: Vec<&Command> = COMMANDS.iter().filter(|c| !c.about.is_empty()).collect();
    let names = verbs.iter().map(|c| c.name).collect::<Vec<_>>().join(" ");
    let script = match shell {
        "bash" => {
            let cases: String = verbs
                .iter()
                .map(|c| format!("    {}) words=\"{}\" ;;\n", c.name, words(c.usage).join(" ")))
                .collect();
            format!(
                "_rescue() {{\n  local words=\"help {names}\"\n  if [ \"$COMP_CWORD\" -gt 1 ]; then\n    words=\n    case ${{COMP_WORDS[1]}} in\n{cases}    esac\n  fi\n  \
                 COMPREPLY=($(compgen -W \"$words\" -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n}}\ncomplete -o default -F _rescue rescue\n"
            )
        }
        "zsh" => {
            let rows: String = verbs
                .iter()
                .map(|c| format!("  '{}:{}'\n", c.name, c.about.replace(['\'', ':'], "")))
                .collect();
            let cases: String = verbs
                .iter()
                .map(|c| format!("    {}) compadd -- {} ;;\n", c.name, words(c.usage).join(" ")))
                .collect();
            format!(
                "#compdef rescue\nlocal -a verbs=(\n{rows})\nif (( CURRENT == 2 )); then\n  _describe verb verbs\nelse\n  case $words[2] in\n{cases}  esac\n  _files\nfi\n"
            )
        }
        "fish" => verbs.iter().fold(String::new(), |mut text, c| {
            text += &format!(
                "complete -c rescue -n __fish_use_subcommand -a {} -d '{}'\n",
                c.name,
                c.about.replace('\'', "")
            );
            for word in words(c.usage) {
                let option = match (word.strip_prefix("--"), word.strip_prefix('-')) {
                    (Some(long), _) => format!("-l {long}"),
                    (None, Some(short)) => format!("-o {short}"),
                    (None, None) => format!("-a {word}"),
                };
                text += &format!("complete -c rescue -n '__fish_seen_subcommand_from {}' {option}\n", c.name);
            }
            text
        }),
        _ => return None,
    };
    Some(script)
}

/// What a usage line has typed as it stands: options, and words to choose from. Capitals are a name
/// for something.
fn words(usage: &str) -> Vec<&str> {
    usage
        .split(|c: char| c.is_whitespace() || "[]()|=…".contains(c))
        .filter(|word| word.starts_with(|c: char| c == '-' || c.is_ascii_lowercase()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_in_usage_lines() {
        assert_eq!(
            words("[SYSTEM|DEV] [--rw] [-n LINES] --only DEV… bash|zsh"),
            ["--rw", "-n", "--only", "bash", "zsh"]
        );
    }

    #[test]
    fn bash_completes_verbs_and_options() {
        let script = script("bash").unwrap();
        let ask = |line: &str, word: &str| {
            let program = format!(
                "{script}\nCOMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _rescue; echo \"${{COMPREPLY[@]}}\""
            );
            let output =
                std::process::Command::new("bash").args(["-c", &program]).output().expect("bash is needed");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().split_whitespace().any(|w| w == word)
        };
        assert!(ask("rescue mo", "mount"));
        assert!(ask("rescue mount --r", "--rw"));
        assert!(!ask("rescue mo", "netd"));
        assert!(ask("rescue completions b", "bash"));
    }

    #[test]
    fn no_service_is_offered() {
        for shell in ["bash", "zsh", "fish"] {
            assert!(!script(shell).unwrap().contains("sshd-connection"), "{shell}");
        }
        assert_eq!(script("tcsh"), None);
    }
}

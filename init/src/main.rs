//! The role of this process: by pid, by `argv[0]`, by first argument.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let name = match args.first() {
        Some(path) => path.rsplit('/').next().unwrap_or_default().trim_start_matches('-').to_string(),
        None => String::new(),
    };
    // `rescue enter` starts itself again as the first process of a namespace. The kernel starts us by the path
    // of the file, and never by this name.
    let entered = matches!(args.as_slice(), [own, verb, inside, ..]
        if own == "rescue" && verb == "enter" && inside == "--inside");
    if std::process::id() == 1 && !entered {
        return init::pid1::run();
    }
    // A program which is packed; `scp` may be that or a verb.
    if !matches!(name.as_str(), "rescue" | "init" | "exe")
        && let Some(status) = init::commands::become_it()
    {
        return status;
    }
    // Services are started by way of /proc/self/exe, and `ps` and `top` would show them as `exe`.
    let _ = rustix::thread::set_name(c"rescue");
    // `reboot`, `poweroff` and their kin are links to this binary; anything else is `rescue VERB`.
    let verb = if init::commands::is_link(&name) {
        name
    } else if args.len() > 1 {
        args.remove(1)
    } else {
        "help".into()
    };
    init::commands::run(&verb, args.get(1..).unwrap_or_default())
}
